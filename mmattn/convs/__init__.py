from .attention_augmented import AAConv
from .branches import PSAConv, PyConv
from .lip import LIP, LIPTrunk, SimplifiedLIP, lip_pool

__all__ = [
    'AAConv', 'LIP', 'LIPTrunk', 'PSAConv', 'PyConv', 'SimplifiedLIP',
    'lip_pool'
]
