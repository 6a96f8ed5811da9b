# DCANet, table 1: CBAM-MobileNetV2. Published 3.57 M parameters, 0.32 G, top-1
# / top-5 71.91 / 90.51.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        attention=dict(type='CBAM', ratio=8),
        attention_at='output'))
