# SDA-xNet, table 2: AANet, quoted there from its own paper. Published 25.80 M
# parameters, 4.15 G (half of the paper's 8.3 G), top-1 / top-5 77.70 / 93.80.
# The network has 25,813,872. No code is published by the authors: widths and
# places fit all of the paper's counts, and the layout is that of a third
# party's network, which attends at 28 x 28 in stage 2. The paper pools its
# largest maps first: with map_size=(14, 14) and pool_stride=2 in stage 2 there
# are 25,809,392, and attention takes a sixteenth of the memory there. It has
# SDA-xNet's recipe; the paper's is not known in full. This is the paper's
# formula; weights trained with that third party's code need
# published_order=True in each AAConv.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        conv2=[
            None,
            dict(type='AAConv', map_size=(28, 28)),
            dict(type='AAConv', map_size=(14, 14)),
            dict(type='AAConv', map_size=(7, 7))
        ]))
