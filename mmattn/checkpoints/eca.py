"""Names of ECA-Net's ResNets (BangguWu/ECANet)."""
from .convert import Table
from .torchvision import network

TABLES = (Table(
    name='eca',
    signature=('conv1.weight', 'layer{}.{}.eca.conv.weight'),
    rules=network({'eca.conv.*': 'attention.conv.*'})), )
