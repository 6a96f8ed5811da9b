from .base import Backbone
from .blocks import ResidualBlock, Stage
from .resnet import ResNet
from .resnet_blocks import BasicBlock, Bottleneck
from .resnet_presets import ResNetV1c, ResNetV1d, ResNeXt

__all__ = [
    'Backbone', 'BasicBlock', 'Bottleneck', 'ResNet', 'ResNetV1c',
    'ResNetV1d', 'ResNeXt', 'ResidualBlock', 'Stage'
]
