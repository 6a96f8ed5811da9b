# DCANet, table 1: GEtheta-ResNet-50. Published 25.56 M parameters, 4.13 G,
# top-1 / top-5 76.24 / 92.98. Gather-Excite without parameters (theta-minus),
# whatever its name there.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='GE')))
