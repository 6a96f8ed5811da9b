# AFF, table 1: AFF-ResNeXt-50-32x4d (a commented row). Published 29.9 M
# parameters (truncated: 29,953,704), top-1 error 20.8. The released log
# reaches 20.28.
_base_ = '../../_base_/imagenet_aff.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNeXt',
        deep_stem=True,
        stem_channels=128,
        avg_down=True,
        fusion=[
            None, None,
            dict(type='AFF', ratio=16),
            dict(type='AFF', ratio=16)
        ]))
