# DCANet, table 2: Cascade R-CNN, DCA-GC-ResNet-50, COCO 2x. Published box AP
# 41.4. Deviations from the authors' run (mmdet 0.6): today's anchors, box
# coder and RoIAlign alignment; an object's best box is matched only above the
# threshold of its stage.
_base_ = '../_base_/cascade_rcnn_dcanet.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/dcanet/dca_gc_resnet50_8xb32_in1k.py, or converted from the
# authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/dca_gc_resnet50_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='GC', ratio=16),
        link=dict(type='DCA'),
        init_cfg=dict(checkpoint=pretrained_backbone, prefix='backbone.')))
