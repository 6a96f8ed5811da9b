# DCANet, table 1: GC-ResNet-50. Published 28.11 M parameters, 4.13 G, top-1 /
# top-5 74.90 / 92.28. The attention's last layer does not start at zero: the
# authors' network initialises it again.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='GC', ratio=16, zero_start=False)))
