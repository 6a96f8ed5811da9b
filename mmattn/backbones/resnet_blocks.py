import math
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, Optional, Sequence, Tuple, Union

from mmengine.model import ModuleList
from torch import Tensor, nn

from ..parts import Parts
from .blocks import ResidualBlock


def downsample(parts: Parts,
               in_channels: int,
               out_channels: int,
               stride: int,
               avg_down: bool,
               norm: bool = True) -> Optional[nn.Module]:
    """The projection of a shortcut; None where shapes agree."""
    if stride == 1 and in_channels == out_channels:
        return None
    layers = []
    if avg_down:
        # At stride 1 there is nothing to pool; the slot keeps the names.
        layers.append(
            nn.Identity() if stride == 1 else nn.AvgPool2d(
                stride, stride, ceil_mode=True, count_include_pad=False))
        stride = 1
    layers.append(parts.conv(in_channels, out_channels, 1, stride=stride))
    if norm:
        layers.append(parts.norm(out_channels)[1])
    return nn.Sequential(*layers)


class BasicBlock(ResidualBlock):
    """3x3, norm, act, 3x3, norm [, attention].

    It has no hidden place for an attention, and no other spatial
    convolution fits it.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        stride: Of the first convolution.
        dilation: Of the first convolution.
        parts: The factories it is handed.
        carry_channels: What a link has to match.
        avg_down: Pool before the shortcut's projection.
    """

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None,
                 *,
                 avg_down: bool = False):
        super().__init__(parts)
        if parts.conv2:
            raise ValueError('conv2 and dcn replace the 3x3 convolution of a '
                             'Bottleneck; a BasicBlock (depth 18 and 34) has '
                             'none to replace')
        self.conv1 = parts.conv(
            in_channels,
            channels,
            3,
            stride=stride,
            padding=dilation,
            dilation=dilation)
        self.norm1_name = self.add_norm(parts, channels, 1)
        self.relu = parts.act(inplace=True)
        self.conv2 = parts.conv(channels, channels, 3, padding=1)
        self.norm2_name = self.add_norm(parts, channels, 2)
        self.downsample = downsample(parts, in_channels, channels, stride,
                                     avg_down)
        self.add_parts(parts, channels, channels, carry_channels)

    @property
    def last_norm(self) -> nn.Module:
        return getattr(self, self.norm2_name)

    def branch(self,
               x: Tensor,
               carry: Any,
               taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        y = self.relu(getattr(self, self.norm1_name)(self.conv1(x)))
        y = self.conv2(y)  # and lets go of its input
        return getattr(self, self.norm2_name)(y), carry


class Bottleneck(ResidualBlock):
    """1x1, norm, act, 3x3, norm, act [, attention], 1x1, norm [, attention].

    Args:
        in_channels: Input channels.
        channels: A quarter of the output channels.
        stride: Of the 3x3 convolution, or of the first 1x1 in style caffe.
        dilation: Of the 3x3 convolution.
        parts: The factories it is handed.
        carry_channels: What a link has to match.
        avg_down: Pool before the shortcut's projection.
        groups: Of the 3x3 convolution.
        width: Its channels over ``channels``.
        style: ``'pytorch'`` or ``'caffe'``.
    """

    expansion = 4
    places = ('hidden', 'output')

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None,
                 *,
                 avg_down: bool = False,
                 groups: int = 1,
                 width: Union[float, Fraction] = 1.,
                 style: str = 'pytorch'):
        super().__init__(parts)
        out_channels = channels * self.expansion
        hidden = math.floor(channels * width / groups) * groups
        if hidden < 1:
            raise ValueError(f'groups={groups} leave no channel for a 3x3 '
                             f'convolution of width {float(channels * width)}')
        stride1, stride2 = (stride, 1) if style == 'caffe' else (1, stride)
        self.conv1 = parts.conv(in_channels, hidden, 1, stride=stride1)
        self.norm1_name = self.add_norm(parts, hidden, 1)
        self.relu = parts.act(inplace=True)
        self.conv2 = (parts.conv2 or parts.conv)(
            hidden,
            hidden,
            3,
            stride=stride2,
            padding=dilation,
            dilation=dilation,
            groups=groups,
            bias=False)
        self.norm2_name = self.add_norm(parts, hidden, 2)
        self.conv3 = parts.conv(hidden, out_channels, 1)
        self.norm3_name = self.add_norm(parts, out_channels, 3)
        self.downsample = downsample(parts, in_channels, out_channels, stride,
                                     avg_down)
        self.add_parts(
            parts, out_channels,
            hidden if parts.attention_at == 'hidden' else out_channels,
            carry_channels)

    @property
    def last_norm(self) -> nn.Module:
        return getattr(self, self.norm3_name)

    def branch(self,
               x: Tensor,
               carry: Any,
               taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        y = self.relu(getattr(self, self.norm1_name)(self.conv1(x)))
        y, carry = self.attend(self.spatial(y), carry, at='hidden')
        y = self.conv3(y)  # and lets go of its input
        return getattr(self, self.norm3_name)(y), carry

    def spatial(self, x: Tensor) -> Tensor:
        """What the attention at ``'hidden'`` sees."""
        return self.relu(getattr(self, self.norm2_name)(self.conv2(x)))


def with_branches(parts: Parts, branches: Sequence[dict]) -> Parts:
    """The parts of a block whose attention fuses parallel convolutions.

    Raises:
        ValueError: There is no such fusion, or another spatial convolution.
    """
    if parts.attention is None:
        raise ValueError('branches need a fusion that joins their maps: '
                         "attention=dict(type='SelectiveFusion', "
                         'ratio=16, min_channels=1, bias=False)')
    if parts.conv2:
        raise ValueError('branches and conv2 (or dcn) both say what the '
                         '3x3 convolution is; give one')
    return replace(
        parts, attention=partial(parts.attention, num_maps=1 + len(branches)))


class SKBottleneck(Bottleneck):
    """A bottleneck with further 3x3 convolutions beside its own (SKNet).

    1x1, norm, act, M times (3x3, norm, act) on the same map, attention, 1x1,
    norm. The attention is a fusion of the M maps.

    Args:
        branches: For each further convolution its options: ``dilation``,
            multiplied with the block's, and ``groups``.
        in_channels, channels, stride, dilation, parts, carry_channels,
            settings: As for a bottleneck.

    Source: Li et al., "Selective Kernel Networks", arXiv:1903.06586.
    """

    places = ('hidden', )

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None,
                 *,
                 branches: Sequence[dict],
                 **settings: Any):
        super().__init__(in_channels, channels, stride, dilation,
                         with_branches(parts, branches), carry_channels,
                         **settings)
        self.branches = ModuleList()
        for options in branches:
            d = dilation * options.get('dilation', 1)
            hidden = self.conv2.out_channels
            conv = parts.conv(
                hidden,
                hidden,
                3,
                stride=self.conv2.stride,
                padding=d,
                dilation=d,
                groups=options.get('groups', self.conv2.groups))
            self.branches.append(
                nn.Sequential(conv,
                              parts.norm(hidden)[1], parts.act(inplace=True)))

    def spatial(self, x: Tensor) -> Tuple[Tensor, ...]:
        return (super().spatial(x), *(branch(x) for branch in self.branches))
