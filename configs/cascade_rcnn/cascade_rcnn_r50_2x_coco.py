# DCANet, table 2: Cascade R-CNN, ResNet-50, COCO 2x. Published box AP 40.6.
# Deviations from the authors' run (mmdet 0.6): today's anchors, box coder and
# RoIAlign alignment; an object's best box is matched only above the threshold
# of its stage. It starts from torchvision's ResNet-50, the authors' run from
# their own (configs/imagenet/dcanet/resnet50_8xb32_in1k.py).
_base_ = '../_base_/cascade_rcnn_dcanet.py'

model = dict(backbone=dict(type='mmattn.ResNet'))
