# Coordinate Attention, table 1: MobileNeXt-1.0. Published 3.5 M parameters,
# 300 M, top-1 74.0. The released network has 3,535,416 and 311 M.
_base_ = '../../_base_/imagenet_coordattention.py'

model = dict(
    backbone=dict(type='mmattn.MobileNeXt'), head=dict(dropout_rate=0.2))
