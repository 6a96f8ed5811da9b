# AFF, table 1: AFF-ResNet-50. Published 30.3 M parameters (truncated:
# 30,373,192), top-1 error 20.3.
_base_ = '../../_base_/imagenet_aff.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNetV1d',
        fusion=[
            None, None,
            dict(type='AFF', ratio=16),
            dict(type='AFF', ratio=16)
        ]))
