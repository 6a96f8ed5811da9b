# AFF, table 1: GE-theta+-ResNet-101, quoted there from the Gather-Excite
# paper. Published 58.4 M parameters (with the statistics of the batch norms;
# 58,323,224 train), top-1 error 20.7. Gather-Excite's recipe is not known:
# this is AFF's recipe on the plain trunk. It takes images of 224 x 224 only.
_base_ = '../../_base_/imagenet_aff.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=101,
        attention=[
            dict(type='GE', size=side, ratio=16) for side in (56, 28, 14, 7)
        ]))
