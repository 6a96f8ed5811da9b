# DCANet, table 1: DCA-SE-Mnas1_0. Published 4.48 M parameters, 0.33 G, top-1 /
# top-5 71.76 / 90.40. Here 4,478,334: without the 252 of the first block,
# which has nothing to link to; they never train. The authors' ratio of 8
# reaches the first block of each stage only; the others have 16 (4,443,074
# with 16 everywhere).
_base_ = '../../_base_/imagenet_dcanet_mobile.py'

model = dict(
    backbone=dict(
        type='mmattn.MNASNet',
        attention=[None] + [[dict(type='SE', ratio=8)] +
                            [dict(type='SE', ratio=16)] * (num_blocks - 1)
                            for num_blocks in (3, 3, 3, 2, 4, 1)],
        attention_at='output',
        link=dict(type='DCA', match_ratio=8)))
