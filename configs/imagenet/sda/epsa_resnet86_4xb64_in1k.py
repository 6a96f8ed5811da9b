# SDA-xNet, table 1: EPSANet-86. Published 36.67 M parameters, 5.84 G, top-1 /
# top-5 77.71 / 93.83. That count holds the squeeze and excitation that a
# block's four maps share four times; the network has 36,607,873.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=86,
        conv2=dict(type='PSAConv')))
