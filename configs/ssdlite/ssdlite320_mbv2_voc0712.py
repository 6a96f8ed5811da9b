# Coordinate Attention, table 3: SSDLite320, MobileNetV2, VOC 2007 test.
# Published mAP 71.7, 4.3 M parameters, the number of 81 classes; with the 21
# of VOC it is 3,425,988.
_base_ = '../_base_/ssdlite320_voc0712.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/mobilenet_v2_8xb32_in1k.py, or converted from
# torchvision's file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/coordattention_mobilenet_v2_in1k.pth'

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=pretrained_backbone)))
