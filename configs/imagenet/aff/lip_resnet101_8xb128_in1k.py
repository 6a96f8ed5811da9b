# AFF, table 1: LIP-ResNet-101, quoted there from its own paper. Published
# 42.9 M parameters (42,856,360), top-1 error 20.7. It has LIP's recipe:
# ECA-Net's over 90 epochs, with steps after 30, 60 and 80, and residual
# branches that start at zero; the learning rate scaled to 8 x 128.
_base_ = './resnet101_8xb128_in1k.py'

model = dict(backbone=dict(type='mmattn.LIPResNet', zero_init_residual=True))

train_cfg = dict(max_epochs=90)
param_scheduler = dict(milestones=[30, 60, 80])
