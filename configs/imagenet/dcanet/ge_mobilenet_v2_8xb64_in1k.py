# DCANet, table 1: GEtheta-MobileNetV2. Published 3.50 M parameters, 0.32 G,
# top-1 / top-5 72.28 / 90.91. It is the form of GE without parameters.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        attention=dict(type='GE'),
        attention_at='output'))
