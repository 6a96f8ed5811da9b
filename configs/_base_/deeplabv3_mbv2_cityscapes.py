# DeepLabV3 on MobileNetV2, on the 2,975 finely annotated images of Cityscapes:
# crops of 769 and 90,000 iterations, as published for DeepLabV3.
_base_ = ['mmseg::_base_/datasets/cityscapes.py', './deeplabv3_mbv2.py']

crop_size = (769, 769)
max_iters = 90_000

model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=19))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'), {{_base_.random_resize}},
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
train_dataloader = dict(
    batch_size=2, num_workers=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline={{_base_.whole_image_pipeline}}))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
param_scheduler = [
    dict(
        type='PolyLR',
        power=0.9,
        eta_min=0.,
        by_epoch=False,
        begin=0,
        end=max_iters)
]
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
