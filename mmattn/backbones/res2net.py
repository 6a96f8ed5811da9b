import math
from dataclasses import replace
from fractions import Fraction
from typing import Any, Optional, Sequence, Union

import torch
from mmengine.model import ModuleList
from torch import Tensor, nn

from ..checks import check_positive
from ..parts import Parts
from ..registry import MODELS
from .resnet import ResNet
from .resnet_blocks import Bottleneck


class Res2Bottleneck(Bottleneck):
    """A bottleneck whose 3x3 convolutions see each other's results.

    1x1, norm, act, split into ``scales`` maps, 3x3, norm, act on all but the
    last, concatenate [, attention], 1x1, norm [, attention]. Behind the first
    convolution each takes the sum of its own map and the last result:
    ``y_i = f_i(x_i + y_(i-1))``; the last map passes.

    In the first block of a stage the convolutions do not see each other,
    ``y_i = f_i(x_i)``, and the last map is pooled: the mean of 3x3 values,
    zeros beyond the border among them, also where the stride is 1.

    ``conv2`` replaces every 3x3 convolution.

    Args:
        scales: How many maps the hidden map is split into.
        first: Whether it is the first block of a stage.
        groups: Of the 3x3 convolutions.
        width: Channels of one map over ``channels``.
        in_channels, channels, stride, dilation, parts, carry_channels,
            style, settings: As for a bottleneck.

    Source: Gao et al., "Res2Net", arXiv:1904.01169, section 3.1; the first
        blocks as in the authors' released code.

    Raises:
        ValueError: ``scales`` is less than 2; ``width`` leaves no channel.
    """

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None,
                 *,
                 scales: int,
                 first: bool,
                 groups: int = 1,
                 width: Union[float, Fraction] = 1.,
                 style: str = 'pytorch',
                 **settings: Any):
        check_positive(scales=scales)
        if scales < 2:
            raise ValueError('scales=1 splits nothing and leaves no 3x3 '
                             'convolution; use 2 or more')
        self.width = int(math.floor(channels * width / groups) * groups)
        if self.width < 1:
            raise ValueError(f'base_width leaves no channel for {channels} '
                             f'channels in groups={groups}; give a larger one')
        # No convolution over all of the hidden map, and no norm behind it.
        super().__init__(
            in_channels,
            channels,
            stride,
            dilation,
            replace(parts, conv2=nn.Identity),
            carry_channels,
            groups=groups,
            width=Fraction(scales * self.width, channels),
            style=style,
            **settings)
        del self.conv2
        delattr(self, self.norm2_name)
        self.first = first
        stride = 1 if style == 'caffe' else stride
        self.convs = ModuleList()
        self.bns = ModuleList()
        for _ in range(scales - 1):
            self.convs.append((parts.conv2 or parts.conv)(
                self.width,
                self.width,
                3,
                stride=stride,
                padding=dilation,
                dilation=dilation,
                groups=groups,
                bias=False))
            self.bns.append(parts.norm(self.width)[1])
        if first:
            self.pool = nn.AvgPool2d(3, stride=stride, padding=1)

    def spatial(self, x: Tensor) -> Tensor:
        *maps, last = x.split(self.width, 1)
        ys = []
        for y, conv, norm in zip(maps, self.convs, self.bns):
            if ys and not self.first:
                y = y + ys[-1]
            ys.append(self.relu(norm(conv(y))))
        return torch.cat((*ys, self.pool(last) if self.first else last), 1)


@MODELS.register_module()
class Res2Net(ResNet):
    """ResNet whose bottlenecks hold 3x3 convolutions that build on another.

    The words are those of ``ResNet``, but for ``branches``; ``conv2`` and
    ``dcn`` replace every 3x3 convolution. Parameters have the names of
    mmpretrain's class, the deep stem those of ``ResNet``. What others call
    v1b or v1d has ``deep_stem=True, avg_down=True``.

    Args:
        depth: 50, 86, 101, 152, or a tuple with the number of blocks of each
            stage.
        scales: Maps that the hidden map of a block is split into.
        base_width: Channels of one of them, or of its group, in the first
            stage; None is 26.
        width_per_group: The same under mmpretrain's name.

    Source: Gao et al., "Res2Net: A New Multi-scale Backbone Architecture",
        arXiv:1904.01169, and the authors' released code.
    Departs: from mmpretrain and mmdet in the defaults of ``deep_stem`` and
        ``avg_down``, which are False as in the paper; from mmdet in the first
        block of the first stage, whose last map it does not pool.

    Raises:
        TypeError: An option it does not have.
        ValueError: ``branches``; options that contradict each other or the
            depth.
    """

    custom_block = Res2Bottleneck
    arch_settings = {
        depth: (Res2Bottleneck, depths)
        for depth, (block, depths) in ResNet.arch_settings.items()
        if block is Bottleneck
    }

    def __init__(self,
                 depth: Union[int, Sequence[int]],
                 *,
                 scales: int = 4,
                 base_width: Optional[int] = None,
                 width_per_group: Optional[int] = None,
                 branches: None = None,
                 **kwargs: Any):
        if branches is not None:
            raise ValueError('Res2Net has 3x3 convolutions beside each other '
                             'already; branches belong to ResNet and SKNet')
        if base_width is None and width_per_group is None:
            base_width = 26
        self.scales = scales
        super().__init__(
            depth,
            base_width=base_width,
            width_per_group=width_per_group,
            **kwargs)

    def add_stage(self, block_type: Any, rows: Sequence[dict],
                  *args: Any) -> Any:
        rows = [
            dict(row, settings=dict(scales=self.scales, first=j == 0))
            for j, row in enumerate(rows)
        ]
        return super().add_stage(block_type, rows, *args)
