# ECA-Net, table 1: ECA-Net152. Published 57.41 M parameters, 10.83 G (in units
# of 2^20 and 2^30: 60,193,042 parameters), top-1 / top-5 78.92 / 94.55.
_base_ = '../../_base_/imagenet_eca.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=152,
        attention=[
            dict(type='ECA', kernel_size=k) for k in (3, 3, 5, 7)
        ]))
