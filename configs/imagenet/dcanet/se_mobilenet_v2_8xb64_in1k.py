# DCANet, table 1: SE-MobileNetV2. Published 3.56 M parameters, 0.32 G, top-1 /
# top-5 72.05 / 90.58.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        attention=dict(type='SE', ratio=8),
        attention_at='output'))
