# Recipe of ECA-Net's ResNets (the authors' training script; CBAM's is the
# same): SGD 0.1 for a batch of 256, weight decay 1e-4 on all parameters, 100
# epochs with steps after 30, 60 and 90, no warm-up, no label smoothing,
# torchvision's random resized crop and flip (Pillow's bilinear). Residual
# branches do not start at zero.
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py'
]

model = dict(backbone=dict(zero_init_residual=False))
