from dataclasses import replace
from functools import partial
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

from mmcv.cnn import build_activation_layer
from torch import Tensor, nn

from ..checks import (build_act, build_conv, build_norm, check_bool,
                      check_positive, check_positives, given, is_number,
                      make_divisible)
from ..parts import Parts, Word
from ..registry import MODELS
from .base import Backbone
from .mobile_blocks import (InvertedResidual, SKInvertedResidual,
                            conv_norm_act)
from .resnet_options import check_branches
from .words import initialisation, refuse_unknown, stage_words

# Activations that have no in-place form.
OUT_OF_PLACE = ('Tanh', 'PReLU', 'Sigmoid', 'HSigmoid', 'Swish', 'GELU')


class Row(NamedTuple):
    """A stage of a mobile network's table.

    Args:
        channels: Output channels at width 1.
        num_blocks: How many blocks.
        stride: Of the first block.
        settings: What the blocks are called with; a list has one entry for
            each block.
        act_cfg: Activation, where it is not the network's.
    """
    channels: int
    num_blocks: int
    stride: int
    settings: dict = {}
    act_cfg: Optional[dict] = None


def activation(cfg: dict, inplace: bool) -> nn.Module:
    """Build an activation, in place where it can be."""
    if cfg['type'] in OUT_OF_PLACE:
        return build_activation_layer(cfg)
    return build_activation_layer(dict(cfg, inplace=inplace))


class MobileNet(Backbone):
    """Stem, stages and last convolution of the mobile networks.

    A subclass gives the table. The last 1x1 convolution, ``conv2``, is built
    where ``out_indices`` asks for it, as the index behind the last stage's.

    Args:
        widen_factor: Width; channels are rounded to multiples of 8.
        attention: In every block, for instance ``dict(type='SE', ratio=24)``.
            Like all words down to ``conv2``: None, one value, or a list with
            one entry for each stage (of which an entry may be a list with
            one for each block).
        attention_at: ``'hidden'``, behind the depthwise convolution
            (default), or ``'output'``, behind the last norm.
        link: Connects consecutive attentions across the network,
            ``dict(type='DCA')``.
        fusion: The join of branch and shortcut; addition by default. Blocks
            without a shortcut have none.
        depth_fusion: Over the block outputs of a stage.
        stage_attention: Behind a stage.
        branches: Further depthwise convolutions beside that of an inverted
            residual, one dict each of ``dilation``; the attention, then a
            fusion at ``'hidden'``, joins them, for instance
            ``dict(type='SelectiveFusion', ratio=8, min_channels=1,
            bias=False)``.
        in_channels: Of the image.
        strides: First block of each stage; None as the network's table.
        dilations: First block of each stage, as in mmsegmentation's stock
            network.
        output_stride: Instead of the two: at most this stride; every block
            of a stage behind the cut is dilated.
        out_indices: Stages that are returned, from 0, and the index behind
            them for ``conv2``. None: the last there is, unless ``out_taps``
            are given.
        out_taps: Maps inside blocks that are returned before those, as
            ``'layer6.0.expanded'``: behind the first 1x1 convolution
            (``expanded``), before the last (``hidden``), behind the join
            (``output``).
        frozen_stages: -1 none, 0 the parameters of the stem, k also the
            first k stages.
        norm_eval: Keep batch norms in eval mode while training.
        conv_cfg: Kind of convolution.
        norm_cfg: Kind of norm.
        act_cfg: Kind of activation.
        with_cp: Recompute blocks in backward instead of storing them.
        pretrained: A checkpoint; the older spelling of ``init_cfg``.
        on_partial_load: ``'error'`` refuses a checkpoint that holds nothing
            or only some of the trunk; ``'warn'`` goes on with what fits.
        init_cfg: Initialisation; Kaiming by default.

    Shape:
        ``(B, in_channels, H, W)`` to a tuple of ``(B, C_i, H_i, W_i)``.

    Raises:
        TypeError: An option it does not have.
        ValueError: Options that contradict each other or the table.
    """

    block = InvertedResidual
    table: Sequence[Row] = ()
    stem_channels = 32
    last_channels = 1280
    stem_eval = False  # the stock networks' frozen stem keeps its mode

    def __init__(self,
                 widen_factor: float = 1.,
                 *,
                 attention: Word = None,
                 attention_at: Union[None, str, Sequence] = None,
                 link: Word = None,
                 fusion: Word = None,
                 depth_fusion: Word = None,
                 stage_attention: Word = None,
                 branches: Optional[Sequence[dict]] = None,
                 in_channels: int = 3,
                 strides: Optional[Sequence[int]] = None,
                 dilations: Optional[Sequence[int]] = None,
                 output_stride: Optional[int] = None,
                 out_indices: Optional[Sequence[int]] = None,
                 out_taps: Sequence[str] = (),
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 conv_cfg: Optional[dict] = None,
                 norm_cfg: dict = dict(type='BN'),
                 act_cfg: dict = dict(type='ReLU6'),
                 with_cp: bool = False,
                 pretrained: Optional[str] = None,
                 on_partial_load: str = 'error',
                 init_cfg: Union[None, dict, List[dict]] = None,
                 **unknown: Any):
        refuse_unknown(type(self), unknown)
        if not is_number(widen_factor) or not 0 < widen_factor < 100:
            raise ValueError('widen_factor must lie between 0 and 100, got '
                             f'{widen_factor!r}')
        check_positive(
            in_channels=in_channels, **given(output_stride=output_stride))
        check_positives(**given(strides=strides, dilations=dilations))
        check_bool(with_cp=with_cp)
        num_stages = len(self.table)
        outputs = num_stages + (self.last_channels is not None)
        if out_indices is None:
            out_indices = () if out_taps else (outputs - 1, )
        super().__init__(
            num_stages=num_stages,
            out_indices=out_indices,
            out_taps=out_taps,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            on_partial_load=on_partial_load,
            init_cfg=initialisation(pretrained, init_cfg),
            num_outputs=outputs)
        words = stage_words(
            num_stages,
            attention=attention,
            attention_at=attention_at,
            link=link,
            fusion=fusion,
            depth_fusion=depth_fusion,
            stage_attention=stage_attention,
            conv2=None)
        parts = Parts(
            conv=partial(build_conv, conv_cfg, bias=False),
            norm=partial(build_norm, norm_cfg),
            act=partial(build_act, act_cfg, activation),
            attention_at='hidden',
            with_cp=with_cp)
        grid = stride_grid([row.stride for row in self.table], strides,
                           dilations, output_stride)
        block, shared, slot = self.block, {}, 'attention'
        if branches is not None:
            check_branches(branches, ('dilation', ))
            if block is not InvertedResidual:
                raise ValueError(f'branches: the blocks of '
                                 f'{type(self).__name__} have no place for '
                                 'them')
            block, shared = SKInvertedResidual, dict(branches=branches)
            slot = 'attention of branches'
        channels = self.add_stem(parts, in_channels, widen_factor)
        linked = None
        for row, entry, (stride, first, rest) in zip(self.table, words, grid):
            out_channels = self.widen(row, widen_factor)
            rows = [
                dict(
                    in_channels=out_channels if j else channels,
                    channels=out_channels,
                    stride=1 if j else stride,
                    dilation=rest if j else first,
                    drop_path=0.,
                    settings={
                        key: value[j] if isinstance(value, list) else value
                        for key, value in row.settings.items()
                    }) for j in range(row.num_blocks)
            ]
            own = parts if row.act_cfg is None else replace(
                parts, act=partial(activation, row.act_cfg))
            linked = self.add_stage(
                partial(block, **shared), rows, own, entry, norm_cfg, linked,
                slot)
            channels = out_channels
        if num_stages in self.out_indices:
            self.conv2 = conv_norm_act(parts, channels,
                                       self.widen_last(widen_factor))
        self.find_taps()
        self.freeze()

    def widen(self, row: Row, widen_factor: float) -> int:
        """The channels of a stage."""
        return make_divisible(row.channels * widen_factor)

    def widen_last(self, widen_factor: float) -> int:
        """The channels of ``conv2``."""
        return int(self.last_channels * max(1., widen_factor))

    def add_stem(self, parts: Parts, in_channels: int,
                 widen_factor: float) -> int:
        """Build what comes before the stages; return its channels."""
        channels = make_divisible(self.stem_channels * widen_factor)
        self.conv1 = conv_norm_act(parts, in_channels, channels, 3, stride=2)
        return channels

    def forward_stem(self, x: Tensor) -> Tensor:
        return self.conv1(x)

    def forward_tail(self, x: Tensor) -> Tensor:
        return self.conv2(x)

    def stem_modules(self) -> List[nn.Module]:
        return [self.conv1]


def stride_grid(table: Sequence[int], strides: Optional[Sequence[int]],
                dilations: Optional[Sequence[int]],
                output_stride: Optional[int]) -> List[Tuple[int, int, int]]:
    """For each stage its stride, and the dilation of its first block and of
    the rest.

    Raises:
        ValueError: Words that contradict each other or the table.
    """
    if output_stride is None:
        for name, values in (('strides', strides), ('dilations', dilations)):
            if values is not None and len(values) != len(table):
                raise ValueError(f'{name}={tuple(values)} must have one entry '
                                 f'for each of the {len(table)} stages')
        firsts = dilations or [1] * len(table)
        return [(s, d, 1) for s, d in zip(strides or table, firsts)]
    if strides is not None or dilations is not None:
        raise ValueError('output_stride says what strides and dilations are; '
                         'give one or the other')
    grid, reached, dilation = [], 2, 1  # the stem's stride
    for stride in table:
        if reached * stride > output_stride:
            dilation, stride = dilation * stride, 1
        reached *= stride
        grid.append((stride, dilation, dilation))
    if reached != output_stride:
        raise ValueError(f'output_stride={output_stride} must be a power of 2 '
                         'from 2 to what the network has')
    return grid


@MODELS.register_module()
class MobileNetV2(MobileNet):
    """MobileNetV2 whose blocks and stages take attentions, links, fusions.

    Without them it is the MobileNetV2 of mmpretrain, mmdetection and
    mmsegmentation: same options, and mmpretrain's and mmsegmentation's
    parameter names. The words are ``MobileNet``'s: 7 stages, ``layer1`` to
    ``layer7``; ``conv2``, where it is asked for by index 7.

    Shape:
        ``(B, in_channels, H, W)`` to a tuple of ``(B, C_i, H_i, W_i)`` with
        C = 16, 24, 32, 64, 96, 160, 320 and 1280 at width 1.

    Source: Sandler et al., "MobileNetV2", arXiv:1801.04381, table 2.
    """

    table = tuple(
        Row(channels, num_blocks, stride, dict(expand_ratio=expand_ratio))
        for expand_ratio, channels, num_blocks, stride in (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ))
