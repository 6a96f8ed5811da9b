# DCANet, table 1: SK-ResNet-50. Published 37.12 M parameters, 5.98 G, top-1 /
# top-5 77.79 / 93.76. The second branch is a dense 3x3 convolution of dilation
# 2.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(backbone=dict(type='mmattn.SKNet'))
