# Coordinate Attention, table 2: SSDLite320, MobileNetV2 + CBAM, COCO.
# Published AP 23.0, 4.7 M parameters (4,703,072). The levels behind the trunk
# have it, too: 4,689,074 with CBAM in the trunk alone; nothing was released.
_base_ = '../_base_/ssdlite320_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/cbam_mobilenet_v2_8xb32_in1k.py.
pretrained_backbone = 'checkpoints/coordattention_cbam_mobilenet_v2_in1k.pth'

model = dict(
    backbone=dict(
        attention=[None] + [dict(type='CBAM', ratio=24)] * 6,
        init_cfg=dict(checkpoint=pretrained_backbone)),
    neck=dict(attention=dict(type='CBAM', ratio=24)))
