"""Names of the toolboxes' own attention ResNets.

Squeeze-and-excitation as in mmpretrain's ``SEResNet``, global context as the
plugin ``ContextBlock``. The toolboxes' plain ResNets have our names: nothing
is to be converted.
"""
from .convert import Rules, Table, below
from .dcanet import gc
from .torchvision import network

PARTS = {
    'se_layer': {
        'se_layer.conv1.conv.*': 'attention.fc1.*',
        'se_layer.conv2.conv.*': 'attention.fc2.*',
    },
    'context_block': gc('context_block'),
}


def _whole(rules: Rules) -> Rules:
    """Of a whole model: its backbone, and its classifier by our name."""
    backbone = {k: v for k, v in rules.items() if k != 'fc.*'}
    return {**below('backbone.', '', backbone), 'head.fc.*': 'head.fc.*'}


TABLES = tuple(
    Table(
        name=f'openmmlab {prefix}{name}',
        signature=(f'{prefix}conv1.weight',
                   prefix + 'layer{}.{}.' + next(iter(part))),
        rules=rules(network(part)))
    for name, part in PARTS.items()
    for prefix, rules in (('', dict), ('backbone.', _whole)))
