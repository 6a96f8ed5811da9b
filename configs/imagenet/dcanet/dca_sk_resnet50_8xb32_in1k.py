# DCANet, table 1: DCA-SK-ResNet-50. Published 37.48 M parameters, 5.98 G,
# top-1 / top-5 77.94 / 93.90. Here 37,482,458: without the 262 of the first
# block, which has nothing to link to; they never train.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(
    backbone=dict(
        type='mmattn.SKNet',
        link=dict(type='DCA')))
