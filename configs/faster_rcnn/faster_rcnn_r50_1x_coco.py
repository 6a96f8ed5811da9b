# SDA-xNet, table 3: Faster R-CNN, ResNet-50, COCO 1x. Published box AP 36.4,
# 41.53 M parameters that train (stem and stage 1 are frozen), 207.07 G. Quoted
# there; the run behind it is not described, this is mmdet's stock 1x. It
# starts from torchvision's ResNet-50.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(backbone=dict(type='mmattn.ResNet'))
