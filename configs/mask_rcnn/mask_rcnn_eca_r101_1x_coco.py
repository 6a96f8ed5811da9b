# ECA-Net, tables 2 and 3: Mask R-CNN, ECA-Net101, COCO 1x. Published box AP
# 41.3, mask AP 37.4, 63.17 M parameters that train (stem and stage 1 are
# frozen), 351.83 G. Deviations from the authors' run (mmdet 1.x, batch 8, lr
# 0.01): mmdet's present defaults for anchors, box coder, RoIAlign, losses,
# warm-up and gradient clipping; batch 16 with twice the rate; 80 classes
# without a background entry (63,163,268 parameters).
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/eca/eca_resnet101_8xb32_in1k.py, or converted from the
# authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/eca_resnet101_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        depth=101,
        attention=[
            dict(type='ECA', kernel_size=k) for k in (3, 3, 5, 7)
        ],
        init_cfg=dict(checkpoint=pretrained_backbone, prefix='backbone.')))
