from .base import Backbone
from .blocks import ResidualBlock, Stage
from .preact import PreActBlock, PreActResNet_CIFAR
from .resnet import ResNet
from .resnet_blocks import BasicBlock, Bottleneck, SKBottleneck
from .resnet_presets import (ResNet_CIFAR, ResNetV1c, ResNetV1d, ResNeXt,
                             SKNet)

__all__ = [
    'Backbone', 'BasicBlock', 'Bottleneck', 'PreActBlock',
    'PreActResNet_CIFAR', 'ResNet', 'ResNetV1c', 'ResNetV1d', 'ResNeXt',
    'ResNet_CIFAR', 'ResidualBlock', 'SKBottleneck', 'SKNet', 'Stage'
]
