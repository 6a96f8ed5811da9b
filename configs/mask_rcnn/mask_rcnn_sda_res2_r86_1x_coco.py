# SDA-xNet, tables 3 and 4: Mask R-CNN, SDA-Res2Net-86, COCO 1x. Published box
# AP 42.3, mask AP 37.9, 63.62 M parameters that train (stem and stage 1 are
# frozen), 318.78 G. The authors' config is mmdet's stock 1x with this
# backbone; whether they scaled its learning rate for their 4 GPUs is not
# known.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/sda/sda_res2_resnet86_4xb64_in1k.py, or converted from the
# authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/sda_res2_resnet86_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.Res2Net',
        depth=86,
        depth_fusion=dict(type='SelectiveFusion', ratio=16, min_channels=64),
        init_cfg=dict(checkpoint=pretrained_backbone, prefix='backbone.')))
