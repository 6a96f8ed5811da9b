# SDA-xNet, table 1: PyConv, quoted there from its own paper. Published 24.85 M
# parameters, 3.88 G, top-1 / top-5 77.88 / 93.80. It has PyConv's recipe:
# ECA-Net's over 90 epochs, with steps after 30, 60 and 80.
_base_ = '../../_base_/imagenet_eca.py'

model = dict(
    backbone=dict(
        type='mmattn.PyConvResNet',
        depth=50))

train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=90)
param_scheduler = dict(milestones=[30, 60, 80])
