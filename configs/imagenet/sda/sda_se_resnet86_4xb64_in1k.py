# SDA-xNet, table 2: SDA-SENet-86. Published 49.13 M parameters, 6.72 G, top-1
# / top-5 78.95 / 94.50.
_base_ = '../../_base_/imagenet_sda_depth.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=86,
        attention=dict(type='SE', ratio=16),
        depth_fusion=dict(type='SelectiveFusion', ratio=16, min_channels=64)))
