# Recipe of AFF's CIFAR-100 networks (the authors' runs on the 100 fine
# labels): Nesterov SGD, lr 0.2 for a batch of 256 (here scaled to 128), steps
# after 300 and 450 of 640 epochs, no warm-up, weight decay 1e-4 on all
# parameters; label smoothing 0.1; mixup 1, off in the last 40 epochs;
# AutoAugment's CIFAR-10 policy, padded crops, flips. Deviation: mixup pairs
# images at random (there: with the reversed batch).
_base_ = [
    'mmpretrain::_base_/datasets/cifar100_bs16.py',
    'mmpretrain::_base_/schedules/cifar10_bs128.py',
    'mmpretrain::_base_/default_runtime.py'
]

batch_size = 128
max_epochs = 640

# MXNet's Xavier: uniform, variance 1 over the mean fan.
start = dict(
    type='Xavier', distribution='uniform', gain=1, layer=['Conv2d', 'Linear'])
model = dict(
    type='ImageClassifier',
    backbone=dict(
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2, ),
        init_cfg=start),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        init_cfg=start,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=100)),
    train_cfg=dict(augments=dict(type='Mixup', alpha=1.)))
custom_hooks = [
    dict(
        type='SwitchRecipeHook',
        schedule=[
            dict(action_epoch=max_epochs - 40 + 1, batch_augments=None)
        ])
]

# The policy as its paper prints it: operation, probability, level 0 to 9.
policy = [
    [('Invert', 0.1, 7), ('Contrast', 0.2, 6)],
    [('Rotate', 0.7, 2), ('TranslateX', 0.3, 9)],
    [('Sharpness', 0.8, 1), ('Sharpness', 0.9, 3)],
    [('ShearY', 0.5, 8), ('TranslateY', 0.7, 9)],
    [('AutoContrast', 0.5, 8), ('Equalize', 0.9, 2)],
    [('ShearY', 0.2, 7), ('Posterize', 0.3, 7)],
    [('Color', 0.4, 3), ('Brightness', 0.6, 7)],
    [('Sharpness', 0.3, 9), ('Brightness', 0.7, 9)],
    [('Equalize', 0.6, 5), ('Equalize', 0.5, 1)],
    [('Contrast', 0.6, 7), ('Sharpness', 0.6, 5)],
    [('Color', 0.7, 7), ('TranslateX', 0.5, 8)],
    [('Equalize', 0.3, 7), ('AutoContrast', 0.4, 8)],
    [('TranslateY', 0.4, 3), ('Sharpness', 0.2, 6)],
    [('Brightness', 0.9, 6), ('Color', 0.2, 8)],
    [('Solarize', 0.5, 2), ('Invert', 0.0, 3)],
    [('Equalize', 0.2, 0), ('AutoContrast', 0.6, 0)],
    [('Equalize', 0.2, 8), ('Equalize', 0.6, 4)],
    [('Color', 0.9, 9), ('Equalize', 0.6, 6)],
    [('AutoContrast', 0.8, 4), ('Solarize', 0.2, 8)],
    [('Brightness', 0.1, 3), ('Color', 0.7, 0)],
    [('Solarize', 0.4, 5), ('AutoContrast', 0.9, 3)],
    [('TranslateY', 0.9, 9), ('TranslateY', 0.7, 9)],
    [('AutoContrast', 0.9, 2), ('Solarize', 0.8, 3)],
    [('Equalize', 0.8, 8), ('Invert', 0.1, 3)],
    [('TranslateY', 0.7, 9), ('AutoContrast', 0.9, 1)],
]


def operation(name, prob, level):
    share = level / 9  # of the largest strength
    options = dict(
        Rotate=dict(angle=30 * share),
        Posterize=dict(bits=8 - round(4 * share)),
        Solarize=dict(thr=256 * (1 - share)))
    if name[-1] in 'XY':
        options[name] = dict(
            magnitude=share * (0.3 if name[:-1] == 'Shear' else 150 / 331),
            direction='horizontal' if name[-1] == 'X' else 'vertical')
    elif name in ('Color', 'Contrast', 'Brightness', 'Sharpness'):
        options[name] = dict(magnitude=0.9 * share)
    kind = 'ColorTransform' if name == 'Color' else name.rstrip('XY')
    return dict(type=kind, prob=prob, **options.get(name, {}))


data_preprocessor = dict(
    mean=[255 * x for x in (0.4914, 0.4822, 0.4465)],
    std=[255 * x for x in (0.2023, 0.1994, 0.2010)])
train_pipeline = [
    dict(
        type='AutoAugment',
        policies=[[operation(*step) for step in pair] for pair in policy]),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=batch_size, dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=0.2 * batch_size / 256, nesterov=True))
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = dict(milestones=[300, 450])
auto_scale_lr = dict(base_batch_size=batch_size)
