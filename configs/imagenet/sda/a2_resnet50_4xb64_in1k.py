# SDA-xNet, table 2: A2Net, quoted there from its own paper. Published 33.00 M
# parameters, 6.50 G, top-1 / top-5 77.00 / 93.50. A reconstruction, since no
# code is published: the paper's double attention of a quarter of the channels
# in every block of stages 2 and 3 has 32,897,064, 32.95 M with the statistics
# of its batch norms. Deviation there may be: it acts before the addition of
# the shortcut. It has SDA-xNet's recipe; the paper's, for batches of 2048,
# drops the rate on plateaus.
_base_ = '../../_base_/imagenet_sda.py'

model = dict(
    backbone=dict(
        type='mmattn.ResNet',
        attention=[None, dict(type='A2'), dict(type='A2'), None]))
