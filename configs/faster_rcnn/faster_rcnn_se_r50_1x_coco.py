# SDA-xNet, table 3: Faster R-CNN, SENet, COCO 1x. Published box AP 37.7, 44.02
# M parameters that train (stem and stage 1 are frozen), 207.18 G. Quoted
# there; the run behind it is not described, this is mmdet's stock 1x. The
# published count is of an SE without biases; here 44,033,312, with the biases
# of the ImageNet row that it starts from.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/sda/se_resnet50_4xb64_in1k.py, or converted from the
# authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/se_resnet50_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='SE', ratio=16),
        init_cfg=dict(checkpoint=pretrained_backbone, prefix='backbone.')))
