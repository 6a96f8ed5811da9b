from functools import partial
from typing import List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..checks import (build_conv_module, check_bool, check_init_cfg,
                      check_positive, check_positives, is_int)
from ..fusions import Add
from ..parts import Word, factory, spread
from ..registry import MODELS

SOURCES = ('on_input', 'on_lateral', 'on_output')


@MODELS.register_module()
class FPN(BaseModule):
    """Bring what the deep maps know down to the fine ones.

    ``p_i = fusion_i(up(p_{i+1}), lateral_i(c_i))`` from the deepest level
    down, the deepest being ``lateral_n(c_n)`` itself; level i of the result
    is ``conv_i(p_i)``. ``up`` resizes to the size of the finer map.

    Without ``fusion`` it is the FPN of mmdet: same options, same parameter
    names (``lateral_convs.0.conv.*``, ``fpn_convs.0.conv.*``), same start,
    same outputs. It is mmsegmentation's too, but for two of its words:
    ``end_level`` is inclusive here, and ``add_extra_convs=True`` always means
    ``'on_input'``. Parameters of a fusion are ``fusions.0.*``.

    Args:
        in_channels: Of each input, the finest first.
        out_channels: Of every output.
        num_outs: How many outputs. Those beyond the pyramid's own levels
            are made from the deepest by ``add_extra_convs``.
        start_level: The first input that is used.
        end_level: The last input that is used; -1 is the last there is. No
            outputs are added beyond an earlier one.
        add_extra_convs: Make the added outputs by convolutions of stride 2
            on the last input that is used (``'on_input'`` or True), its
            map before its output (``'on_lateral'``) or its output
            (``'on_output'``). False takes every second pixel of the last
            output.
        relu_before_extra_convs: Before all of them but the first.
        no_norm_on_lateral: Leave the norm out of the lateral convolutions.
        conv_cfg: Kind of convolution.
        norm_cfg: Norm behind every convolution, and of fusions that state
            none. With None the convolutions have none, the fusions their
            own.
        act_cfg: Activation behind every convolution.
        upsample_cfg: Options of ``torch.nn.functional.interpolate``; with a
            ``scale_factor`` the sizes must fit.
        init_cfg: Initialisation, also of convolutions in a fusion that does
            not start itself.
        fusion: The join of two levels, ``dict(type='AFF', ratio=4)``;
            addition by default. None, one for all joins, or a list with one
            for each, in the order of ``fusions``: the first makes the finest
            level. Its first map is the upsampled one, which AFF weights with
            w, its second the lateral one, weighted with 1 - w.

    Shape:
        ``(B, in_channels[i], H_i, W_i)`` for each input to a tuple of
        ``num_outs`` times ``(B, out_channels, H_i, W_i)``, from
        ``start_level`` on; an added output is half as large, rounded up.

    Source: Lin et al., arXiv:1612.03144, section 3; Dai et al.,
        arXiv:2009.14082 (AFF as the long skip connection) and the authors'
        released code, where the deep map has the weight w.
    Departs: the FPN with AFF of that code has a biased convolution, norm and
        ReLU before and behind the fusion and resizes bilinearly; here the
        convolutions are the FPN's own (``norm_cfg`` and ``act_cfg`` give
        them the rest), and it resizes to the nearest pixel unless
        ``upsample_cfg=dict(mode='bilinear', align_corners=False)``.

    Raises:
        TypeError: An option it does not have; a fusion that is no dict.
        ValueError: Options that contradict each other, or would do nothing;
            another number of inputs; a ``scale_factor`` that does not fit
            the sizes.
    """

    def __init__(self,
                 in_channels: Sequence[int],
                 out_channels: int,
                 num_outs: int,
                 start_level: int = 0,
                 end_level: int = -1,
                 add_extra_convs: Union[bool, str] = False,
                 relu_before_extra_convs: bool = False,
                 no_norm_on_lateral: bool = False,
                 conv_cfg: Optional[dict] = None,
                 norm_cfg: Optional[dict] = None,
                 act_cfg: Optional[dict] = None,
                 upsample_cfg: dict = dict(mode='nearest'),
                 init_cfg: Union[None, dict, List[dict]] = dict(
                     type='Xavier', layer='Conv2d', distribution='uniform'),
                 fusion: Word = None):
        super().__init__(init_cfg)
        check_init_cfg(init_cfg)
        check_positives(in_channels=in_channels)
        check_positive(out_channels=out_channels, num_outs=num_outs)
        check_bool(
            relu_before_extra_convs=relu_before_extra_convs,
            no_norm_on_lateral=no_norm_on_lateral)
        last = len(in_channels) - 1
        end = last if end_level == -1 else end_level
        if not (is_int(start_level) and is_int(end)
                and 0 <= start_level <= end <= last):
            raise ValueError(f'start_level={start_level!r} and end_level='
                             f'{end_level!r} (-1: the last) must be inputs, 0 '
                             f'to {last}, and in this order')
        levels = range(start_level, end + 1)
        added = num_outs - len(levels)
        if added < 0 or added and end < last:
            raise ValueError(
                f'num_outs={num_outs} must be {len(levels)}, one for each of '
                f'the inputs {start_level} to {end}'
                f'{", or more" if end == last else ""}')
        if add_extra_convs is True:
            add_extra_convs = 'on_input'
        if add_extra_convs is not False and add_extra_convs not in SOURCES:
            raise ValueError('add_extra_convs must be True, False or one of '
                             f'{", ".join(SOURCES)}, got {add_extra_convs!r}')
        if relu_before_extra_convs and not add_extra_convs:
            raise ValueError('relu_before_extra_convs needs add_extra_convs')
        if not isinstance(upsample_cfg, dict) or 'size' in upsample_cfg:
            raise ValueError('upsample_cfg must be a dict of interpolate '
                             'options; the size is that of the finer map, '
                             f'got {upsample_cfg!r}')
        size = {} if 'scale_factor' in upsample_cfg else dict(size=(3, 5))
        try:
            F.interpolate(torch.zeros(1, 1, 2, 3), **size, **upsample_cfg)
        except Exception as error:
            raise ValueError(
                f'upsample_cfg={upsample_cfg!r} is not what interpolate '
                f'takes: {error}') from error
        if fusion and len(levels) == 1:
            raise ValueError(f'fusion={fusion!r} has nothing to join: the '
                             f'pyramid has one level, input {start_level}')
        self.in_channels = list(in_channels)
        self.out_channels = out_channels
        self.num_outs = num_outs
        self.levels = levels
        self.add_extra_convs = add_extra_convs
        self.relu_before_extra_convs = relu_before_extra_convs
        self.upsample_cfg = dict(upsample_cfg)

        conv = partial(
            build_conv_module,
            out_channels=out_channels,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            inplace=False)
        lateral = dict(norm_cfg=None) if no_norm_on_lateral else {}
        # Not mmengine's lists: those would have every ConvModule start
        # itself, over what init_cfg did.
        self.lateral_convs, self.fpn_convs = nn.ModuleList(), nn.ModuleList()
        for i in levels:
            self.lateral_convs.append(
                conv(in_channels[i], kernel_size=1, **lateral))
            self.fpn_convs.append(
                conv(out_channels, kernel_size=3, padding=1))
        for i in range(added if add_extra_convs else 0):
            first = i == 0 and add_extra_convs == 'on_input'
            channels = in_channels[end] if first else out_channels
            self.fpn_convs.append(
                conv(channels, kernel_size=3, stride=2, padding=1))
        # Last, so that the convolutions start alike with any fusion.
        joins = spread(fusion, len(levels) - 1, 'fusion', 'joins')
        self.fusions = ModuleList([
            (factory(cfg, 'fusion', norm_cfg) or Add)(out_channels)
            for cfg in joins
        ])

    def upsample(self, x: Tensor, size: Sequence[int]) -> Tensor:
        if 'scale_factor' not in self.upsample_cfg:
            return F.interpolate(x, size=size, **self.upsample_cfg)
        y = F.interpolate(x, **self.upsample_cfg)
        if y.shape[2:] != size:
            raise ValueError(
                f'upsample_cfg={self.upsample_cfg} makes a map of '
                f'{tuple(x.shape[2:])} one of {tuple(y.shape[2:])}, but the '
                f'finer map is {tuple(size)}; without scale_factor any sizes '
                'fit')
        return y

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        if len(inputs) != len(self.in_channels):
            raise ValueError(f'FPN was built for {len(self.in_channels)} '
                             f'inputs, got {len(inputs)}')
        used = [inputs[i] for i in self.levels]
        maps = [conv(x) for conv, x in zip(self.lateral_convs, used)]
        for i in reversed(range(len(self.fusions))):
            high = self.upsample(maps[i + 1], maps[i].shape[2:])
            maps[i] = self.fusions[i]((high, maps[i]))
        outs = [conv(x) for conv, x in zip(self.fpn_convs, maps)]
        sources = dict(zip(SOURCES, (used[-1], maps[-1], outs[-1])))
        for i in range(len(maps), self.num_outs):
            if not self.add_extra_convs:
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
                continue
            x = sources[self.add_extra_convs] if i == len(maps) else outs[-1]
            if self.relu_before_extra_convs and i > len(maps):
                x = F.relu(x)
            outs.append(self.fpn_convs[i](x))
        return tuple(outs)
