from .a2 import A2
from .bam import BAM
from .base import Attention, Chain
from .cbam import CBAM
from .coord import CoordAttention
from .eca import ECA
from .fca import Fca
from .gc import GC
from .ge import GE
from .gsop import GSoP
from .mscam import MSCAM
from .sa import SA
from .se import SE
from .sge import SGE

__all__ = [
    'A2', 'Attention', 'BAM', 'CBAM', 'Chain', 'CoordAttention', 'ECA', 'Fca',
    'GC', 'GE', 'GSoP', 'MSCAM', 'SA', 'SE', 'SGE'
]
