# SDA-xNet, table 2: SDA-CBAM-86. Published 53.53 M parameters, 6.72 G, top-1 /
# top-5 79.05 / 94.44. That count holds the channel gates twice; the network
# has 49,104,992. It is the CBAM without biases and norms, the one that fits
# that count; no code of it is published.
_base_ = '../../_base_/imagenet_sda_depth.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=86,
        attention=dict(type='CBAM', ratio=16, bias=False, norm_cfg=None),
        depth_fusion=dict(type='SelectiveFusion', ratio=16, min_channels=64)))
