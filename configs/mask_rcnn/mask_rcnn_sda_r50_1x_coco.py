# Mask R-CNN on the standard ResNet-50 with depth attention (SDA-xNet). It
# starts from torchvision's ResNet-50, every weight of which fits; the depth
# fusion starts near the identity: 95 % of a stage's output is its last block.
# No row of the paper's tables; nothing published.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth_fusion=dict(
            type='SelectiveFusion', ratio=16, min_channels=64,
            last_share=0.95)))
