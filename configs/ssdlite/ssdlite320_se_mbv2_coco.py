# Coordinate Attention, table 2: SSDLite320, MobileNetV2 + SE, COCO. Published
# AP 23.7, 4.7 M parameters (4,701,072). The levels behind the trunk have it,
# too: 4,687,474 with SE in the trunk alone; the released file's narrower
# levels give 4,574,728. Deviation: ReLU inside SE; that file has ReLU6.
_base_ = '../_base_/ssdlite320_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/se_mobilenet_v2_8xb32_in1k.py.
pretrained_backbone = 'checkpoints/coordattention_se_mobilenet_v2_in1k.pth'

model = dict(
    backbone=dict(
        attention=[None] + [dict(type='SE', ratio=24)] * 6,
        init_cfg=dict(checkpoint=pretrained_backbone)),
    neck=dict(attention=dict(type='SE', ratio=24)))
