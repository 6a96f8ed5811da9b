from .aff import AFF, IAFF
from .base import Add, Fusion
from .psa import PSA
from .selective import SelectiveFusion

__all__ = ['AFF', 'Add', 'Fusion', 'IAFF', 'PSA', 'SelectiveFusion']
