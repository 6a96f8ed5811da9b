"""Classes for mmdet, named in configs by full path.

``type='mmattn.detection.SSDLiteHead'`` resolves in any scope, without
``custom_imports``. Nothing here is registered under a short name.
"""
from .extras import MobileNeXtNeck, SSDLiteNeck
from .ssd import SSDHead
from .ssdlite import SSDLiteAnchorGenerator, SSDLiteHead

__all__ = [
    'SSDHead', 'SSDLiteHead', 'SSDLiteAnchorGenerator', 'SSDLiteNeck',
    'MobileNeXtNeck'
]
