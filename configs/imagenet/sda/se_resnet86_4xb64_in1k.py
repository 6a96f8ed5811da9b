# SDA-xNet, table 2: SENet-86. Published 46.35 M parameters, 6.71 G, top-1 /
# top-5 78.29 / 93.92.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=86,
        attention=dict(type='SE', ratio=16)))
