# SDA-xNet, tables 3 and 4: Mask R-CNN, EPSANet, COCO 1x. Published box AP
# 40.0, mask AP 35.9, 41.20 M parameters that train (stem and stage 1 are
# frozen), 248.53 G. Quoted there from EPSANet's paper, which trains by mmdet's
# stock 1x and publishes no config.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/sda/epsa_resnet50_4xb64_in1k.py, or converted from the
# authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/epsa_resnet50_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        conv2=dict(type='PSAConv'),
        init_cfg=dict(checkpoint=pretrained_backbone, prefix='backbone.')))
