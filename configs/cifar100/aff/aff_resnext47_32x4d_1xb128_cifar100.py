# AFF, table 2 (commented out there): AFF-ResNeXt-47-32x4d. Published 9.7 M
# parameters (with the statistics of the batch norms; 9,605,828 train),
# accuracy 91.8. That is on the 20 superclasses, after restarts; the author
# withdrew it; on the 100 fine labels, from scratch, which is what this config
# trains: published log 85.38.
_base_ = '../../_base_/cifar100_aff.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet_CIFAR',
        depth=(5, 5, 5),
        groups=32,
        base_width=4,
        avg_down=True,
        fusion=dict(type='AFF', ratio=16)),
    head=dict(in_channels=1024))
