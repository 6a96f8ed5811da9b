# SDA-xNet, table 2: GSoP, quoted there from its own paper. Published 28.05 M
# parameters, 6.18 G, top-1 / top-5 77.68 / 93.98. That count fits three
# attentions, in stages 2 to 4 (28,054,440); the network of GSoP's authors,
# GSoP-Net1, has one at the end of each stage and 28,285,224. Its last stage
# keeps its size. It has GSoP's recipe: ECA-Net's over 95 epochs, lr 0.1 for a
# batch of 384.
_base_ = '../../_base_/imagenet_eca.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        strides=(1, 2, 2, 1),
        attention=[
            [None] * 2 + [dict(type='GSoP', stride=2)],
            [None] * 3 + [dict(type='GSoP')],
            [None] * 5 + [dict(type='GSoP')],
            [None] * 2 + [dict(type='GSoP')]
        ]))

train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=0.1 * 4 * 64 / 384))
train_cfg = dict(max_epochs=95)
