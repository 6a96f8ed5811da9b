# Recipe of SDA-xNet's ImageNet rows (the authors' training script): SGD 0.1
# for a batch of 256, weight decay 1e-4 on all parameters, 120 epochs with
# steps after 31, 61 and 91, label smoothing 0.1, no warm-up, torchvision's
# random resized crop and flip (Pillow's bilinear). Residual branches do not
# start at zero. The script made a new optimizer every epoch, which empties
# the momentum; that is not repeated. Networks with depth attention have one
# layer more: imagenet_sda_depth.py.
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_pil_resize.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py'
]

model = dict(
    backbone=dict(zero_init_residual=False),
    head=dict(
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=1000)))

train_cfg = dict(max_epochs=120)
param_scheduler = dict(milestones=[31, 61, 91])
