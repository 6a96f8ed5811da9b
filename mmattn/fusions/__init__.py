from .aff import AFF, IAFF
from .base import Add, Fusion
from .selective import SelectiveFusion

__all__ = ['AFF', 'Add', 'Fusion', 'IAFF', 'SelectiveFusion']
