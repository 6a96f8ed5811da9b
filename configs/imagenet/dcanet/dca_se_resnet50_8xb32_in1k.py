# DCANet, table 1: DCA-SE-ResNet-50. Published 30.90 M parameters, 4.13 G,
# top-1 / top-5 77.64 / 93.74. Here 30,881,029: without the 17,667 of the first
# block, which has nothing to link to; they never train.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='SE', ratio=16),
        link=dict(type='DCA')))
