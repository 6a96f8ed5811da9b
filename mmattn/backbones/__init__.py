from .base import Backbone
from .blocks import ResidualBlock, Stage
from .resnet import (BasicBlock, Bottleneck, ResNet, ResNetV1c, ResNetV1d,
                     ResNeXt)

__all__ = [
    'Backbone', 'BasicBlock', 'Bottleneck', 'ResNet', 'ResNetV1c',
    'ResNetV1d', 'ResNeXt', 'ResidualBlock', 'Stage'
]
