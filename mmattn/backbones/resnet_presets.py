from typing import Any

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
