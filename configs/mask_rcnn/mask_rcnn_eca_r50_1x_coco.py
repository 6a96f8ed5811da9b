# ECA-Net, tables 2 and 3, and SDA-xNet, tables 3 and 4: Mask R-CNN, ECA-Net50,
# COCO 1x. Published box AP 39.0, mask AP 35.6, 44.18 M parameters that train
# (stem and stage 1 are frozen), 275.69 G; SDA-xNet prints 44.17 M, 261.93 G.
# Deviations from the authors' run (mmdet 1.x, batch 8, lr 0.01): mmdet's
# present defaults for anchors, box coder, RoIAlign, losses, warm-up and
# gradient clipping; batch 16 with twice the rate; 80 classes without a
# background entry (44,171,067 parameters). Its kernels are 3, 3, 7, 7, not the
# 3, 5, 5, 7 of the ImageNet row.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/eca/eca_resnet50_8xb32_in1k.py with --cfg-options
# model.backbone.attention.1.kernel_size=3
# model.backbone.attention.2.kernel_size=7. ImageNet weights with these kernels
# were never published.
pretrained_backbone = 'checkpoints/eca_resnet50_k3377_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=[
            dict(type='ECA', kernel_size=k) for k in (3, 3, 7, 7)
        ],
        init_cfg=dict(checkpoint=pretrained_backbone, prefix='backbone.')))
