# AFF, table 1: ResNet-101, quoted there from ECA-Net's paper. Published 42.5 M
# parameters (in units of 2^20: 44,549,160), top-1 error 23.2. It has ECA-Net's
# recipe, with the learning rate scaled to 8 x 128.
_base_ = '../../_base_/imagenet_eca.py'

batch_size = 8 * 128

model = dict(backbone=dict(type='mmattn.ResNet', depth=101))

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=0.1 * batch_size / 256))
auto_scale_lr = dict(base_batch_size=batch_size)
