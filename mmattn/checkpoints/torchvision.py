"""Names of torchvision's ResNets, MobileNetV2 and MNASNet.

Many published baselines share them, and other sources extend their rules.
"""
from .convert import Rules, Table, below
from .mobile import mnasnet, mobilenet_v2

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


TABLES = (
    Table(
        name='torchvision',
        signature=('conv1.weight', 'layer{}.{}.conv1.weight',
                   'layer{}.{}.bn1.weight'),
        rules=network({})),
    Table(
        name='torchvision mobilenet_v2',
        signature=('features.0.0.weight', 'features.{}.conv.0.0.weight',
                   'features.18.0.weight'),
        rules=mobilenet_v2()),
    Table(
        name='torchvision mnasnet',
        signature=('layers.0.weight', 'layers.{}.{}.layers.0.weight'),
        rules=mnasnet()),
)
