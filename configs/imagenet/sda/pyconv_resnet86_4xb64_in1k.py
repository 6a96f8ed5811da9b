# SDA-xNet, table 1: PyConv-86. Published 40.55 M parameters, 6.22 G, top-1 /
# top-5 78.63 / 94.26.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.PyConvResNet',
        depth=86))
