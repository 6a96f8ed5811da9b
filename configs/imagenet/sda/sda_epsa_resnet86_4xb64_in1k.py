# SDA-xNet, table 1: SDA-EPSANet-86. Published 39.45 M parameters, 5.85 G,
# top-1 / top-5 78.80 / 94.34. That count holds the squeeze and excitation that
# a block's four maps share four times; the network has 39,392,001. No code of
# it is published.
_base_ = '../../_base_/imagenet_sda_depth.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=86,
        conv2=dict(type='PSAConv'),
        depth_fusion=dict(type='SelectiveFusion', ratio=16, min_channels=64)))
