# Coordinate Attention, table 3: SSDLite320, MobileNetV2 + CA, VOC 2007 test.
# Published mAP 73.1, 4.8 M parameters, the number of 81 classes; with the 21
# of VOC it is 3,891,828. The levels behind the trunk have it, too: 3,871,764
# with CA in the trunk alone.
_base_ = '../_base_/ssdlite320_voc0712.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/ca_mobilenet_v2_8xb32_in1k.py, or converted
# from the authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/ca_mobilenet_v2_in1k.pth'

model = dict(
    backbone=dict(
        attention=[None] + [dict(type='CoordAttention', ratio=32)] * 6,
        init_cfg=dict(checkpoint=pretrained_backbone)),
    neck=dict(attention=dict(type='CoordAttention', ratio=32)))
