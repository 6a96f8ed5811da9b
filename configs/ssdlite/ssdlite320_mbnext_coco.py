# Coordinate Attention, table 2: SSDLite320, MobileNeXt, COCO. Published AP
# 23.3, 4.4 M parameters. Here 4,539,418, those of the released code; its
# README once said 4.5 M. The first level from the 384 channels one stage
# earlier would give 4,436,890.
_base_ = '../_base_/ssdlite320_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/coordattention/mobilenext_8xb32_in1k.py, or converted from
# the authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/mobilenext_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.MobileNeXt',
        out_taps=('layer6.0.expanded', 'layer8.0.expanded'),
        out_indices=(7, ),
        init_cfg=dict(checkpoint=pretrained_backbone)),
    neck=dict(type='mmattn.detection.MobileNeXtNeck'),
    bbox_head=dict(in_channels=(576, 1280, 512, 256, 256, 128)))
