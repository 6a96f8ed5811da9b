# DCANet, table 2: RetinaNet, ResNet-50, COCO 2x. Published box AP 36.2.
# Deviations from the authors' run (mmdet 0.6): today's anchors and box coder.
# It starts from torchvision's ResNet-50, the authors' run from their own
# (configs/imagenet/dcanet/resnet50_8xb32_in1k.py).
_base_ = '../_base_/retinanet_dcanet.py'

model = dict(backbone=dict(type='mmattn.ResNet'))
