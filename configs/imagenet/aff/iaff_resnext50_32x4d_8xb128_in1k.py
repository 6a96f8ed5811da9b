# AFF, table 1: iAFF-ResNeXt-50-32x4d. Published 34.7 M parameters (truncated:
# 34,750,632), top-1 error 19.78.
_base_ = '../../_base_/imagenet_aff.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNeXt',
        deep_stem=True,
        stem_channels=128,
        avg_down=True,
        fusion=[
            None, None,
            dict(type='IAFF', ratio=16),
            dict(type='IAFF', ratio=16)
        ]))
