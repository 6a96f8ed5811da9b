# SDA-xNet, table 2: BAM, quoted there from its own paper. Published 25.92 M
# parameters, 4.17 G, top-1 / top-5 75.98 / 92.82. It has BAM's recipe, which
# is ECA-Net's too, up to epoch 90, that of the published checkpoint.
_base_ = '../../_base_/imagenet_eca.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        stage_attention=[dict(type='BAM', ratio=16)] * 3 + [None]))

train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=90)
