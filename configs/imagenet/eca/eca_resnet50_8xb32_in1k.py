# ECA-Net, table 1: ECA-Net50. Published 24.37 M parameters, 3.86 G (in units
# of 2^20 and 2^30: 25,557,112 parameters), top-1 / top-5 77.48 / 93.68.
_base_ = '../../_base_/imagenet_eca.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=[
            dict(type='ECA', kernel_size=k) for k in (3, 5, 5, 7)
        ]))
