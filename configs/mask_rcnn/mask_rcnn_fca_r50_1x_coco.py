# SDA-xNet, tables 3 and 4: Mask R-CNN, FcaNet, COCO 1x. Published box AP 40.3,
# mask AP 36.2, 46.66 M parameters that train (stem and stage 1 are frozen),
# 261.93 G. Quoted there from FcaNet's paper. This is mmdet's stock 1x.
# Deviations: FcaNet's own config has one image per GPU and mines hard
# examples; it freezes all batch norms, and of the rest only the stem, which
# does not fit the published count.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

# The ImageNet checkpoint of the backbone: trained by
# configs/imagenet/sda/fca_resnet50_4xb64_in1k.py, or converted from the
# authors' file for that config by tools/convert_checkpoint.py.
pretrained_backbone = 'checkpoints/fca_resnet50_in1k.pth'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=[
            # Pooled to the maps of ImageNet's crops of 224 pixels.
            dict(type='Fca', ratio=16, dct_size=side)
            for side in (56, 28, 14, 7)
        ],
        init_cfg=dict(checkpoint=pretrained_backbone, prefix='backbone.')))
