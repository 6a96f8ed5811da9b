# AFF, table 1: ECA-Net-101, quoted there from its own paper. Published 42.5 M
# parameters (in units of 2^20: 44,549,317), top-1 error 21.4. It has ECA-Net's
# recipe, as the ResNet-101 beside it.
_base_ = './resnet101_8xb128_in1k.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=[
            dict(type='ECA', kernel_size=k) for k in (3, 3, 5, 7)
        ]))
