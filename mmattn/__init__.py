"""Attention backbones for mmdet, mmsegmentation and mmpretrain.

Importing the package makes ``_base_ = 'mmattn::...'`` and, where
mmsegmentation is installed from a renamed distribution, ``'mmseg::...'``
resolve. It changes nothing else and imports no toolbox.
"""
from importlib.metadata import PackageNotFoundError, distribution

from mmengine.config.utils import MODULE2PACKAGE

__version__ = '0.1.0'


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


MODULE2PACKAGE.setdefault('mmattn', 'mmattn')
if not _installed('mmsegmentation') and _installed('onedl-mmsegmentation'):
    MODULE2PACKAGE['mmseg'] = 'onedl-mmsegmentation'
