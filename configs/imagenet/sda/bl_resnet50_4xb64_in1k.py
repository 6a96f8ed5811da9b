# SDA-xNet, table 1: bL-ResNet, quoted there from its own paper. Published
# 26.69 M parameters, 2.85 G, top-1 77.31. It has bL-ResNet's recipe: Nesterov
# SGD, 110 epochs with a cosine to 0, colour jitter, last norms of the branches
# start at zero; else as ECA-Net's. Not settled: whether the cosine moves by
# epoch, as here, or by iteration.
_base_ = '../../_base_/imagenet_eca.py'

model = dict(
    backbone=dict(
        type='mmattn.BLResNet',
        depth=50,
        alpha=2,
        beta=4,
        zero_init_residual=True))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow'),
    dict(
        type='ColorJitter',
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        backend='cv2'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=64, dataset=dict(pipeline=train_pipeline))

max_epochs = 110
optim_wrapper = dict(optimizer=dict(nesterov=True))
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)
