# Coordinate Attention, table 4: DeepLabV3, MobileNetV2 + CA, output stride 8,
# VOC 2012 val. Published mIoU 73.96, 5.0 M parameters (4,969,317).
_base_ = '../_base_/deeplabv3_mbv2_voc12aug.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/ca_mobilenet_v2_8xb32_in1k.py, or converted
# from the authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/ca_mobilenet_v2_in1k.pth'

model = dict(
    backbone=dict(
        attention=[None] + [dict(type='CoordAttention', ratio=32)] * 6,
        output_stride=8,
        init_cfg=dict(checkpoint=pretrained_backbone)),
    decode_head=dict(dilations=(1, 12, 24, 36)))
