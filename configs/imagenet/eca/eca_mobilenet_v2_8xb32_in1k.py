# ECA-Net, table 1: ECA-MobileNetV2. Published 3.34 M parameters, 319.9 M (in
# units of 2^20: 3,504,903 parameters), top-1 / top-5 72.56 / 90.81. Recipe
# (the authors' training script): SGD 0.045 for a batch of 96 (here scaled to
# 8 x 32), times 0.98 every epoch for 400 epochs, weight decay 4e-5 on all
# parameters, dropout of 0.25 before the classifier, torchvision's random
# resized crop and flip.
_base_ = [
    'mmpretrain::_base_/models/mobilenet_v2_1x.py',
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',
    'mmpretrain::_base_/schedules/imagenet_bs256_epochstep.py',
    'mmpretrain::_base_/default_runtime.py'
]

model = dict(
    backbone=dict(
        type='mmattn.MobileNetV2',
        attention=[
            dict(type='ECA', kernel_size=k) for k in (1, 1, 1, 1, 3, 3, 3)
        ],
        attention_at='output'),
    head=dict(
        type='mmattn.classification.DropoutLinearClsHead',
        dropout_rate=0.25))

optim_wrapper = dict(optimizer=dict(lr=0.045 * 8 * 32 / 96))
train_cfg = dict(max_epochs=400)
