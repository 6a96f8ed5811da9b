# AFF, table 1: AA-ResNet-101, quoted there from its own paper. Published 45.4
# M parameters (45,386,728), top-1 error 21.3. No code is published by the
# authors: widths and places fit all of the paper's counts. As in the paper,
# stage 2 attends on a map pooled to 14 x 14; how it is pooled is a guess.
# Without, map_size=(28, 28) and no pool_stride there, there are 45,391,208.
# The paper's recipe is not known in full: this is AFF's recipe on the plain
# trunk.
_base_ = '../../_base_/imagenet_aff.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=101,
        conv2=[
            None,
            dict(type='AAConv', map_size=(14, 14), pool_stride=2),
            dict(type='AAConv', map_size=(14, 14)),
            dict(type='AAConv', map_size=(7, 7))
        ]))
