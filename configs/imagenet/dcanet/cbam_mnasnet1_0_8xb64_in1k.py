# DCANet, table 1: CBAM-Mnas1_0. Published 4.42 M parameters, 0.33 G, top-1 /
# top-5 69.13 / 88.92. The authors' file has ratio 8, which gives 4,460,342
# parameters; 4.42 M needs 16.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        type='mmattn.MNASNet',
        attention=[None] + [dict(type='CBAM', ratio=16)] * 6,
        attention_at='output'))
