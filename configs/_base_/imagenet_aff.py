# Recipe of AFF's ImageNet networks (the authors' logs, equal for all four):
# Nesterov SGD, lr 0.075 for a batch of 512 (here scaled to 8 x 128), 5 epochs
# of warm-up from 0, then a cosine to 0 over 235, both by iteration; weight
# decay 1e-4, none on norms and biases; label smoothing 0.1; mixup 0.2, off in
# the last 5 epochs; colour jitter and PCA noise; last norms of the branches
# start at zero. Deviations: mixup pairs images at random (there: with the
# reversed batch), and the published error is the best epoch's. The authors'
# runs were in half precision: add --amp for that.
_base_ = [
    'mmpretrain::_base_/models/resnetv1d50.py',
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py'
]

batch_size = 8 * 128
max_epochs = 240

# MXNet's MSRAPrelu: normal, variance 2 / (1 + 0.25^2) over the mean fan.
start = dict(
    type='Xavier',
    distribution='normal',
    gain=(2 / (1 + 0.25**2))**0.5,
    layer=['Conv2d', 'Linear'])
model = dict(
    backbone=dict(init_cfg=start),
    head=dict(
        init_cfg=start,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=1000)),
    train_cfg=dict(augments=dict(type='Mixup', alpha=0.2)))
custom_hooks = [
    dict(
        type='SwitchRecipeHook',
        schedule=[
            dict(action_epoch=max_epochs - 5 + 1, batch_augments=None)
        ])
]

data_preprocessor = dict(
    mean=[123.68, 116.779, 103.939], std=[58.393, 57.12, 57.375])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='ColorJitter',
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        backend='cv2'),
    # To float: on bytes, the noise would wrap around at 0 and 255.
    dict(type='Normalize', mean=[0.] * 3, std=[1.] * 3, to_rgb=False),
    dict(
        type='Lighting',
        alphastd=0.1,
        eigval=[55.4625, 4.7940, 1.1475],
        eigvec=[  # rows: blue, green, red
            [-0.5836, -0.6948, 0.4203],
            [-0.5808, -0.0045, -0.8140],
            [-0.5675, 0.7192, 0.4009]
        ]),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=128, dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=0.075 * batch_size / 512, nesterov=True),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0.))
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=5,
        end=max_epochs,
        T_max=max_epochs - 5,
        convert_to_iter_based=True)
]
auto_scale_lr = dict(base_batch_size=batch_size)
