# Coordinate Attention, table 5: DeepLabV3, MobileNetV2, output stride 8,
# Cityscapes val. Published mIoU 71.4, 4.5 M parameters (4,523,027).
_base_ = '../_base_/deeplabv3_mbv2_cityscapes.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/mobilenet_v2_8xb32_in1k.py, or converted from
# torchvision's file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/coordattention_mobilenet_v2_in1k.pth'

model = dict(
    backbone=dict(
        output_stride=8,
        init_cfg=dict(checkpoint=pretrained_backbone)),
    decode_head=dict(dilations=(1, 12, 24, 36)))
