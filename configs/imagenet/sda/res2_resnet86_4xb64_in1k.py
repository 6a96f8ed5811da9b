# SDA-xNet, table 1: Res2Net-86. Published 42.47 M parameters, 6.94 G, top-1 /
# top-5 78.63 / 94.21.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.Res2Net',
        depth=86))
