# ECA-Net, table 1: ECA-Net101. Published 42.49 M parameters, 7.35 G (in units
# of 2^20 and 2^30: 44,549,317 parameters), top-1 / top-5 78.65 / 94.34.
_base_ = '../../_base_/imagenet_eca.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=101,
        attention=[
            dict(type='ECA', kernel_size=k) for k in (3, 3, 5, 7)
        ]))
