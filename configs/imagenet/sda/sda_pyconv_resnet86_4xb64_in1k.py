# SDA-xNet, table 1: SDA-PyConv-86. Published 43.33 M parameters, 6.22 G, top-1
# / top-5 79.27 / 94.65.
_base_ = '../../_base_/imagenet_sda_depth.py'

model = dict(
    backbone=dict(
        type='mmattn.PyConvResNet',
        depth=86,
        depth_fusion=dict(type='SelectiveFusion', ratio=16, min_channels=64)))
