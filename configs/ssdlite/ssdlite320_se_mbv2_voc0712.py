# Coordinate Attention, table 3: SSDLite320, MobileNetV2 + SE, VOC 2007 test.
# Published mAP 71.7, 4.7 M parameters, the number of 81 classes; with the 21
# of VOC it is 3,822,922. The levels behind the trunk have it, too: 3,809,324
# with SE in the trunk alone. Deviation: ReLU inside SE; the released file has
# ReLU6.
_base_ = '../_base_/ssdlite320_voc0712.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/se_mobilenet_v2_8xb32_in1k.py.
pretrained_backbone = 'checkpoints/coordattention_se_mobilenet_v2_in1k.pth'

model = dict(
    backbone=dict(
        attention=[None] + [dict(type='SE', ratio=24)] * 6,
        init_cfg=dict(checkpoint=pretrained_backbone)),
    neck=dict(attention=dict(type='SE', ratio=24)))
