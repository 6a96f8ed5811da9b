# DeepLabV3 on MobileNetV2, on VOC 2012 with the annotations of SBD (10,582
# images): crops of 513 and 30,000 iterations, as published for DeepLabV3.
_base_ = ['mmseg::_base_/datasets/pascal_voc12_aug.py', './deeplabv3_mbv2.py']

crop_size = (513, 513)
max_iters = 30_000

model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=21))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'), {{_base_.random_resize}},
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                type={{_base_.dataset_type}},
                data_root={{_base_.data_root}},
                data_prefix=dict(
                    img_path='JPEGImages', seg_map_path=annotations),
                ann_file=f'ImageSets/Segmentation/{part}.txt',
                pipeline=train_pipeline)
            for part, annotations in (('train', 'SegmentationClass'),
                                      ('aug', 'SegmentationClassAug'))
        ]))
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
