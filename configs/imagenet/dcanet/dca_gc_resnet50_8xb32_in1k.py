# DCANet, table 1: DCA-GC-ResNet-50. Published 28.63 M parameters, 4.13 G,
# top-1 / top-5 75.42 / 92.47. Here 28,625,399: without the 5,425 of the first
# block, which has nothing to link to; they never train. The attention's last
# layer does not start at zero: the authors' network initialises it again.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='GC', ratio=16, zero_start=False),
        link=dict(type='DCA')))
