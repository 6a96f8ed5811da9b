# Recipe of Coordinate Attention's ImageNet rows (README and paper; there is
# no training script): SGD 0.05 for a batch of 256 on 4 GPUs, here 8 x 32,
# weight decay 4e-5, 200 epochs with a cosine to 0, no label smoothing, random
# resized crop and flip (here torchvision's, with Pillow's bilinear). Not
# settled: whether the cosine moves by epoch, as here, or by iteration.
# Dropout before the classifier is 0.1 in MobileNetV2, 0.2 in MobileNeXt.
# Deviation: the linear layers of SE and CBAM start as PyTorch's do, not as
# the other convolutions.
_base_ = [
    'mmpretrain::_base_/models/mobilenet_v2_1x.py',
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',
    'mmpretrain::_base_/schedules/imagenet_bs256_coslr.py',
    'mmpretrain::_base_/default_runtime.py'
]

model = dict(
    backbone=dict(type='mmattn.MobileNetV2'),
    head=dict(
        type='mmattn.classification.DropoutLinearClsHead', dropout_rate=0.1))

optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=4e-5))
train_cfg = dict(max_epochs=200)
param_scheduler = dict(T_max=200, end=200)
