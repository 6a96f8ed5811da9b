"""Classes for mmsegmentation, named in configs by full path.

``type='mmattn.segmentation.DeepLabV3Head'`` resolves in any scope, without
``custom_imports``. Nothing here is registered under a short name.
"""
from .deeplab import DeepLabV3Head
from .loading import LoadAnnotations

__all__ = ['DeepLabV3Head', 'LoadAnnotations']
