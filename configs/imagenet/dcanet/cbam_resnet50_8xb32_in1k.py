# DCANet, table 1: CBAM-ResNet-50. Published 28.09 M parameters, 4.14 G, top-1
# / top-5 77.28 / 93.60.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='CBAM', ratio=16)))
