# DCANet, table 2: RetinaNet, SE-ResNet-50, COCO 2x. Published box AP 37.4.
# Deviations from the authors' run (mmdet 0.6): today's anchors and box coder.
_base_ = '../_base_/retinanet_dcanet.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/dcanet/se_resnet50_8xb32_in1k.py, or converted from the
# authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/dcanet_se_resnet50_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='SE', ratio=16),
        init_cfg=dict(checkpoint=pretrained_backbone, prefix='backbone.')))
