# DeepLabV3 on MobileNetV2 for Coordinate Attention's segmentation tables.
# Nothing of these was released. Their parameter counts are those of a head of
# standard 3x3 convolutions on the trunk's 320 channels, without the last 1x1
# convolution and without an auxiliary head: that network is here. The paper's
# text describes another (4.24 M parameters on VOC), separable convolutions on
# the 1280 channels of the last convolution: --cfg-options
# model.backbone.out_indices="[7]" model.decode_head.in_channels=1280
# model.decode_head.separable=True. The schedule is DeepLabV3's with the text's
# weight decay of 4e-5: SGD 0.007 for 8 x 2 images, poly 0.9, scales of 0.5 to
# 2 in steps of 0.25, flips, synchronised batch norms. Whether it was that one
# or the one of the authors' other segmentation code (SPNet) is not settled.
# Images are tested whole, at one scale.
_base_ = [
    'mmseg::_base_/schedules/schedule_20k.py',
    'mmseg::_base_/default_runtime.py'
]

batch_size = 8 * 2

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255),
    backbone=dict(
        type='mmattn.MobileNetV2',
        out_indices=(6, ),
        init_cfg=dict(type='Pretrained', prefix='backbone.')),
    decode_head=dict(
        type='mmattn.segmentation.DeepLabV3Head',
        in_channels=320,
        in_index=0,
        align_corners=True,
        loss_decode=dict(type='CrossEntropyLoss')),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
sync_bn = 'torch'

random_resize = dict(
    type='RandomChoice',
    transforms=[[
        dict(type='Resize', scale_factor=step / 4, keep_ratio=True)
    ] for step in range(2, 9)])
whole_image_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]

optim_wrapper = dict(optimizer=dict(lr=0.007, weight_decay=4e-5))
auto_scale_lr = dict(base_batch_size=batch_size)
