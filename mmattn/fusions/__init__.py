from .base import Add, Fusion
from .selective import SelectiveFusion

__all__ = ['Add', 'Fusion', 'SelectiveFusion']
