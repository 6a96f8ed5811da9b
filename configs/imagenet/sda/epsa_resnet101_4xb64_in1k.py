# SDA-xNet, table 1: EPSANet-101, quoted there from its own paper. Published
# 38.90 M parameters, 6.82 G, top-1 / top-5 78.43 / 94.11. Recipe as of the
# EPSANet-50 beside it.
_base_ = './epsa_resnet50_4xb64_in1k.py'

model = dict(backbone=dict(depth=101))
