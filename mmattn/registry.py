"""Registries of mmattn. ``type='mmattn.X'`` finds them from any toolbox."""
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=ROOT_MODELS,
    scope='mmattn',
    locations=[
        'mmattn.attentions', 'mmattn.fusions', 'mmattn.links',
        'mmattn.convs', 'mmattn.backbones', 'mmattn.necks'
    ])
HOOKS = Registry(
    'hook',
    parent=ROOT_HOOKS,
    scope='mmattn',
    locations=[
        'mmattn.checkpoints.report', 'mmattn.visualization.hooks',
        'mmattn.engine.randomness', 'mmattn.engine.saving'
    ])
TRANSFORMS = Registry(
    'transform',
    parent=ROOT_TRANSFORMS,
    scope='mmattn',
    locations=['mmattn.engine.images'])
