import math
from typing import Any, Optional, Tuple

from torch import Tensor, nn

from ..checks import make_divisible
from ..parts import Parts
from ..registry import MODELS
from .blocks import ResidualBlock, tap
from .mobile_blocks import conv_norm_act
from .mobilenet import MobileNet, Row


class SandGlass(ResidualBlock):
    """[depthwise, norm, act [, attention],] 1x1, norm, 1x1, norm, act
    [, depthwise, norm] [, attention]; the input added where shapes agree.

    The bottleneck of MobileNeXt: wide at both ends, spatial at both ends. As
    in the released code, a block that changes its width has no depthwise
    convolution at its start, and at its end only for a stride; the first
    block of the network (``expand_ratio`` 2) has both.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        stride: Of the last depthwise convolution.
        dilation: Of the depthwise convolutions.
        parts: The factories it is handed.
        carry_channels: What a link has to match.
        expand_ratio: Input over middle channels.
        whole: A block of its own stage: both depthwise convolutions, and no
            shortcut.

    Raises:
        ValueError: An attention at ``'hidden'`` of a block without the first
            depthwise convolution.
    """

    places = ('hidden', 'output')
    tap_names = ('hidden', 'expanded', 'output')

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None,
                 *,
                 expand_ratio: int = 6,
                 whole: bool = False):
        super().__init__(parts)
        same = in_channels == channels and stride == 1
        first = whole or same
        if parts.attention and parts.attention_at == 'hidden' and not first:
            raise ValueError(
                'a SandGlass that changes its width has no first depthwise '
                f'convolution ({in_channels} to {channels} channels), and so '
                "no place 'hidden'; give None for that block, as "
                'attention=[..., [None, dict(...), dict(...)], ...]')
        middle = in_channels // expand_ratio
        if middle < channels / 6:
            middle = make_divisible(math.ceil(channels / 6), 16)
        depthwise = dict(kernel_size=3, dilation=dilation)
        self.depthwise = None
        if first:
            self.depthwise = conv_norm_act(
                parts, in_channels, in_channels, groups=in_channels,
                **depthwise)
        self.reduce = conv_norm_act(parts, in_channels, middle, act=False)
        self.expand = conv_norm_act(parts, middle, channels)
        self.last_depthwise = None
        if first or stride != 1:
            self.last_depthwise = conv_norm_act(
                parts,
                channels,
                channels,
                stride=stride,
                groups=channels,
                act=False,
                **depthwise)
        self.add_parts(
            parts,
            channels,
            in_channels if parts.attention_at == 'hidden' else channels,
            carry_channels,
            join=same and not whole)
        self.act = nn.Identity()

    def branch(self,
               x: Tensor,
               carry: Any,
               taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        if self.depthwise is not None:
            x, carry = self.attend(self.depthwise(x), carry, at='hidden')
            tap(taps, 'hidden', x)
        x = self.expand(self.reduce(x))
        tap(taps, 'expanded', x)
        if self.last_depthwise is not None:
            x = self.last_depthwise(x)
        return x, carry


@MODELS.register_module()
class MobileNeXt(MobileNet):
    """MobileNeXt: bottlenecks turned inside out, spatial at their wide ends.

    The words are ``MobileNet``'s: 8 stages of 96, 144, 192, 288, 384, 576,
    960 and 1280 channels, no ``conv2``. Blocks that change their width have
    no place ``'hidden'`` but in stages of one block.

    Source: Zhou et al., "Rethinking Bottleneck Structure for Efficient Mobile
        Network Design", arXiv:2007.02269; the released code for which
        convolutions a block has, and for 3 blocks of 960 channels (the
        paper's table shows that stage twice, by mistake).
    """

    block = SandGlass
    last_channels = None
    table = (
        Row(96, 1, 2, dict(expand_ratio=2, whole=True)),
        Row(144, 1, 1, dict(whole=True)),
        Row(192, 3, 2),
        Row(288, 3, 2),
        Row(384, 4, 1),
        Row(576, 4, 2),
        Row(960, 3, 1),
        Row(1280, 1, 1, dict(whole=True)),
    )

    def widen(self, row: Row, widen_factor: float) -> int:
        if row is self.table[-1]:  # it is the width of the classifier
            widen_factor = max(1., widen_factor)
        return super().widen(row, widen_factor)
