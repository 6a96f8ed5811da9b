# Coordinate Attention, table 2: SSDLite320, MobileNetV1, COCO. Published AP
# 22.2, 5.1 M parameters. The row is quoted from earlier papers, whose networks
# come nearest to it: the layers of TensorFlow's SSDLite, in mmdet as SSDNeck
# and SSDHead. Here 5,144,266: four priors a cell on the first level, where
# TensorFlow has three (5,100,661); mmdet's come in pairs. The neck and head of
# the MobileNetV2 rows would give 5,228,147.
_base_ = '../_base_/ssdlite320_tensorflow_coco.py'

# The ImageNet checkpoint of the backbone: timm's mobilenetv1_100, converted
# for this config by tools/convert_checkpoint.py. No row of a table trains it.
pretrained_backbone = 'checkpoints/mobilenet_v1_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.MobileNetV1',
        out_indices=(3, 4),
        init_cfg=dict(checkpoint=pretrained_backbone)),
    neck=dict(
        in_channels=(512, 1024),
        out_channels=(512, 1024, 512, 256, 256, 128)),
    bbox_head=dict(
        in_channels=(512, 1024, 512, 256, 256, 128),
        anchor_generator=dict(ratios=[(2, ), *[(2, 3)] * 5])))
