# SDA-xNet, table 2: SANet, quoted there from its own paper. Published 25.56 M
# parameters, 4.09 G, top-1 / top-5 77.72 / 93.80. It has SA-Net's recipe:
# ECA-Net's over 90 epochs.
_base_ = '../../_base_/imagenet_eca.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='SA', groups=64)))

train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=90)
