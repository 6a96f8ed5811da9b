# SDA-xNet, table 1: SDA-Res2Net-86. Published 45.26 M parameters (the network
# has 45,254,544), 6.95 G, top-1 / top-5 79.36 / 94.70.
_base_ = '../../_base_/imagenet_sda_depth.py'

model = dict(
    backbone=dict(
        type='mmattn.Res2Net',
        depth=86,
        depth_fusion=dict(type='SelectiveFusion', ratio=16, min_channels=64)))
