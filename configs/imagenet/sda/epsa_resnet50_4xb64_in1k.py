# SDA-xNet, table 1: EPSANet, quoted there from its own paper. Published 22.59
# M parameters, 3.60 G, top-1 / top-5 77.49 / 93.54. That count holds the
# squeeze and excitation that a block's four maps share four times; the network
# has 22,561,715. It has EPSANet's recipe: SDA-xNet's with the steps after 30,
# 60 and 90 epochs.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        conv2=dict(type='PSAConv')))

param_scheduler = dict(milestones=[30, 60, 90])
