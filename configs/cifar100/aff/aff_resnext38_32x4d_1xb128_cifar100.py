# AFF, table 2 (commented out there): AFF-ResNeXt-38-32x4d. Published 7.8 M
# parameters (with the statistics of the batch norms; 7,770,148 train),
# accuracy 91.2. That is on the 20 superclasses, after restarts; the author
# withdrew it; there is no run on the 100 fine labels, which is what this
# config trains.
_base_ = '../../_base_/cifar100_aff.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet_CIFAR',
        depth=(4, 4, 4),
        groups=32,
        base_width=4,
        avg_down=True,
        fusion=dict(type='AFF', ratio=16)),
    head=dict(in_channels=1024))
