# Coordinate Attention, table 1: MobileNetV2 + SE. Published 3.89 M parameters,
# 300 M, top-1 73.5. Deviation: ReLU inside SE; the authors' file has ReLU6.
_base_ = '../../_base_/imagenet_coordattention.py'

model = dict(
    backbone=dict(
        attention=[None] + [dict(type='SE', ratio=24)] * 6))
