# SDA-xNet, table 2: GCNet, quoted there. Published 28.11 M parameters, 4.13 G,
# top-1 / top-5 77.70 / 93.66. It has SDA-xNet's recipe; GCNet's own is not
# known.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='GC', ratio=16)))
