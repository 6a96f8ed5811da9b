from typing import Any, Sequence

from torch import Tensor

from ..parts import Parts, Word
from ..registry import MODELS
from .resnet import ResNet


@MODELS.register_module()
class ResNetV1c(ResNet):
    """ResNet with a deep stem; the rest as ``ResNet``."""

    def __init__(self, depth, *, deep_stem: bool = True, **kwargs: Any):
        super().__init__(depth, deep_stem=deep_stem, **kwargs)


@MODELS.register_module()
class ResNetV1d(ResNet):
    """ResNet with a deep stem and pooled shortcuts; the rest as ``ResNet``."""

    def __init__(self,
                 depth,
                 *,
                 deep_stem: bool = True,
                 avg_down: bool = True,
                 **kwargs: Any):
        super().__init__(
            depth, deep_stem=deep_stem, avg_down=avg_down, **kwargs)


@MODELS.register_module()
class ResNeXt(ResNet):
    """ResNet with 32 groups of 4 channels; the rest as ``ResNet``.

    With ``groups=1`` it is the plain ResNet, whatever the width says.
    """

    def __init__(self, depth, *, groups: int = 32, **kwargs: Any):
        if groups == 1:
            kwargs.update(base_width=None, width_per_group=None)
        elif kwargs.get('width_per_group') is None:
            kwargs.setdefault('base_width', 4)
        super().__init__(depth, groups=groups, **kwargs)


@MODELS.register_module()
class SKNet(ResNet):
    """ResNet whose blocks choose among 3x3 convolutions; as ``ResNet`` else.

    ``y = sum_m a_m * x_m`` over the maps ``x_m`` of parallel 3x3
    convolutions, each with its norm and activation; ``a`` is
    ``SelectiveFusion``'s softmax over m.

    Source: Li et al., "Selective Kernel Networks", arXiv:1903.06586, on a
        plain ResNet as in DCANet's tables: the second convolution is dilated
        by 2, the hidden width has no floor.
    """

    def __init__(
        self,
        depth,
        *,
        branches: Sequence[dict] = (dict(dilation=2), ),
        attention: Word = dict(
            type='SelectiveFusion', ratio=16, min_channels=1, bias=False),
        **kwargs: Any):
        super().__init__(
            depth, branches=branches, attention=attention, **kwargs)


@MODELS.register_module()
class ResNet_CIFAR(ResNet):
    """ResNet for small images: a 3x3 stem of stride 1 and no pooling.

    The rest as ``ResNet``; mmpretrain's class of that name without parts.
    """

    def __init__(self, depth, *, deep_stem: bool = False, **kwargs: Any):
        if deep_stem:
            raise ValueError(f'{type(self).__name__} has a 3x3 stem; '
                             'deep_stem=True belongs to ResNet')
        super().__init__(depth, **kwargs)

    def _add_stem(self, parts: Parts, in_channels: int, channels: int) -> None:
        self.conv1 = parts.conv(in_channels, channels, 3, padding=1)
        self.norm1_name, norm = parts.norm(channels, postfix=1)
        self.add_module(self.norm1_name, norm)
        self.relu = parts.act(inplace=True)

    def forward_stem(self, x: Tensor) -> Tensor:
        return self.relu(getattr(self, self.norm1_name)(self.conv1(x)))
