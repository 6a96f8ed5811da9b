# SDA-xNet, table 2: SENet-101, quoted there. Published 49.33 M parameters,
# 7.81 G, top-1 / top-5 77.62 / 93.93. It has SDA-xNet's recipe.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=101,
        attention=dict(type='SE', ratio=16)))
