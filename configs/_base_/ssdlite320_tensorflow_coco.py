# SSDLite320 with the levels and the head of TensorFlow's SSDLite, which mmdet
# has, for rows that are quoted from earlier papers. The recipe is that of the
# other rows.
_base_ = './ssdlite320_coco.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='SSDNeck',
        level_strides=(2, 2, 2, 2),
        level_paddings=(1, 1, 1, 1),
        l2_norm_scale=None,
        use_depthwise=True,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU6'),
        init_cfg=dict(type='Kaiming', layer='Conv2d')),
    bbox_head=dict(
        type='mmattn.detection.SSDHead',
        use_depthwise=True,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU6'),
        anchor_generator=dict(
            type='mmattn.detection.SSDLiteAnchorGenerator',
            ratios=[(2, 3)] * 6)))
