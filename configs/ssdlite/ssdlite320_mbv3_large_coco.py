# Coordinate Attention, table 2: SSDLite320, "MobileNetV2" of 5.0 M parameters,
# COCO. Published AP 22.0. AP and size are those of MobileNetV3-Large in its
# own paper (22.0, 4.97 M), so the label is taken for a slip. From the
# expansion before the last stride and the last 1x1 convolution, with the
# levels and the head of the other rows, it has 5,011,962 parameters (5,031,140
# with those of TensorFlow's SSDLite). The recipe is that of the other rows.
_base_ = '../_base_/ssdlite320_coco.py'

# The ImageNet checkpoint of the backbone: timm's mobilenetv3_large_100,
# converted for this config by tools/convert_checkpoint.py. No row of a table
# trains it.
pretrained_backbone = 'checkpoints/mobilenet_v3_large_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.MobileNetV3',
        out_taps=('layer6.0.expanded', ),
        out_indices=(6, ),
        init_cfg=dict(checkpoint=pretrained_backbone)),
    neck=dict(
        in_channels=(672, 960),
        # As in the other rows, a fifth of the input first.
        hidden_channels=(960 // 5, 256, 128, 128)),
    bbox_head=dict(in_channels=(672, 960, 512, 256, 256, 64)))
