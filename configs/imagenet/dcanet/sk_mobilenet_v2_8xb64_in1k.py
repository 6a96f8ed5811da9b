# DCANet, table 1: SK-MobileNetV2. Published 5.28 M parameters, 0.35 G, top-1 /
# top-5 74.05 / 91.85. The second branch is a 3x3 convolution of dilation 2.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        branches=[dict(dilation=2)],
        attention=dict(
            type='SelectiveFusion', ratio=8, min_channels=1, bias=False)))
