# DCANet, table 1: DCA-CBAM-ResNet-50. Published 30.90 M parameters, 4.14 G,
# top-1 / top-5 77.83 / 93.72. Here 30,882,704: without the 17,672 of the first
# block, which has nothing to link to; they never train. 4.14 G leaves out the
# links' convolutions: the authors' code counts 5.40 G. Deviation: the spatial
# gates learn; the authors' initialisation keeps all but the first at a
# constant.
_base_ = '../../_base_/imagenet_dcanet.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='CBAM', ratio=16),
        link=dict(type='DCA')))
