"""Names of SDA-xNet's ResNets (QingbeiGuo/SDA-xNet), of any depth.

The baselines of that source have torchvision's names.
"""
import torch

from .convert import Table

TABLE = Table(
    name='sda',
    signature=('stage{}.layers.{}.conv1.weight', 'stage{}.fc.0.weight',
               'stage{}.fcs.{}.weight'),
    rules={
        'conv1.*': 'backbone.conv1.*',
        'bn1.*': 'backbone.bn1.*',
        'stage{}.layers.{}.conv{}.*': 'backbone.layer{}.{}.conv{}.*',
        'stage{}.layers.{}.bn{}.*': 'backbone.layer{}.{}.bn{}.*',
        'stage{}.layers.{}.downsample.{}.*':
        'backbone.layer{}.{}.downsample.{}.*',
        'stage{}.fc.0.*': 'backbone.layer{}.depth_fusion.squeeze.*',
        'stage{}.fc.1.*': 'backbone.layer{}.depth_fusion.norm.*',
        # one convolution for each block of the stage; ours is all of them
        'stage{}.fcs.{}.*':
        ('backbone.layer{}.depth_fusion.project.*', torch.cat),
        # the classifier's own norm, not a block's
        'bn2.*': 'neck.1.bn.*',
        'fc.*': 'head.fc.*',
    })
