"""Convolutions of several kernels side by side, called like one."""
from typing import List, Optional, Sequence

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..checks import (check_bool, check_kernel_size, check_not_negative,
                      check_positive, check_positives, given)
from ..fusions import PSA
from ..registry import MODELS


@MODELS.register_module()
class PyConv(BaseModule):
    """Convolve a map with kernels of several sizes, and concatenate.

    ``y = [conv_1(x), ..., conv_n(x)]``. Large kernels have more groups, so
    that they cost no more than small ones. For the word ``conv2``: it is
    called like the 3x3 convolution it replaces, and its result has the same
    size.

    Args:
        in_channels: C of the map.
        out_channels: C' of the result.
        kernel_size: Of the convolution it replaces.
        stride: Of every convolution.
        padding: For ``kernel_size``; larger kernels get more.
        dilation: Of every convolution.
        groups: Of the convolution it replaces.
        bias: Whether the convolutions have one.
        kernel_sizes: Of each convolution.
        branch_groups: Of each convolution, times ``groups``.
        shares: What each has of ``out_channels``, in parts; None shares
            evenly.

    Shape:
        ``(B, C, H, W)`` to ``(B, C', H', W')``, with H' and W' as of the
        convolution it replaces.

    Source: Duta et al., "Pyramidal Convolution", arXiv:2006.11538,
        section 3.

    Raises:
        ValueError: Lists of different lengths or of fewer than two; an even
            kernel; channels that cannot be shared or grouped so.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int = 3,
                 *,
                 stride: int = 1,
                 padding: int = 1,
                 dilation: int = 1,
                 groups: int = 1,
                 bias: bool = False,
                 kernel_sizes: Sequence[int] = (3, 5, 7, 9),
                 branch_groups: Sequence[int] = (1, 4, 8, 16),
                 shares: Optional[Sequence[int]] = None):
        super().__init__()
        name = type(self).__name__
        check_positive(
            in_channels=in_channels,
            out_channels=out_channels,
            stride=stride,
            dilation=dilation,
            groups=groups)
        check_not_negative(padding=padding)
        check_bool(bias=bias)
        check_positives(
            kernel_sizes=kernel_sizes,
            branch_groups=branch_groups,
            **given(shares=shares))
        shares = tuple(shares or [1] * len(kernel_sizes))
        if not 2 <= len(kernel_sizes) == len(branch_groups) == len(shares):
            raise ValueError(
                f'{name} needs one kernel size, group count and share for '
                'each of at least two convolutions, got kernel_sizes='
                f'{tuple(kernel_sizes)}, branch_groups='
                f'{tuple(branch_groups)}, shares={shares}')
        check_kernel_size(kernel_size)
        for size in kernel_sizes:
            check_kernel_size(size, 'kernel_sizes')
        if out_channels % sum(shares):
            raise ValueError(f'{name} cannot share out_channels='
                             f'{out_channels} in parts of {shares}')
        self.convs = ModuleList()
        for size, count, part in zip(kernel_sizes, branch_groups, shares):
            channels = out_channels // sum(shares) * part
            if in_channels % (groups * count) or channels % (groups * count):
                raise ValueError(
                    f'{name}: its {size}x{size} convolution from '
                    f'{in_channels} to {channels} channels cannot have '
                    f'{groups * count} groups (groups={groups} times '
                    f'branch_groups={count}); give a conv2 with fewer '
                    f'groups, or more channels')
            self.convs.append(
                nn.Conv2d(
                    in_channels,
                    channels,
                    size,
                    stride=stride,
                    padding=padding + dilation * (size - kernel_size) // 2,
                    dilation=dilation,
                    groups=groups * count,
                    bias=bias))

    def join(self, xs: List[Tensor]) -> Tensor:
        return torch.cat(xs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join([conv(x) for conv in self.convs])


@MODELS.register_module()
class PSAConv(PyConv):
    """Convolve a map with several kernels that compete for each channel.

    ``y = [a_n * x_n, ..., a_1 * x_1]`` over the maps ``x_i = conv_i(x)``,
    ``a`` as in ``PSA``. In place of the 3x3 convolution of a ResNet's
    bottlenecks it makes an EPSANet.

    Args:
        ratio: Of the squeeze and excitation that the maps share: channels
            of one of them over hidden width.
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias, kernel_sizes, branch_groups: As for ``PyConv``;
            there are no ``shares``, since the maps compete channel by
            channel.

    Shape:
        ``(B, C, H, W)`` to ``(B, C', H', W')``, with H' and W' as of the
        convolution it replaces.

    Source: Zhang et al., "EPSANet", arXiv:2105.14447, section 3.2, and the
        authors' released code for the order of the maps.

    Raises:
        ValueError: As ``PyConv``; ``ratio`` leaves no hidden channel.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int = 3,
                 *,
                 stride: int = 1,
                 padding: int = 1,
                 dilation: int = 1,
                 groups: int = 1,
                 bias: bool = False,
                 kernel_sizes: Sequence[int] = (3, 5, 7, 9),
                 branch_groups: Sequence[int] = (1, 4, 8, 16),
                 ratio: int = 16):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            kernel_sizes=kernel_sizes,
            branch_groups=branch_groups)
        maps = len(self.convs)
        self.psa = PSA(out_channels // maps, maps, ratio=ratio)

    def join(self, xs: List[Tensor]) -> Tensor:
        return self.psa(xs)
