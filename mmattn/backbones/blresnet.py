from dataclasses import replace
from functools import partial
from typing import Any, List, Optional, Sequence, Tuple, Union

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_positive, check_positives
from ..parts import Factory, Parts
from ..registry import MODELS
from .blocks import ResidualBlock, Stage
from .resnet import ResNet
from .resnet_blocks import Bottleneck


class BLBottleneck(Bottleneck):
    """A bottleneck whose shortcut takes the mean of 3x3 values.

    Where the block has a stride, zeros beyond the border among them; it is
    projected only where widths differ.

    Args:
        in_channels, channels, stride, dilation, parts, carry_channels,
            settings: As for a bottleneck, but for ``avg_down``.
    """

    def __init__(self, in_channels: int, channels: int, stride: int,
                 dilation: int, parts: Parts,
                 carry_channels: Optional[int] = None, **settings: Any):
        settings['avg_down'] = True  # a slot for the pooling
        super().__init__(in_channels, channels, stride, dilation, parts,
                         carry_channels, **settings)
        if stride > 1:
            self.downsample[0] = nn.AvgPool2d(3, stride=stride, padding=1)
            if in_channels == self.out_channels:
                self.downsample = self.downsample[:1]


class BigLittle(ResidualBlock):
    """``z = fusion(up(big(x)), project(little(x)))``, before the activation.

    Two rows of bottlenecks beside each other: the big one at half the size,
    whose result is enlarged by repeating values, and the little one at the
    full size with fewer channels. The attention, ``conv2`` and the fusion go
    to the bottlenecks of both; the fusion also joins the two.

    Args:
        block_type: A bottleneck; called like one.
        in_channels, channels, dilation, parts: As for a bottleneck.
        stride: 1; the result has the size of the input.
        carry_channels: What a link would have to match.
        alpha: ``channels`` over those of the little row.
        num_big, num_little: Blocks of each row.

    Raises:
        ValueError: A link; ``alpha`` does not divide ``channels``.
    """

    places = ('hidden', 'output')

    def __init__(self, block_type: Factory, in_channels: int, channels: int,
                 stride: int, dilation: int, parts: Parts,
                 carry_channels: Optional[int] = None, *, alpha: int,
                 num_big: int, num_little: int):
        super().__init__(parts)
        if parts.link:
            raise ValueError(
                'a link needs attentions one after the other, and the first '
                'block of stages 1 to 3 of a BLResNet has two rows beside '
                "each other; give link=[[None, dict(type='DCA')]] * 3 + "
                "[dict(type='DCA')], or none")
        if channels % alpha:
            raise ValueError(f'alpha={alpha} does not divide the {channels} '
                             'channels of a stage')
        inner = replace(parts, inplace=True)
        self.big = self._row(block_type, in_channels, channels, 2, dilation,
                             inner, num_big)
        # The sum of both is activated, by the stage.
        self.big[-1].act = nn.Identity()
        self.little = self._row(block_type, in_channels, channels // alpha, 1,
                                dilation, inner, num_little)
        out_channels = self.big[-1].out_channels
        self.little_e = nn.Sequential(
            parts.conv(self.little[-1].out_channels, out_channels, 1),
            parts.norm(out_channels)[1])
        # Rates, recomputing and attentions are the rows' blocks'.
        self.with_cp = False
        self.add_parts(
            replace(parts, attention=None, drop_path=0.), out_channels,
            out_channels, carry_channels)

    @staticmethod
    def _row(block_type: Factory, in_channels: int, channels: int,
             stride: int, dilation: int, parts: Parts, depth: int) -> Stage:
        blocks: List[Bottleneck] = []
        for _ in range(depth):
            blocks.append(
                block_type(in_channels, channels, stride, dilation, parts))
            in_channels, stride = blocks[-1].out_channels, 1
        return Stage(blocks)

    @property
    def last_norm(self) -> nn.Module:
        return self.big[-1].last_norm

    def branch(self,
               x: Tensor,
               carry: Any,
               taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        y, _ = self.big(x)
        return F.interpolate(y, x.shape[2:], mode='nearest'), carry

    def shortcut(self, x: Tensor) -> Tensor:
        return self.little_e(self.little(x)[0])


def bl_block(block_type: Factory, *args: Any,
             rows: Optional[dict] = None) -> ResidualBlock:
    """A bottleneck, or two rows of them."""
    if rows is None:
        return block_type(*args)
    return BigLittle(block_type, *args, **rows)


@MODELS.register_module()
class BLResNet(ResNet):
    """ResNet with a big and a little branch: deep at half size, thin at full.

    Stages 1 to 3 have two blocks, ``BigLittle`` and a bottleneck that has the
    stage's stride; stage 4 has bottlenecks. The words are those of
    ``ResNet``, lists for single blocks by these. A list tells what a link or
    a depth fusion cannot have: no link in a ``BigLittle``, no depth fusion
    over a stage whose two blocks differ in size.

    **Strides are not a ResNet's**: 8, 16, 16, 32 by default; ``out_strides``
    has those of the maps that are returned. A detector has to be told.

    Args:
        depth: 50, 101, 152, or a tuple with the number of blocks of each
            stage as of a ResNet: L bottlenecks become L - 1 in the big row,
            ``max(1, L // beta - 1)`` in the little one, and one behind.
        alpha: Channels of the big row over those of the little.
        beta: See ``depth``.
        strides: Of the bottleneck behind the rows, and of stage 4's first.

    Source: Chen et al., "Big-Little Net", arXiv:1807.03848, and the authors'
        released code.
    Departs: in no published depth; where a big row has one block, the
        released code would activate its result.

    Raises:
        TypeError: An option it does not have.
        ValueError: ``deep_stem``, ``avg_down`` or ``branches``; no big row;
            a link, a depth fusion or a block's own dilation where there can
            be none; options that contradict each other or the depth.
    """

    custom_block = BLBottleneck
    arch_settings = {
        50: (BLBottleneck, (3, 4, 6, 3)),
        101: (BLBottleneck, (4, 8, 18, 3)),
        152: (BLBottleneck, (5, 12, 30, 3)),
    }

    def __init__(self,
                 depth: Union[int, Sequence[int]],
                 *,
                 alpha: int = 2,
                 beta: int = 4,
                 strides: Sequence[int] = (2, 2, 1, 2),
                 deep_stem: bool = False,
                 avg_down: bool = False,
                 branches: None = None,
                 **kwargs: Any):
        check_positive(alpha=alpha, beta=beta)
        check_positives(strides=strides)
        if deep_stem or avg_down or branches is not None:
            raise ValueError('BLResNet has a stem and pooled shortcuts of its '
                             'own; deep_stem, avg_down and branches belong '
                             'to ResNet')
        self.alpha, self.beta, self.strides = alpha, beta, tuple(strides)
        super().__init__(depth, strides=strides, **kwargs)

    @property
    def out_strides(self) -> Tuple[int, ...]:
        """Size of the image over that of each map that is returned."""
        totals, total = [], 4
        for stride in self.strides:
            total *= stride
            totals.append(total)
        return tuple(totals[i] for i in sorted(set(self.out_indices)))

    def add_stage(self, block_type: Any, rows: Sequence[dict],
                  parts: Parts, words: dict, *args: Any) -> Any:
        block_type = partial(bl_block, block_type)
        stage = len(self.stage_names)
        if stage == 3:
            return super().add_stage(block_type, rows, parts, words, *args)
        first, last = rows[0], rows[-1]
        if len(rows) < 2:
            raise ValueError(f'layer{stage + 1} of a BLResNet needs 2 blocks '
                             'or more: one in the big row, one behind')
        if any(row['dilation'] != first['dilation'] for row in rows):
            raise ValueError(f'layer{stage + 1} of a BLResNet has one '
                             'dilation; contract_dilation and multi_grid are '
                             'for stage 4')
        if words['depth_fusion'] and first['stride'] > 1:
            raise ValueError(
                f'depth_fusion weighs maps of one size, and layer{stage + 1} '
                'of this BLResNet ends in a block of stride '
                f'{first["stride"]}; give None for it')
        branches = dict(
            alpha=self.alpha,
            num_big=len(rows) - 1,
            num_little=max(1, len(rows) // self.beta - 1))
        channels = first['channels'] * Bottleneck.expansion
        rows = [
            dict(first, stride=1, settings=dict(rows=branches)),
            dict(last, stride=first['stride'], in_channels=channels)
        ]
        return super().add_stage(block_type, rows, parts, words, *args)

    def _add_stem(self, parts: Parts, in_channels: int, channels: int) -> None:
        super()._add_stem(parts, in_channels, channels)
        del self.maxpool
        little = max(1, channels // self.alpha)
        self.b_conv0 = parts.conv(channels, channels, 3, stride=2, padding=1)
        self.bn_b0 = parts.norm(channels)[1]
        self.l_conv0 = parts.conv(channels, little, 3, padding=1)
        self.bn_l0 = parts.norm(little)[1]
        self.l_conv1 = parts.conv(little, little, 3, stride=2, padding=1)
        self.bn_l1 = parts.norm(little)[1]
        self.l_conv2 = parts.conv(little, channels, 1)
        self.bn_l2 = parts.norm(channels)[1]
        self.bl_init = parts.conv(channels, channels, 1)
        self.bn_bl_init = parts.norm(channels)[1]

    def forward_stem(self, x: Tensor) -> Tensor:
        x = self.relu(getattr(self, self.norm1_name)(self.conv1(x)))
        big = self.bn_b0(self.b_conv0(x))
        little = self.relu(self.bn_l0(self.l_conv0(x)))
        little = self.relu(self.bn_l1(self.l_conv1(little)))
        little = self.bn_l2(self.l_conv2(little))
        x = self.relu(big + little)
        return self.relu(self.bn_bl_init(self.bl_init(x)))

    def stem_modules(self) -> List[nn.Module]:
        return [
            module for name, module in self.named_children()
            if name not in (*self.stage_names, 'relu')
        ]
