from .base import Backbone
from .blocks import ResidualBlock, Stage
from .mobile_blocks import (DepthwiseSeparable, InvertedResidual,
                            SKInvertedResidual)
from .mobilenet import MobileNet, MobileNetV2
from .mobilenets import MNASNet, MobileNetV1, MobileNetV3
from .mobilenext import MobileNeXt, SandGlass
from .preact import PreActBlock, PreActResNet_CIFAR
from .resnet import ResNet
from .resnet_blocks import BasicBlock, Bottleneck, SKBottleneck
from .resnet_presets import (ResNet_CIFAR, ResNetV1c, ResNetV1d, ResNeXt,
                             SKNet)

__all__ = [
    'Backbone', 'BasicBlock', 'Bottleneck', 'DepthwiseSeparable',
    'InvertedResidual', 'MNASNet', 'MobileNeXt', 'MobileNet', 'MobileNetV1',
    'MobileNetV2', 'MobileNetV3', 'PreActBlock', 'PreActResNet_CIFAR',
    'ResNeXt', 'ResNet', 'ResNetV1c', 'ResNetV1d', 'ResNet_CIFAR',
    'ResidualBlock', 'SKBottleneck', 'SKInvertedResidual', 'SKNet',
    'SandGlass', 'Stage'
]
