# Coordinate Attention, table 2: SSDLite320, MobileNetV2 + CA, COCO. Published
# AP 24.5, 4.8 M parameters (4,769,978). The levels behind the trunk have it,
# too: 4,749,914 with CA in the trunk alone; nothing was released.
_base_ = '../_base_/ssdlite320_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/ca_mobilenet_v2_8xb32_in1k.py, or converted
# from the authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/ca_mobilenet_v2_in1k.pth'

model = dict(
    backbone=dict(
        attention=[None] + [dict(type='CoordAttention', ratio=32)] * 6,
        init_cfg=dict(checkpoint=pretrained_backbone)),
    neck=dict(attention=dict(type='CoordAttention', ratio=32)))
