"""Names of AFF's networks (YimianDai/open-aff), with AFF and with iAFF.

Those of the tables are Gluon's, by their structural names. The authors'
PyTorch port is another network, with torchvision's names; its iAFF uses the
first global branch twice, and the second, which it never uses, is dropped.
"""
from typing import List

from .convert import Rules, Table, below
from .torchvision import BLOCK, OURS, network


def _local(name: str, gate: str) -> Rules:
    return {f'{name}.{{}}.*': f'fusion.{gate}.local_branch.{{}}.*'}


def _global(name: str, *gates: str) -> Rules:
    """Theirs count the pooling before the branch, ours do not."""
    return {
        f'{name}.{i}.*': [
            f'fusion.{gate}.global_branch.{j}.*' for gate in gates
        ]
        for i, j in ((1, 0), (2, 1), (4, 3), (5, 4))
    }


AFF = {**_local('local_att', 'gate'), **_global('global_att', 'gate')}
IAFF = {
    **_local('local_att', 'first_gate'),
    **_global('global_att', 'first_gate'),
    **_local('local_att2', 'gate'),
    **_global('global_att2', 'gate'),
}
IAFF_OF_PORT = {
    **_local('local_att', 'first_gate'),
    **_global('global_att', 'first_gate', 'gate'),
    **_local('local_att2', 'gate'),
    'global_att2.{}.*': None,
}

DOWNSAMPLE = {'downsample.{}.*': 'downsample.{}.*'}
BODY = {
    'body.0.*': 'conv1.*',
    'body.1.*': 'bn1.*',
    'body.3.*': 'conv2.*',
    'body.4.*': 'bn2.*',
    'body.6.*': 'conv3.*',
    'body.7.*': 'bn3.*',
    **DOWNSAMPLE,
}
PREACTIVATED = {
    'resfwd.0.*': 'bn1.*',
    'resfwd.2.*': 'conv1.*',
    'resfwd.3.*': 'bn2.*',
    'resfwd.5.*': 'conv2.*',
    **DOWNSAMPLE,
}


def _stages(first: int, last: int, block: Rules) -> Rules:
    """Stages by their place among all layers."""
    rules = {}
    for stage, i in enumerate(range(first, last + 1), 1):
        ours = f'backbone.layer{stage}.{{}}.'
        rules.update(below(f'features.{i}.{{}}.', ours, block))
    return rules


def _resnet(fusion: Rules) -> Rules:
    return {
        'conv1.{}.*': 'backbone.stem.{}.*',
        'bn1.*': 'backbone.stem.7.*',
        **below('layer{}.{}.', OURS, {**BLOCK, **fusion}),
        'fc.*': 'head.fc.*',
    }


def _resnext(fusion: Rules) -> Rules:
    # only the first stage's shortcut has no pooling, which ours counts
    first = {f'downsample.{i}.*': f'downsample.{i + 1}.*' for i in (0, 1)}
    return {
        'features.{}.*': 'backbone.stem.{}.*',
        **below('features.10.{}.', 'backbone.layer1.{}.', first),
        **_stages(10, 13, {**BODY, **fusion}),
        'output.*': 'head.fc.*',
    }


def _cifar_resnet(fusion: Rules) -> Rules:
    return {
        # the image's norm, whose scale and shift are fixed at 1 and 0
        'features.0.weight': None,
        'features.0.bias': None,
        'features.0.*': 'backbone.bn0.*',
        'features.1.*': 'backbone.conv1.*',
        **_stages(2, 4, {**PREACTIVATED, **fusion}),
        'features.5.*': 'backbone.bn1.*',
        'output.*': 'head.fc.*',
    }


def _cifar_resnext(fusion: Rules) -> Rules:
    return {
        'features.0.*': 'backbone.conv1.*',
        'features.1.*': 'backbone.bn1.*',
        **_stages(3, 5, {**BODY, **fusion}),
        'output.*': 'head.fc.*',
    }


def _tables(kind: str, own: str, gluon: Rules, port: Rules) -> List[Table]:
    """``own`` is a name that every file of the kind has in its fusions."""
    fusion = below('attention.', '', gluon)
    in_features = 'features.{}.{}.attention.' + own
    return [
        Table(f'aff {kind} resnet',
              ('conv1.6.weight', 'layer{}.{}.attention.' + own),
              _resnet(fusion)),
        Table(f'aff {kind} resnext',
              ('features.13.{}.body.0.weight', in_features), _resnext(fusion)),
        Table(f'aff {kind} cifar resnet',
              ('features.{}.{}.resfwd.0.weight', in_features),
              _cifar_resnet(fusion)),
        Table(f'aff {kind} cifar resnext',
              ('features.5.{}.body.0.weight', in_features),
              _cifar_resnext(fusion)),
        Table(f'aff {kind} port',
              ('conv1.weight', 'layer{}.{}.fuse_mode.' + own),
              network(below('fuse_mode.', '', port))),
    ]


TABLES = (
    *_tables('aff', 'local_att.0.weight', AFF, AFF),
    *_tables('iaff', 'local_att2.0.weight', IAFF, IAFF_OF_PORT),
)
