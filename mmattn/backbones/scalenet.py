import math
from dataclasses import replace
from fractions import Fraction
from typing import Any, Optional, Sequence, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import LIMIT, is_int, is_list
from ..parts import Parts
from ..registry import MODELS
from .resnet import ResNet
from .resnet_blocks import Bottleneck

# How much smaller the map is that each convolution of a block sees.
RATIOS = (1, 2, 4, 7)
# Channels of these convolutions and the side of the block's map in an image of
# 224 pixels, for the blocks of each stage.
ALLOCATIONS = dict(
    plain=(((62, 9, 5, 12, 56), (55, 27, 5, 1, 56), (59, 26, 0, 3, 56)),
           ((125, 41, 6, 3, 28), (90, 39, 9, 37, 28), (106, 56, 4, 9, 28),
            (116, 56, 3, 0, 28)),
           ((223, 71, 55, 0, 14), (196, 104, 44, 5, 14),
            (195, 98, 52, 4, 14), (155, 128, 66, 0, 14),
            (134, 129, 86, 0, 14), (120, 127, 98, 4, 14)),
           ((237, 354, 106, 0, 7), (172, 435, 90, 0, 7),
            (138, 462, 97, 0, 7))),
    light=(((30, 8, 10, 16, 56), (30, 9, 9, 16, 56), (30, 27, 7, 0, 56)),
           ((59, 55, 13, 1, 28), (59, 43, 8, 18, 28), (59, 57, 12, 0, 28),
            (59, 59, 9, 1, 28)),
           ((117, 65, 71, 3, 14), (107, 16, 33, 100, 14),
            (111, 49, 62, 34, 14), (106, 61, 61, 28, 14),
            (99, 71, 59, 27, 14), (76, 50, 67, 63, 14)),
           ((141, 182, 189, 0, 7), (83, 9, 185, 235, 7),
            (77, 16, 184, 235, 7))))


def _enlarge_side(x: Tensor, dim: int, size: int, ratio: int,
                  rest: int) -> Tensor:
    """Read each place of an enlarged side from two places of the map.

    Args:
        x: The map.
        dim: -2 or -1.
        size: Of the result.
        ratio: Of the result to the map, whose side is ``size // ratio``.
        rest: 0 where values are repeated, else they are interpolated.
    """
    count = size // ratio
    dtype = torch.promote_types(x.dtype, torch.float32)
    place = torch.arange(size, dtype=dtype, device=x.device)
    between = ((place + 0.5) * count / size - 0.5).clamp(min=0)
    # No branch: a file would keep the one that its example took.
    source = torch.where(rest + 0 * place == 0, (place / ratio).floor(),
                         between)
    low = source.long()
    high = low + (low + 1 < count)
    share = (source - low).to(x.dtype).view(-1, *[1] * (-1 - dim))
    return (x.index_select(dim, low) * (1 - share) +
            x.index_select(dim, high) * share)


def enlarge(x: Tensor, size: Sequence[int], ratio: int) -> Tensor:
    """Bring a map that was pooled by ``ratio`` back to ``size``.

    By repeating values where the ratio divides both sides, else bilinearly.
    Traced, or with symbolic sizes, it does either by the size it is run on.
    """
    height, width = size
    rest = height % ratio + width % ratio
    if torch.jit.is_tracing() or isinstance(rest, torch.SymInt):
        x = _enlarge_side(x, -1, width, ratio, rest)
        return _enlarge_side(x, -2, height, ratio, rest)
    return F.interpolate(x, size, mode='bilinear' if rest else 'nearest')


class ScaleBottleneck(Bottleneck):
    """A bottleneck whose 3x3 convolutions see the map at several scales.

    1x1, norm, act, for each scale (pool by the maximum, 3x3, enlarge, norm),
    concatenate, act [, attention], 1x1, norm [, attention]. Where the block
    has a stride, its input is pooled by the maximum before both branch and
    shortcut.

    A map is enlarged by repeating values where the ratio divides both sides,
    else bilinearly. ``conv2`` replaces every 3x3 convolution.

    Args:
        allocation: Channels of each scale's convolution, at 0 there is none;
            and the nominal side of the map. Kernels are 1x1 where that is
            at most 1, 2, 4 and 8.
        width: Input channels of the 3x3 convolutions over ``channels``.
        in_channels, channels, stride, dilation, parts, carry_channels,
            settings: As for a bottleneck.

    Source: Li et al., "Data-Driven Neuron Allocation for Scale Aggregation
        Networks", arXiv:1904.09460, and the authors' released code.

    Raises:
        ValueError: ``allocation`` is not of four widths, one or more above
            0, and a side; ``width`` leaves no channel; a map is smaller than
            what it is to be pooled by.
    """

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None,
                 *,
                 allocation: Sequence[int],
                 width: Union[float, Fraction] = 1.,
                 **settings: Any):
        if (not is_list(allocation) or len(allocation) != len(RATIOS) + 1
                or not all(is_int(n) and 0 <= n <= LIMIT for n in allocation)
                or not any(allocation[:-1]) or allocation[-1] < 1):
            raise ValueError(
                'allocation has for each block the channels of its '
                f'convolutions at the ratios {RATIOS}, one or more above 0, '
                'and the side of its map in an image of 224 pixels; got '
                f'{allocation!r}')
        *counts, side = allocation
        # What follows the 3x3 convolutions has their width.
        super().__init__(
            in_channels,
            channels,
            1,
            dilation,
            replace(parts, conv2=nn.Identity),
            carry_channels,
            width=Fraction(sum(counts), channels),
            **settings)
        hidden = math.floor(channels * width)
        if hidden < 1:
            raise ValueError('base_width leaves no channel for the 3x3 '
                             'convolutions; give a larger one')
        self.stride = stride
        self.conv1 = parts.conv(in_channels, hidden, 1)
        self.add_norm(parts, hidden, 1)
        self.conv2 = nn.ModuleDict()
        norms = nn.ModuleDict()
        for i, count in enumerate(counts):
            if count:
                kernel_size = 1 if side <= 2**i else 3
                self.conv2[str(i)] = (parts.conv2 or parts.conv)(
                    hidden,
                    count,
                    kernel_size,
                    stride=1,
                    padding=dilation * (kernel_size // 2),
                    dilation=dilation,
                    groups=1,
                    bias=False)
                norms[str(i)] = parts.norm(count)[1]
        self.add_module(self.norm2_name, norms)

    def _forward(self, x: Tensor, carry: Any, taps: Optional[dict]) -> Any:
        if self.stride > 1:
            x = self._pool(x, self.stride)
        return super()._forward(x, carry, taps)

    @staticmethod
    def _pool(x: Tensor, ratio: int) -> Tensor:
        if min(x.shape[2:]) < ratio:
            raise ValueError(
                f'ScaleResNet pools a map of {x.shape[2]}x{x.shape[3]} by '
                f'{ratio}, which leaves nothing; use larger images')
        return F.max_pool2d(x, ratio)

    def spatial(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        ys = []
        for i, conv in self.conv2.items():
            ratio = RATIOS[int(i)]
            if ratio == 1:
                y = conv(x)
            else:
                y = enlarge(conv(self._pool(x, ratio)), size, ratio)
            ys.append(getattr(self, self.norm2_name)[i](y))
        return self.relu(torch.cat(ys, 1))


@MODELS.register_module()
class ScaleResNet(ResNet):
    """ResNet whose bottlenecks look at the map at four scales.

    How many channels each block spends on each scale was learned, and is a
    table. The words are those of ``ResNet``, but for ``branches`` and
    ``dcn``; ``conv2`` replaces every 3x3 convolution.

    Maps are pooled, so that an odd side loses its last row: strides are 4, 8,
    16 and 32, and sides are rounded down. The smallest image is 7 times the
    stride of the deepest block that looks at the ratio 7 (112 at depth 50,
    224 in its light form).

    Args:
        depth: 50, or a tuple with the number of blocks of each stage.
        allocation: ``'plain'`` or ``'light'``, of depth 50; or for each stage
            a list with, for each block, the channels at the ratios 1, 2, 4
            and 7 and the side of its map in an image of 224 pixels (the form
            of the released tables).
        base_width: As for ``ResNet``: input channels of the 3x3 convolutions.

    Source: Li et al., "Data-Driven Neuron Allocation for Scale Aggregation
        Networks", arXiv:1904.09460, and the authors' released code.
    Departs: a scale without channels is not computed, so that maps may be
        smaller than its ratio. Depth 101's table is not here.

    Raises:
        TypeError: An option it does not have.
        ValueError: ``groups``, ``style``, ``avg_down``, ``branches`` or
            ``dcn``; an allocation that does not fit the depth; options that
            contradict each other; at run time, a map too small to pool.
    """

    custom_block = ScaleBottleneck
    arch_settings = {50: (ScaleBottleneck, (3, 4, 6, 3))}

    def __init__(self,
                 depth: Union[int, Sequence[int]],
                 *,
                 allocation: Union[str, Sequence] = 'plain',
                 groups: int = 1,
                 style: str = 'pytorch',
                 avg_down: bool = False,
                 branches: None = None,
                 dcn: None = None,
                 **kwargs: Any):
        if (groups != 1 or style != 'pytorch' or avg_down
                or branches is not None or dcn is not None):
            raise ValueError('ScaleResNet has convolutions, strides and '
                             'shortcuts of its own; groups, style, avg_down, '
                             'branches and dcn belong to ResNet')
        if isinstance(allocation, str):
            allocation = ALLOCATIONS.get(allocation, allocation)
        if not is_list(allocation) or not all(map(is_list, allocation)):
            raise ValueError("allocation must be 'plain', 'light' or a list "
                             f'for each stage, got {allocation!r}')
        self.allocation = allocation
        super().__init__(depth, **kwargs)

    def add_stage(self, block_type: Any, rows: Sequence[dict],
                  *args: Any) -> Any:
        stage = len(self.stage_names)
        given = self.allocation[stage:stage + 1]
        if not given or len(given[0]) != len(rows):
            raise ValueError(
                f'allocation has {len(given[0]) if given else 0} entries for '
                f'the {len(rows)} blocks of layer{stage + 1}')
        rows = [
            dict(row, settings=dict(allocation=allocation))
            for row, allocation in zip(rows, given[0])
        ]
        return super().add_stage(block_type, rows, *args)
