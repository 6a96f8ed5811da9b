# Recipe of DCANet's mobile rows (the authors' training script): SGD 0.1 for a
# batch of 512, 5 epochs of warm-up from 0, then a cosine to 0 over 145, both
# by iteration; weight decay 4e-5, none on batch norms, biases and depthwise
# convolutions; dropout of 0.2 before the classifier; crops as for ResNet-50;
# single precision. Deviation: the linear layers of attentions and links start
# as PyTorch's do. The
# authors' MobileNetV2 starts them at N(0, 0.01); their MNASNet starts them
# and the classifier at N(0.01, 1), a slip that is not repeated (its SE and
# CBAM rows are below the plain one): backbone=dict(published_start=True) and
# head=dict(init_cfg=dict(type='Normal', layer='Linear', mean=0.01, std=1))
# would.
_base_ = './imagenet_dcanet.py'

batch_size = 8 * 64
max_epochs = 150
warmup_epochs = 5

model = dict(
    backbone=dict(_delete_=True, type='mmattn.MobileNetV2'),
    head=dict(
        type='mmattn.classification.DropoutLinearClsHead',
        in_channels=1280,
        dropout_rate=0.2))

train_dataloader = dict(batch_size=64)
val_dataloader = dict(batch_size=64)
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(lr=0.1, weight_decay=4e-5),
    paramwise_cfg=dict(
        norm_decay_mult=0.,
        bias_decay_mult=0.,
        dwconv_decay_mult=0.,
        # To mmengine a layer norm is a norm, and a 1x1 convolution from a
        # single channel (fc2 of the narrowest SE) depthwise; here they decay.
        custom_keys={
            name: dict(decay_mult=1.)
            for name in ('mix.norm.weight', 'match_fc.1.weight',
                         'match_fc.4.weight', 'fc2.weight')
        }))
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        convert_to_iter_based=True)
]
auto_scale_lr = dict(base_batch_size=batch_size)
