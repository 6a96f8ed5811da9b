# Coordinate Attention, table 1: MobileNetV2 + CBAM. Published 3.89 M
# parameters, 300 M, top-1 73.6. Nothing was released; the usual CBAM with
# ratio 24 makes that count.
_base_ = '../../_base_/imagenet_coordattention.py'

model = dict(
    backbone=dict(
        attention=[None] + [dict(type='CBAM', ratio=24)] * 6))
