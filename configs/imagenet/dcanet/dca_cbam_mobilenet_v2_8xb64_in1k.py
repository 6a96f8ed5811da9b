# DCANet, table 1: DCA-CBAM-MobileNetV2. Published 3.65 M parameters, 0.34 G,
# top-1 / top-5 73.04 / 91.18. Here 3,645,592: without the 584 of the first
# block, which has nothing to link to; they never train.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        attention=dict(type='CBAM', ratio=8),
        attention_at='output',
        link=dict(type='DCA', match_bias=False)))
