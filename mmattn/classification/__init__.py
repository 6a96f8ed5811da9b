"""Classes for mmpretrain, named in configs by full path.

``type='mmattn.classification.DropoutLinearClsHead'`` resolves in any scope,
without ``custom_imports``. Nothing here is registered under a short name.
"""
from .head import DropoutLinearClsHead

__all__ = ['DropoutLinearClsHead']
