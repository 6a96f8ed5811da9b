# DCANet, table 1: DCA-CBAM-Mnas1_0. Published 4.56 M parameters, 0.33 G, top-1
# / top-5 71.00 / 89.78. Here 4,557,006: without the 488 of the first block,
# which has nothing to link to; they never train. 0.33 G leaves out the links'
# convolutions: the authors' code counts 0.348 G. Deviation: the spatial gates'
# norms have the network's momentum (3e-4; there 0.01).
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        type='mmattn.MNASNet',
        attention=[None] + [dict(type='CBAM', ratio=8)] * 6,
        attention_at='output',
        link=dict(type='DCA', match_bias=False)))
