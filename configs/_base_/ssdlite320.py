# SSDLite320 on MobileNetV2 as in the released code of Coordinate Attention's
# detection tables (ssdlite-pytorch-mobilenext): six levels from the output of
# stride 16, the last 1x1 convolution and four inverted residuals behind it.
# Every image is resized to 320x320, whatever its shape. Deviation: at most
# 1000 candidates a level go into the NMS.
_base_ = 'mmdet::_base_/default_runtime.py'

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123., 117., 104.],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=1),
    backbone=dict(
        type='mmattn.MobileNetV2',
        out_indices=(4, 7),
        init_cfg=dict(type='Pretrained', prefix='backbone.')),
    neck=dict(type='mmattn.detection.SSDLiteNeck'),
    bbox_head=dict(
        type='mmattn.detection.SSDLiteHead',
        in_channels=(96, 1280, 512, 256, 256, 64)),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0.,
            ignore_iof_thr=-1,
            gt_max_assign_all=False),
        smoothl1_beta=1.,
        allowed_border=-1,
        pos_weight=-1),
    test_cfg=dict(
        nms_pre=1000, nms=dict(type='nms'), min_bbox_size=0, max_per_img=100))

ssdlite_train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PhotoMetricDistortion'),
    dict(
        type='Expand',
        mean=model['data_preprocessor']['mean'],
        to_rgb=True,
        ratio_range=(1, 4)),
    dict(
        type='MinIoURandomCrop',
        min_ious=(0.1, 0.3, 0.7, 0.9),
        min_crop_size=0.3),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=(320, 320), keep_ratio=False),
    dict(type='PackDetInputs')
]
ssdlite_test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 320), keep_ratio=False),
    # Behind the resizing, which would change the boxes.
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]

default_hooks = dict(checkpoint=dict(by_epoch=False))
log_processor = dict(by_epoch=False)
