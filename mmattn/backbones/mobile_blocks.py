from collections import OrderedDict
from typing import Any, Optional, Sequence, Tuple

from mmengine.model import ModuleList
from torch import Tensor, nn

from ..parts import Parts
from .blocks import ResidualBlock, tap
from .resnet_blocks import with_branches


def conv_norm_act(parts: Parts,
                  in_channels: int,
                  out_channels: int,
                  kernel_size: int = 1,
                  *,
                  stride: int = 1,
                  dilation: int = 1,
                  groups: int = 1,
                  act: bool = True) -> nn.Sequential:
    """Convolution, norm and, if ``act``, activation: ``conv``, ``bn``."""
    name, norm = parts.norm(out_channels)
    layers = OrderedDict(
        conv=parts.conv(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2 * dilation,
            dilation=dilation,
            groups=groups))
    layers[name] = norm
    if act:
        layers['activate'] = parts.act(inplace=True)
    return nn.Sequential(layers)


class InvertedResidual(ResidualBlock):
    """[1x1, norm, act,] depthwise, norm, act [, attention], 1x1, norm
    [, attention]; the input added where shapes agree, nothing after.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        stride: Of the depthwise convolution.
        dilation: Of the depthwise convolution.
        parts: The factories it is handed.
        carry_channels: What a link has to match.
        expand_ratio: Hidden over input channels; 1 leaves the first 1x1 out.
        kernel_size: Of the depthwise convolution.
    """

    places = ('hidden', 'output')
    tap_names = ('expanded', 'hidden', 'output')

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None,
                 *,
                 expand_ratio: float = 6,
                 kernel_size: int = 3):
        super().__init__(parts)
        hidden = round(in_channels * expand_ratio)
        layers = []
        if expand_ratio != 1:
            layers.append(conv_norm_act(parts, in_channels, hidden))
        layers.append(
            conv_norm_act(
                parts,
                hidden,
                hidden,
                kernel_size,
                stride=stride,
                dilation=dilation,
                groups=hidden))
        layers.append(conv_norm_act(parts, hidden, channels, act=False))
        self.conv = nn.Sequential(*layers)
        self.add_parts(
            parts,
            channels,
            hidden if parts.attention_at == 'hidden' else channels,
            carry_channels,
            join=stride == 1 and in_channels == channels)
        self.act = nn.Identity()

    def branch(self,
               x: Tensor,
               carry: Any,
               taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        *expand, depthwise, project = self.conv
        for layer in expand:
            x = layer(x)
            tap(taps, 'expanded', x)
        x, carry = self.attend(
            self.spatial(depthwise, x), carry, at='hidden')
        tap(taps, 'hidden', x)
        return project(x), carry

    def spatial(self, depthwise: nn.Module, x: Tensor) -> Tensor:
        """What the attention at ``'hidden'`` sees."""
        return depthwise(x)


class SKInvertedResidual(InvertedResidual):
    """An inverted residual with further depthwise convolutions (SKNet).

    Args:
        branches: For each further convolution its options: ``dilation``,
            multiplied with the block's.
        in_channels, channels, stride, dilation, parts, carry_channels,
            settings: As for an inverted residual.
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
        conv = self.conv[-2].conv
        self.branches = ModuleList([
            conv_norm_act(
                parts,
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size[0],
                stride=stride,
                dilation=dilation * options.get('dilation', 1),
                groups=conv.groups) for options in branches
        ])

    def spatial(self, depthwise: nn.Module, x: Tensor) -> Tuple[Tensor, ...]:
        return (depthwise(x), *(branch(x) for branch in self.branches))


class DepthwiseSeparable(ResidualBlock):
    """depthwise, norm, act [, attention], 1x1, norm, act [, attention].

    No shortcut (MobileNetV1).

    Args:
        in_channels: Input channels.
        channels: Output channels.
        stride: Of the depthwise convolution.
        dilation: Of the depthwise convolution.
        parts: The factories it is handed.
        carry_channels: What a link has to match.
    """

    places = ('hidden', 'output')
    tap_names = ('hidden', 'output')

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None):
        super().__init__(parts)
        self.conv = nn.Sequential(
            conv_norm_act(
                parts,
                in_channels,
                in_channels,
                3,
                stride=stride,
                dilation=dilation,
                groups=in_channels),
            conv_norm_act(parts, in_channels, channels))
        self.add_parts(
            parts,
            channels,
            in_channels if parts.attention_at == 'hidden' else channels,
            carry_channels,
            join=False)
        self.act = nn.Identity()

    def branch(self,
               x: Tensor,
               carry: Any,
               taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        depthwise, pointwise = self.conv
        x, carry = self.attend(depthwise(x), carry, at='hidden')
        tap(taps, 'hidden', x)
        return pointwise(x), carry
