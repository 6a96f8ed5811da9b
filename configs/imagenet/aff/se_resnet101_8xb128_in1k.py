# AFF, table 1: SENet-101, quoted there. Published 49.4 M parameters (with the
# statistics of the batch norms; 49,326,872 train), top-1 error 20.9. Its
# figures come from the Gather-Excite paper, whose recipe is unknown: this is
# AFF's recipe on the plain trunk.
_base_ = '../../_base_/imagenet_aff.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=101,
        attention=dict(type='SE', ratio=16)))
