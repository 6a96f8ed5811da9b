# SDA-xNet, table 1: SDA-ResNet-86. Published 27.22 M parameters, 3.88 G, top-1
# / top-5 78.76 / 94.37.
_base_ = '../../_base_/imagenet_sda_depth.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=86,
        groups=8,
        base_width=8,
        depth_fusion=dict(type='SelectiveFusion', ratio=16, min_channels=64)))
