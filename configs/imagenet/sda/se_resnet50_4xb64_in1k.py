# SDA-xNet, table 2: SENet, quoted there. Published 28.09 M parameters, 4.09 G,
# top-1 / top-5 76.71 / 93.38. It has SDA-xNet's recipe.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='SE', ratio=16)))
