from dataclasses import replace
from functools import partial
from typing import Any, List, Optional, Sequence, Tuple, Union

from torch import Tensor, nn

from ..convs import LIP, LIPTrunk, SimplifiedLIP
from ..parts import Factory, Parts
from ..registry import MODELS
from .blocks import ResidualBlock
from .resnet import ResNet
from .resnet_blocks import Bottleneck


class LIPBottleneck(Bottleneck):
    """A bottleneck that pools with learned weights instead of striding.

    1x1, norm, act, LIP, 1x1, norm, act [, attention], 1x1, norm
    [, attention]; the shortcut is LIP, 1x1, norm. The weights of both
    poolings are read off one trunk, which sees the block's input.

    Args:
        stride: Of both poolings.
        dilation: 1; there is nothing to dilate.
        groups: Of the 1x1 convolution behind LIP.
        in_channels, channels, parts, carry_channels, settings: As for a
            bottleneck.

    Source: Gao et al., "LIP: Local Importance-based Pooling",
        arXiv:1908.04156, section 3.4, and the authors' released code.

    Raises:
        ValueError: ``conv2`` or a dilation. In forward: a 1x1 map.
    """

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None,
                 *,
                 groups: int = 1,
                 **settings: Any):
        if parts.conv2:
            raise ValueError(
                'conv2 and dcn replace 3x3 convolutions, and a block of '
                'LIPResNet that has a stride pools instead; give None for it, '
                'conv2=[X, [None, X, X, X], ...]')
        if dilation > 1:
            raise ValueError(
                f'dilation={dilation} is for a 3x3 convolution, and a block '
                'of LIPResNet that has a stride pools instead; give its stage '
                'the stride 1 (or contract_dilation=True if it has the '
                'dilation 2)')
        super().__init__(
            in_channels,
            channels,
            1,
            1,
            replace(parts, conv2=nn.Identity),
            carry_channels,
            groups=groups,
            **settings)
        hidden = self.conv1.out_channels
        self.lip_trunk = LIPTrunk(in_channels)
        self.lip = LIP(hidden, stride=stride)
        self.conv2 = parts.conv(hidden, hidden, 1, groups=groups)
        self.downsample_lip = LIP(in_channels, stride=stride)

    def _forward(self, x: Tensor, carry: Any, taps: Optional[dict]) -> Any:
        # What branch and shortcut both read.
        return super()._forward((x, self.lip_trunk(x)), carry, taps)

    def branch(self,
               x: Tuple[Tensor, Tensor],
               carry: Any,
               taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        x, trunk = x
        y = self.relu(getattr(self, self.norm1_name)(self.conv1(x)))
        y = self.spatial(self.lip(y, trunk))
        y, carry = self.attend(y, carry, at='hidden')
        return getattr(self, self.norm3_name)(self.conv3(y)), carry

    def shortcut(self, x: Tuple[Tensor, Tensor]) -> Tensor:
        return super().shortcut(self.downsample_lip(*x))


def lip_block(plain: Factory, pooling: Factory, in_channels: int,
              channels: int, stride: int, *args: Any) -> ResidualBlock:
    """One bottleneck or the other, by the stride."""
    block_type = pooling if stride > 1 else plain
    return block_type(in_channels, channels, stride, *args)


@MODELS.register_module()
class LIPResNet(ResNet):
    """ResNet that pools with weights it learns wherever it strides.

    In place of the stem's maximum pooling a ``SimplifiedLIP``, and in every
    block with a stride two ``LIP``; a stage of stride 1 has a ResNet's blocks.
    The words are those of ``ResNet``, but for ``branches``, and ``conv2`` and
    ``dcn`` of a block with a stride.

    What learns the weights belongs to the trunk: a ResNet's checkpoint, which
    has none and 3x3 convolutions in their place, is refused as the part of a
    trunk, and so is a classifier's for a dilated network, whose stages of
    stride 1 have 3x3 convolutions. Its norms are instance norms whatever
    ``norm_cfg`` says, so that no map they see may be 1x1: images have more
    than 16 pixels on a side.

    Names are a ResNet's; besides, ``maxpool.gate.*`` and
    ``layer2.0.{lip_trunk,lip,downsample_lip}.*``.

    Args:
        depth: 50, 86, 101, 152, or a tuple with the number of blocks of each
            stage.

    Source: Gao et al., "LIP: Local Importance-based Pooling",
        arXiv:1908.04156, sections 3.3 and 3.4, and the authors' released
        code.
    Departs: a constant less in the logits, which cancels.

    Raises:
        TypeError: An option it does not have.
        ValueError: ``style``, ``avg_down`` or ``branches``; ``conv2``,
            ``dcn`` or a dilation for a block with a stride; options that
            contradict each other or the depth. In forward: a 1x1 map.
    """

    arch_settings = {
        depth: (block, depths)
        for depth, (block, depths) in ResNet.arch_settings.items()
        if block is Bottleneck
    }

    def __init__(self,
                 depth: Union[int, Sequence[int]],
                 *,
                 style: str = 'pytorch',
                 avg_down: bool = False,
                 branches: None = None,
                 **kwargs: Any):
        if style != 'pytorch' or avg_down or branches is not None:
            raise ValueError('LIPResNet pools where a ResNet strides; style, '
                             'avg_down and branches belong to ResNet')
        super().__init__(depth, **kwargs)

    def add_stage(self, block_type: Any, rows: Sequence[dict],
                  *args: Any) -> Any:
        pooling = partial(LIPBottleneck, **block_type.keywords)
        return super().add_stage(
            partial(lip_block, block_type, pooling), rows, *args)

    def _add_stem(self, parts: Parts, in_channels: int, channels: int) -> None:
        super()._add_stem(parts, in_channels, channels)
        self.maxpool = SimplifiedLIP(channels)

    def stem_modules(self) -> List[nn.Module]:
        return [*super().stem_modules(), self.maxpool]
