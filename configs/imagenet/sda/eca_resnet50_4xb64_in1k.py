# SDA-xNet, table 2: ECANet, quoted there from its own paper. Published 25.56 M
# parameters, 4.09 G, top-1 / top-5 77.48 / 93.68. It has ECA-Net's recipe.
_base_ = '../../_base_/imagenet_eca.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=[
            dict(type='ECA', kernel_size=k) for k in (3, 5, 5, 7)
        ]))

train_dataloader = dict(batch_size=64)
