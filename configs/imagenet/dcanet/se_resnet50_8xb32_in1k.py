# DCANet, table 1: SE-ResNet-50. Published 28.09 M parameters, 4.13 G, top-1 /
# top-5 77.29 / 93.65.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='SE', ratio=16)))
