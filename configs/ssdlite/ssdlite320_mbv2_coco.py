# Coordinate Attention, table 2: SSDLite320, MobileNetV2, COCO. Published AP
# 22.3, 4.3 M parameters (4,304,138).
_base_ = '../_base_/ssdlite320_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/mobilenet_v2_8xb32_in1k.py, or converted from
# torchvision's file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/coordattention_mobilenet_v2_in1k.pth'

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=pretrained_backbone)))
