# Recipe of SDA-xNet's ImageNet rows (the authors' released training script):
# SGD 0.1 for a total batch of 256, weight decay on all parameters, 120 epochs
# with steps after 31, 61 and 91, label smoothing 0.1, no warm-up. The batch
# norm between pooling and classifier belongs to every network with depth
# attention.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py'
]

model = dict(
    type='ImageClassifier',
    neck=[
        dict(type='GlobalAveragePooling'),
        dict(
            type='ClsBatchNormNeck',
            input_features=2048,
            affine=True,
            eps=1e-5)
    ],
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=1000),
        topk=(1, 5)))

train_cfg = dict(max_epochs=120)
param_scheduler = dict(milestones=[31, 61, 91])
