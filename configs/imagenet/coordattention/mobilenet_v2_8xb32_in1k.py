# Coordinate Attention, table 1: MobileNetV2-1.0. Published 3.5 M parameters,
# 300 M, top-1 72.3.
_base_ = '../../_base_/imagenet_coordattention.py'
