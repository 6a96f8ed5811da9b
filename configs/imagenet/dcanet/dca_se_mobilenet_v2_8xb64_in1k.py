# DCANet, table 1: DCA-SE-MobileNetV2. Published 3.65 M parameters, 0.32 G,
# top-1 / top-5 73.24 / 91.14. Here 3,644,492: without the 594 of the first
# block, which has nothing to link to; they never train.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        attention=dict(type='SE', ratio=8),
        attention_at='output',
        link=dict(type='DCA', mix_bias=False)))
