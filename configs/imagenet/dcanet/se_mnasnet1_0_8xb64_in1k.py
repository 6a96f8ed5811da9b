# DCANet, table 1: SE-Mnas1_0. Published 4.42 M parameters, 0.33 G, top-1 /
# top-5 69.69 / 89.12.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        type='mmattn.MNASNet',
        attention=[None] + [dict(type='SE', ratio=16)] * 6,
        attention_at='output'))
