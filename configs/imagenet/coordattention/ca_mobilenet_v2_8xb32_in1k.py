# Coordinate Attention, table 1: MobileNetV2 + CA. Published 3.95 M parameters,
# 310 M, top-1 74.3.
_base_ = '../../_base_/imagenet_coordattention.py'

model = dict(
    backbone=dict(
        attention=[None] + [dict(type='CoordAttention', ratio=32)] * 6))
