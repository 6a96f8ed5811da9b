# DCANet, table 1: DCA-SK-MobileNetV2. Published 5.91 M parameters, 0.36 G,
# top-1 / top-5 74.45 / 91.85. Here 5,911,652: without the 134 of the first
# block, which has nothing to link to; they never train. The authors' code
# counts 0.355 G. Its branches hand on their weights, not the weighted means.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        branches=[dict(dilation=2)],
        attention=dict(
            type='SelectiveFusion', ratio=8, min_channels=1, bias=False),
        link=dict(type='DCA', match_ratio=8, hand_on='weight')))
