# SDA-xNet, table 2: CBAM, quoted there from its own paper. Published 30.62 M
# parameters, 4.10 G, top-1 / top-5 77.34 / 93.69. That count holds the channel
# gates twice; the network has 28,089,624. It has CBAM's recipe, which is
# ECA-Net's too. Deviation: there, the norms of the spatial gates start at
# zero.
_base_ = '../../_base_/imagenet_eca.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=dict(
            type='CBAM', ratio=16, norm_cfg=dict(type='BN', momentum=0.01))))

train_dataloader = dict(batch_size=64)
