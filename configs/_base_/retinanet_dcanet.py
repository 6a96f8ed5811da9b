# DCANet's RetinaNet (table 2), as far as the stock parts say it: mmdet's 2x
# config with the authors' schedule and smooth L1 instead of L1. Deviations
# from the authors' run (mmdet 0.6): today's anchors and box coder, not the
# rounded ones of old; 80 classes without a background entry.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py', './coco_2x_dcanet.py',
    'mmdet::_base_/default_runtime.py'
]

model = dict(
    bbox_head=dict(
        loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=1.0)))
optim_wrapper = dict(optimizer=dict(lr=0.01))
