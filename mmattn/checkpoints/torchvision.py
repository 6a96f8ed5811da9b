"""Names of torchvision's ResNets, which many published baselines share.

Other sources extend the rules of this one.
"""
from .convert import Rules, Table, below

OURS = 'backbone.layer{}.{}.'
BLOCK = {
    'conv{}.*': 'conv{}.*',
    'bn{}.*': 'bn{}.*',
    'downsample.{}.*': 'downsample.{}.*',
}
BACKBONE = {
    'conv1.*': 'backbone.conv1.*',
    'bn1.*': 'backbone.bn1.*',
    **below('layer{}.{}.', OURS, BLOCK),
}


def network(parts: Rules) -> Rules:
    """A classifier with ``parts`` in its blocks."""
    return {
        **BACKBONE, 'fc.*': 'head.fc.*',
        **below('layer{}.{}.', OURS, parts)
    }


TABLES = (Table(
    name='torchvision',
    signature=('conv1.weight', 'layer{}.{}.conv1.weight',
               'layer{}.{}.bn1.weight'),
    rules=network({})), )
