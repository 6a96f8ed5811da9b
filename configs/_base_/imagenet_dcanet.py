# Recipe of DCANet's ResNet-50 rows (the authors' training script): SGD 0.1
# for a batch of 256, weight decay 1e-4 on all parameters, 100 epochs with
# steps after 30, 60 and 90, no warm-up, no label smoothing; crops of 10 % to
# 100 % of the area and an aspect of 0.8 to 1.25, resized with a triangular
# filter (Pillow's bilinear). Residual branches do not start at zero. The
# authors' runs were in half precision: add --amp for that.
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py'
]

model = dict(backbone=dict(zero_init_residual=False))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.1, 1.0),
        aspect_ratio_range=(0.8, 1.25),
        backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
