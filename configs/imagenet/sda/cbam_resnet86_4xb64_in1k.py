# SDA-xNet, table 2: CBAM-86. Published 50.75 M parameters, 6.71 G, top-1 /
# top-5 78.36 / 94.09. That count holds the channel gates twice; the network
# has 46,320,864. It is the CBAM without biases and norms, the one that fits
# that count.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=86,
        attention=dict(type='CBAM', ratio=16, bias=False, norm_cfg=None)))
