# AFF, table 1: iAFF-ResNet-50. Published 35.1 M parameters (truncated:
# 35,170,120), top-1 error 20.2.
_base_ = '../../_base_/imagenet_aff.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNetV1d',
        fusion=[
            None, None,
            dict(type='IAFF', ratio=16),
            dict(type='IAFF', ratio=16)
        ]))
