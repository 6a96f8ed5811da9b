from .base import Attention, Chain
from .cbam import CBAM
from .coord import CoordAttention
from .eca import ECA
from .gc import GC
from .ge import GE
from .mscam import MSCAM
from .se import SE

__all__ = [
    'Attention', 'CBAM', 'Chain', 'CoordAttention', 'ECA', 'GC', 'GE',
    'MSCAM', 'SE'
]
