# DCANet, table 1: GEtheta-Mnas1_0. Published 4.38 M parameters, 0.33 G, top-1
# / top-5 72.72 / 90.87. It is the form of GE without parameters.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        type='mmattn.MNASNet',
        attention=[None] + [dict(type='GE')] * 6,
        attention_at='output'))
