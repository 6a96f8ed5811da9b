# DCANet, table 1: Mnas1_0. Published 4.38 M parameters, 0.33 G, top-1 / top-5
# 71.72 / 90.32.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(backbone=dict(type='mmattn.MNASNet'))
