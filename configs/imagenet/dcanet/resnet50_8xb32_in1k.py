# DCANet, table 1: ResNet-50. Published 25.56 M parameters, 4.12 G, top-1 /
# top-5 75.90 / 92.72.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(backbone=dict(type='mmattn.ResNet'))
