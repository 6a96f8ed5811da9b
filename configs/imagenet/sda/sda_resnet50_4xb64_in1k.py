# The network of mask_rcnn_sda_r50_1x_coco.py, trained on ImageNet by the
# recipe of SDA-xNet. No row of the paper's tables; nothing published.
_base_ = '../../_base_/imagenet_sda_depth.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth_fusion=dict(type='SelectiveFusion', ratio=16, min_channels=64)))
