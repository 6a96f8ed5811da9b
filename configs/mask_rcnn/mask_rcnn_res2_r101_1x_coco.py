# SDA-xNet, tables 3 and 4: Mask R-CNN, Res2Net-101, COCO 1x. Published box AP
# 41.8, mask AP 37.1, 63.82 M parameters that train (stem and stage 1 are
# frozen), 346.74 G. Quoted there; the run behind it is not described, this is
# mmdet's stock 1x. The published G are of the form with a deep stem and pooled
# shortcuts, which has 19,232 parameters more in what is frozen and as many
# that train. This is the plain form, which the ImageNet row can start, with
# 341.77 G; for the other, add deep_stem=True, avg_down=True and a file of it
# that tools/convert_checkpoint.py makes with this config.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/sda/res2_resnet101_4xb64_in1k.py, or converted from the
# authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/res2_resnet101_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.Res2Net',
        depth=101,
        init_cfg=dict(checkpoint=pretrained_backbone, prefix='backbone.')))
