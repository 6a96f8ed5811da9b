"""A convolution that has self-attention beside it, called like one."""
from typing import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..checks import (check_bool, check_kernel_size, check_not_negative,
                      check_positive, is_list, is_number)
from ..registry import MODELS


def _per_head(channels: int, share: float, num_heads: int) -> int:
    # Not one too few for shares like 0.29, of which 100 are 28.999...
    return int(channels * share / num_heads + 1e-6)


def _relative(table: Tensor, size: int) -> Tensor:
    """What a table says of each pair of places: ``(size, size, d)``.

    Row by row the query, column by column the key. A table made for another
    size is interpolated over the offsets; offset 0 stays offset 0.
    """
    rows = 2 * size - 1
    if len(table) != rows:
        # As a map one pixel high: only for maps does PyTorch have a gradient
        # that is deterministic on a GPU.
        table = F.interpolate(
            table.t()[None, :, None], (1, rows), mode='bilinear')[0, :, 0].t()
    place = torch.arange(size, device=table.device)
    return table[place - place[:, None] + size - 1]


@MODELS.register_module()
class AAConv(BaseModule):
    """Convolve a map; fill some channels by attention over the whole map.

    ``y = [conv(x), P [o_1, ..., o_N]]``, where a head's result at position i
    is ``o_i = sum_j a_ij v_j`` over all positions j, with
    ``a_i = softmax_j(q_i (k_j + r_H[j_y - i_y] + r_W[j_x - i_x]) / sqrt(d))``;
    q, k and v are 1x1 convolutions of x, and a layer's heads share its tables
    r_H and r_W. For the word ``conv2``: it is called like the 3x3 convolution
    it replaces, and its result has the same size. In place of that of the
    bottlenecks of stages 2 to 4 it makes an AA-ResNet::

        conv2=[None] + [dict(type='AAConv', map_size=(s, s))
                        for s in (28, 14, 7)]

    The attention matrix has ``num_heads * (H W)^2`` numbers for an image, and
    is there more than once: on a map of 100 x 168 that is 9 GB each. Detectors
    need ``pool_stride=2`` in stage 2, or more, or None in that stage.

    Args:
        in_channels: C of the map.
        out_channels: C' of the result, the attention's included.
        kernel_size: Of the convolution.
        stride: Of the convolution and of q, k and v.
        padding: Of the convolution; the one that keeps a map's size.
        dilation: Of the convolution. Attention sees every position anyway.
        groups: 1; attention mixes all channels.
        bias: False; there are none.
        map_size: H and W of the attended map, behind ``stride`` and
            ``pool_stride``, that the tables are made for. On maps of another
            size they are interpolated.
        num_heads: N.
        key_share: Channels of q over C', rounded down to a multiple of N.
        value_share: As much of v, and of the result.
        min_key_channels: Floor of d, the channels of a head's q.
        pool_stride: Above 1, attention sees the map averaged with this stride
            (2: over 3x3), and its result is interpolated back.
        published_order: Give the query at (y, x) the relative logits of the
            query at (x, y), and swap the tables, as a slip in the one
            published implementation (a third party's) does. For running
            weights trained with it only; square maps.

    Shape:
        ``(B, C, H, W)`` to ``(B, C', H', W')``, with H' and W' as of the
        convolution it replaces.

    Source: Bello et al., "Attention Augmented Convolutional Networks",
        arXiv:1904.09925, sections 3.2 and 3.3. Keys: ``conv``, ``qkv``,
        ``project``, ``height_table`` (2H - 1 rows, offset -(H - 1) first) and
        ``width_table``.
    Departs: no code is published. Where the paper's networks pool is not
        known; the rounding and the floor fit all its counts.

    Raises:
        ValueError: Groups, a bias, or a padding that changes the size; a
            share that leaves a head, or the convolution, no channel; sizes
            that are not positive. In forward: ``published_order`` and a map
            that is not square.
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
                 map_size: Sequence[int],
                 num_heads: int = 8,
                 key_share: float = 0.2,
                 value_share: float = 0.1,
                 min_key_channels: int = 20,
                 pool_stride: int = 1,
                 published_order: bool = False):
        super().__init__()
        check_kernel_size(kernel_size)
        check_positive(
            in_channels=in_channels,
            out_channels=out_channels,
            stride=stride,
            dilation=dilation,
            num_heads=num_heads,
            min_key_channels=min_key_channels,
            pool_stride=pool_stride)
        check_bool(published_order=published_order)
        if groups != 1 or bias:
            raise ValueError(
                f'AAConv has one group and no bias, got groups={groups!r} and '
                f'bias={bias!r}: its attention mixes all channels. Give it in '
                'a network without groups')
        check_not_negative(padding=padding)
        if 2 * padding != dilation * (kernel_size - 1):
            raise ValueError(
                f'AAConv: padding={padding} with kernel_size={kernel_size} '
                f'and dilation={dilation} changes the size of the map, which '
                'attention keeps; give padding='
                f'{dilation * (kernel_size - 1) // 2}')
        if not is_list(map_size) or len(map_size) != 2:
            raise ValueError('map_size must be height and width of the '
                             f'attended map, as (28, 28), got {map_size!r}')
        height, width = map_size
        check_positive(**{'height of map_size': height,
                          'width of map_size': width})
        if not is_number(key_share) or key_share <= 0:
            raise ValueError(f'key_share must be above 0, got {key_share!r}')
        if not is_number(value_share):
            raise ValueError(f'value_share must be a number, got '
                             f'{value_share!r}')
        self.num_heads = num_heads
        self.published_order = published_order
        self.key_channels = max(
            _per_head(out_channels, key_share, num_heads), min_key_channels)
        self.value_channels = _per_head(out_channels, value_share, num_heads)
        keys = self.key_channels * num_heads
        check_positive(**{f'key_share={key_share} of out_channels': keys})
        values = self.value_channels * num_heads
        if not 0 < values < out_channels:
            raise ValueError(
                f'AAConv: value_share={value_share} of out_channels='
                f'{out_channels} gives {num_heads} heads {values} channels; '
                'they need one each and leave one to the convolution. '
                'Change value_share or num_heads, or give this stage None')
        self.conv = nn.Conv2d(
            in_channels,
            out_channels - values,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=False)
        self.pool = nn.Identity() if pool_stride == 1 else nn.AvgPool2d(
            2 * pool_stride - 1,
            pool_stride,
            pool_stride - 1,
            count_include_pad=False)
        self.pool_stride = pool_stride
        self.qkv = nn.Conv2d(
            in_channels, 2 * keys + values, 1, stride=stride, bias=False)
        self.project = nn.Conv2d(values, values, 1, bias=False)
        start = self.key_channels**-0.5
        self.height_table = nn.Parameter(
            torch.randn(2 * height - 1, self.key_channels) * start)
        self.width_table = nn.Parameter(
            torch.randn(2 * width - 1, self.key_channels) * start)

    def attention(self, x: Tensor) -> Tensor:
        """The heads' results, side by side, before ``P``."""
        qkv = self.qkv(x)
        b, _, h, w = qkv.shape
        n, d = self.num_heads, self.key_channels
        # (B, N, H W, channels of a head)
        q, k, v = (
            part.flatten(2).unflatten(1, (n, -1)).transpose(2, 3) for part in
            qkv.split([n * d, n * d, n * self.value_channels], dim=1))
        place = (q * d**-0.5).reshape(b, n, h, w, d)
        tables = self.height_table, self.width_table
        if self.published_order:
            if h != w:
                raise ValueError('AAConv: published_order=True is defined on '
                                 f'square maps, got {h}x{w}; give square '
                                 'images, or leave the option out')
            place, tables = place.transpose(2, 3), tables[::-1]
        rows = torch.einsum('bnhwd,hid->bnhwi', place, _relative(tables[0], h))
        columns = torch.einsum('bnhwd,wjd->bnhwj', place,
                               _relative(tables[1], w))
        bias = rows[..., None] + columns[..., None, :]  # (B, N, H, W, H, W)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.reshape(b, n, h * w, h * w))
        return y.transpose(2, 3).flatten(1, 2).unflatten(2, (h, w))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        a = self.project(self.attention(self.pool(x)))
        if self.pool_stride > 1:
            a = F.interpolate(
                a, size=y.shape[2:], mode='bilinear', align_corners=False)
        return torch.cat([y, a], 1)
