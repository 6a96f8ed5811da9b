# SDA-xNet, table 2: CBAM-101, quoted there from CBAM's paper. Published 54.04
# M parameters, 7.81 G, top-1 / top-5 78.49 / 94.31. That count is of another
# CBAM, without biases and norms (49,295,562), and holds its channel gates
# twice; the network of CBAM's authors has 49,330,172. Recipe as of the CBAM-50
# beside it.
_base_ = './cbam_resnet50_4xb64_in1k.py'

model = dict(backbone=dict(depth=101))
