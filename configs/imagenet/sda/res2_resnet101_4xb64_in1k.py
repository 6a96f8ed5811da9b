# SDA-xNet, table 1: Res2Net-101, quoted there. Published 45.21 M parameters,
# 8.10 G, top-1 / top-5 79.19 / 94.43. It has SDA-xNet's recipe; Res2Net's own
# is not known. This is the plain form, which fits the count; the one with a
# deep stem and pooled shortcuts has 45,225,920.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.Res2Net',
        depth=101))
