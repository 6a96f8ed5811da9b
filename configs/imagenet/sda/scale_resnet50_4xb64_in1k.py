# SDA-xNet, table 1: ScaleNet, quoted there from its own paper. Published 31.48
# M parameters, 3.82 G, top-1 / top-5 77.98 / 93.95. It has SDA-xNet's recipe;
# ScaleNet's own is not known in full.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.ScaleResNet',
        depth=50))
