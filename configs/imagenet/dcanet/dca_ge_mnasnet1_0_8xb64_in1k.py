# DCANet, table 1: DCA-GEtheta-Mnas1_0. Published 4.48 M parameters, 0.33 G,
# top-1 / top-5 72.82 / 91.18. Here 4,480,629: without the 507 of the first
# block, which has nothing to link to; they never train.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        type='mmattn.MNASNet',
        attention=[None] + [dict(type='GE')] * 6,
        attention_at='output',
        link=dict(type='DCA')))
