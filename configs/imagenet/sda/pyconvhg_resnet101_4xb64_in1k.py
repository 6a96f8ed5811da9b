# SDA-xNet, table 1: PyConv-101, quoted there from PyConv's paper. Published
# 44.63 M parameters, 8.42 G, top-1 / top-5 79.22 / 94.43. That is
# PyConvHGResNet-101, with high grouping; PyConvResNet-101, the family of the
# other rows, has 42,307,944. Recipe as of the PyConv-50 beside it.
_base_ = './pyconv_resnet50_4xb64_in1k.py'

model = dict(backbone=dict(depth=101, arch='HG'))
