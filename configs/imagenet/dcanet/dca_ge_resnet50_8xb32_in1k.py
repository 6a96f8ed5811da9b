# DCANet, table 1: DCA-GEtheta-ResNet-50. Published 28.37 M parameters, 4.13 G,
# top-1 / top-5 76.60 / 93.26. Here 28,350,037: without the 17,667 of the first
# block, which has nothing to link to; they never train.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='GE'),
        link=dict(type='DCA')))
