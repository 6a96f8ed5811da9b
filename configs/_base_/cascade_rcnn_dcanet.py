# DCANet's Cascade R-CNN (table 2), as far as the stock parts say it: mmdet's
# config with the authors' schedule, two RoIAlign samples a bin and 2000 test
# proposals. Deviations from the authors' run (mmdet 0.6): today's anchors,
# box coder and RoIAlign alignment, not those of old; the best box of an
# object is matched only above the threshold of its stage.
_base_ = [
    'mmdet::_base_/models/cascade-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py', './coco_2x_dcanet.py',
    'mmdet::_base_/default_runtime.py'
]

model = dict(
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2))),
    test_cfg=dict(rpn=dict(nms_pre=2000, max_per_img=2000)))
