# Coordinate Attention, table 5: DeepLabV3, MobileNetV2 + SE, output stride 8,
# Cityscapes val. Published mIoU 72.2, 4.9 M parameters (4,906,363). Deviation:
# ReLU inside SE; the authors' file of it has ReLU6.
_base_ = '../_base_/deeplabv3_mbv2_cityscapes.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/se_mobilenet_v2_8xb32_in1k.py.
pretrained_backbone = 'checkpoints/coordattention_se_mobilenet_v2_in1k.pth'

model = dict(
    backbone=dict(
        attention=[None] + [dict(type='SE', ratio=24)] * 6,
        output_stride=8,
        init_cfg=dict(checkpoint=pretrained_backbone)),
    decode_head=dict(dilations=(1, 12, 24, 36)))
