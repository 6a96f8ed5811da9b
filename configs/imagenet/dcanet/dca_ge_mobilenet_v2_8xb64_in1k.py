# DCANet, table 1: DCA-GEtheta-MobileNetV2. Published 3.59 M parameters, 0.32
# G, top-1 / top-5 72.47 / 90.68. Here 3,585,888: without the 595 of the first
# block, which has nothing to link to; they never train.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        attention=dict(type='GE'),
        attention_at='output',
        link=dict(type='DCA')))
