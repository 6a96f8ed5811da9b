# SDA-xNet, table 1: ResNet-50, quoted there. Published 25.56 M parameters,
# 4.12 G, top-1 / top-5 75.20 / 92.52. It has SDA-xNet's recipe.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(backbone=dict(type='mmattn.ResNet'))
