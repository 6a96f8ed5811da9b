# Coordinate Attention, table 2: SSDLite320, MnasNet-A1, COCO. Published AP
# 23.0, 4.9 M parameters. The row is quoted from earlier papers, whose networks
# come nearest to it: the layers of TensorFlow's SSDLite, in mmdet as SSDNeck
# and SSDHead. From the expansion before the last stride and the last 1x1
# convolution: 4,917,386. The neck and head of the MobileNetV2 rows would give
# 4,993,888.
_base_ = '../_base_/ssdlite320_tensorflow_coco.py'

# The ImageNet checkpoint of the backbone: timm's semnasnet_100, converted for
# this config by tools/convert_checkpoint.py. No row of a table trains it.
pretrained_backbone = 'checkpoints/mnasnet_a1_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.MNASNet',
        arch='A1',
        norm_cfg=dict(type='BN'),
        out_taps=('layer6.0.expanded', ),
        out_indices=(7, ),
        init_cfg=dict(checkpoint=pretrained_backbone)),
    neck=dict(
        in_channels=(672, 1280),
        out_channels=(672, 1280, 512, 256, 256, 128)),
    bbox_head=dict(
        in_channels=(672, 1280, 512, 256, 256, 128)))
