"""Names of ECA-Net's ResNets and MobileNetV2 (BangguWu/ECANet)."""
from .convert import Table
from .mobile import FIRST, INVERTED, mobilenet_v2
from .torchvision import network

TABLES = (
    Table(
        name='eca',
        signature=('conv1.weight', 'layer{}.{}.eca.conv.weight'),
        rules=network({'eca.conv.*': 'attention.conv.*'})),
    Table(
        name='eca mobilenet_v2',
        signature=('features.0.0.weight', 'features.{}.conv.4.conv.weight'),
        # behind the last norm of the sequence
        rules=mobilenet_v2(
            first={
                **FIRST, 'conv.3.conv.*': 'attention.conv.*'
            },
            others={
                **INVERTED, 'conv.4.conv.*': 'attention.conv.*'
            })),
)
