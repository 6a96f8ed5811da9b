# SDA-xNet, tables 3 and 4: Mask R-CNN, ResNet-50, COCO 1x. Published box AP
# 37.2, mask AP 34.1, 44.17 M parameters that train (stem and stage 1 are
# frozen), 261.81 G. Counted as the authors' own rows are, it has 260.14 G.
# Quoted there; the run behind it is not described, this is mmdet's stock 1x.
# It starts from torchvision's ResNet-50.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

model = dict(backbone=dict(type='mmattn.ResNet'))
