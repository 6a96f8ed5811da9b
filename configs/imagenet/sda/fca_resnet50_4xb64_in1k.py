# SDA-xNet, table 2: FcaNet, quoted there from its own paper. Published 28.07 M
# parameters, 4.09 G, top-1 / top-5 78.52 / 94.14. It has FcaNet's recipe: 5
# epochs of warm-up, then a cosine to 0 over 95, both by iteration, label
# smoothing 0.1, DCANet's crops. Not known: where its warm-up starts (here at
# 0).
_base_ = '../../_base_/imagenet_dcanet.py'

max_epochs = 100
warmup_epochs = 5

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='Fca', ratio=16)),
    head=dict(
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=1000)))

train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        convert_to_iter_based=True)
]
