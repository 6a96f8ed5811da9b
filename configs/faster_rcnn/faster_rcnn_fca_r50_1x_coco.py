# SDA-xNet, table 3: Faster R-CNN, FcaNet, COCO 1x. Published box AP 39.0,
# 44.02 M parameters that train (stem and stage 1 are frozen), 215.63 G. Quoted
# there from FcaNet's paper. Its config is mmdet's stock 1x with half the
# learning rate. Deviation: there, images are padded to 1333 x 800, not to a
# multiple of 32.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

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

optim_wrapper = dict(optimizer=dict(lr=0.01))
