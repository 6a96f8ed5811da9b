# DCANet, table 1: MobileNetV2. Published 3.50 M parameters, 0.32 G, top-1 /
# top-5 71.03 / 90.07.
_base_ = '../../_base_/imagenet_dcanet_mobile.py'
