# ECA-Net, table 2, and SDA-xNet, table 3: Faster R-CNN, ECA-Net50, COCO 1x.
# Published AP 38.0, 41.53 M parameters that train (stem and stage 1 are
# frozen), 207.18 G. Deviations from the authors' run (mmdet 1.x, batch 8, lr
# 0.01): mmdet's present defaults for anchors, box coder, RoIAlign, losses,
# warm-up and gradient clipping; batch 16 with twice the rate; 80 classes
# without a background entry (41,527,777 parameters). Its kernels are 5 in
# every stage, not the 3, 5, 5, 7 of the ImageNet row.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/eca/eca_resnet50_8xb32_in1k.py with --cfg-options
# model.backbone.attention.0.kernel_size=5
# model.backbone.attention.3.kernel_size=5. Weights with these kernels were
# never published.
pretrained_backbone = 'checkpoints/eca_resnet50_k5555_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(type='ECA', kernel_size=5),
        init_cfg=dict(checkpoint=pretrained_backbone, prefix='backbone.')))
