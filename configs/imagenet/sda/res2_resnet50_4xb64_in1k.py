# SDA-xNet, table 1: Res2Net, quoted there. Published 25.70 M parameters, 4.26
# G, top-1 / top-5 77.99 / 93.85. It has SDA-xNet's recipe; Res2Net's own is
# not known. This is the plain form, which fits the count; the one with a deep
# stem and pooled shortcuts has 25,718,352.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.Res2Net',
        depth=50))
