from .base import Backbone
from .blocks import ResidualBlock, Stage
from .blresnet import BigLittle, BLBottleneck, BLResNet
from .lipresnet import LIPBottleneck, LIPResNet
from .mobile_blocks import (DepthwiseSeparable, InvertedResidual,
                            SKInvertedResidual)
from .mobilenet import MobileNet, MobileNetV2
from .mobilenets import MNASNet, MobileNetV1, MobileNetV3
from .mobilenext import MobileNeXt, SandGlass
from .preact import PreActBlock, PreActResNet_CIFAR
from .pyconvnet import PyConvBottleneck, PyConvResNet
from .res2net import Res2Bottleneck, Res2Net
from .resnet import ResNet
from .resnet_blocks import BasicBlock, Bottleneck, SKBottleneck
from .resnet_presets import (ResNet_CIFAR, ResNetV1c, ResNetV1d, ResNeXt,
                             SKNet)
from .scalenet import ScaleBottleneck, ScaleResNet

__all__ = [
    'BLBottleneck', 'BLResNet', 'Backbone', 'BasicBlock', 'BigLittle',
    'Bottleneck', 'DepthwiseSeparable', 'InvertedResidual', 'LIPBottleneck',
    'LIPResNet', 'MNASNet', 'MobileNeXt', 'MobileNet', 'MobileNetV1',
    'MobileNetV2', 'MobileNetV3', 'PreActBlock', 'PreActResNet_CIFAR',
    'PyConvBottleneck', 'PyConvResNet', 'Res2Bottleneck', 'Res2Net', 'ResNeXt',
    'ResNet', 'ResNetV1c', 'ResNetV1d', 'ResNet_CIFAR', 'ResidualBlock',
    'SKBottleneck', 'SKInvertedResidual', 'SKNet', 'SandGlass',
    'ScaleBottleneck', 'ScaleResNet', 'Stage'
]
