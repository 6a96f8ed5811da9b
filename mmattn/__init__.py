"""Attention backbones for mmdet, mmsegmentation and mmpretrain.

Importing the package makes ``_base_ = 'mmattn::...'`` and, where
mmsegmentation is installed from a renamed distribution, ``'mmseg::...'``
resolve. It changes nothing else and imports no toolbox.
"""
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution

from mmengine.config.utils import MODULE2PACKAGE

__version__ = '0.1.0'


# What is imported when it is asked for; from mmattn.models unless it is here.
__all__ = ['fuse', 'get_model', 'list_models', 'record', 'register_models']
_PLACES = dict(fuse='mmattn.folding', record='mmattn.visualization.record')


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'mmattn' has no attribute {name!r}")
    return getattr(import_module(_PLACES.get(name, 'mmattn.models')), name)


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


MODULE2PACKAGE.setdefault('mmattn', 'mmattn')
if not _installed('mmsegmentation') and _installed('onedl-mmsegmentation'):
    MODULE2PACKAGE['mmseg'] = 'onedl-mmsegmentation'
