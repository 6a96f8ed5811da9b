from functools import partial
from typing import Any, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..checks import (build_conv, build_norm, check_bool, check_positive,
                      check_positives, given, is_int, is_list, is_number)
from ..parts import Parts, Word
from ..registry import MODELS
from .base import Backbone
from .blocks import ResidualBlock
from .resnet_blocks import BasicBlock, Bottleneck
from .resnet_options import (block_and_settings, block_dilations,
                             spatial_convs)
from .words import initialisation, refuse_unknown, stage_words


@MODELS.register_module()
class ResNet(Backbone):
    """ResNet whose blocks and stages take attentions, fusions and links.

    Without them it is the ResNet of mmdet, mmsegmentation and mmpretrain:
    same options, same parameter names, same outputs. Names of parts are
    ``layer1.0.attention.*``, ``layer1.0.link.*``, ``layer1.0.fusion.*``,
    ``layer1.depth_fusion.*`` and ``layer1.stage_attention.*``.

    Args:
        depth: 18, 34, 50, 86, 101, 152, or a tuple with the number of
            bottlenecks of each stage.
        attention: In every block, for instance ``dict(type='SE', ratio=16)``.
            Like all words down to ``conv2``: None, one value, or a list with
            one entry for each stage (of which an entry may be a list with
            one for each block).
        attention_at: ``'output'``, behind the last norm (default), or
            ``'hidden'``, behind the 3x3 convolution of a bottleneck.
        link: Connects consecutive attentions across the network,
            ``dict(type='DCA')``.
        fusion: The join of branch and shortcut; addition by default.
        depth_fusion: Over the block outputs of a stage,
            ``dict(type='SelectiveFusion', ratio=16, min_channels=64)``.
        stage_attention: Behind a stage.
        conv2: In place of a bottleneck's 3x3 convolution; called like one.
        branches: Further 3x3 convolutions beside a bottleneck's own, one
            dict each of ``dilation`` and ``groups``; the attention, then a
            fusion at ``'hidden'``, joins them (see ``SKNet``).
        in_channels: Of the image.
        stem_channels: Output of the stem; ``base_channels`` by default.
        base_channels: ``channels`` of the first stage's blocks.
        num_stages: 1 to 4.
        strides: First block of each stage.
        dilations: Of each stage.
        out_indices: Stages that are returned.
        style: Where a bottleneck has its stride: ``'pytorch'`` the 3x3,
            ``'caffe'`` the first 1x1 convolution.
        deep_stem: Three 3x3 convolutions instead of one 7x7.
        avg_down: Pool before the shortcut's projection.
        groups: Of the 3x3 convolution.
        base_width: Channels per group of the first stage's 3x3 convolution;
            None gives the plain width (``base_channels / groups``).
        width_per_group: The same under mmpretrain's name.
        expansion: Accepted where it says what the blocks have.
        frozen_stages: -1 none, 0 the stem, k also the first k stages.
        norm_eval: Keep batch norms in eval mode while training.
        conv_cfg: Kind of convolution.
        norm_cfg: Kind of norm.
        dcn: Deformable 3x3 convolution of a bottleneck.
        stage_with_dcn: Stages that have it.
        contract_dilation: Halve the dilation of a dilated stage's first
            block.
        multi_grid: Dilation of each block of the last stage.
        plugins: None. Name the attention in ``attention`` instead.
        with_cp: Recompute blocks in backward instead of storing them.
        drop_path_rate: Of the last block; rises linearly from 0.
        zero_init_residual: Start the last norm of every branch at zero.
        pretrained: A checkpoint; the older spelling of ``init_cfg``.
        on_partial_load: ``'error'`` refuses a checkpoint that holds nothing
            or only some of the trunk; ``'warn'`` goes on with what fits.
        init_cfg: Initialisation; Kaiming by default.

    Shape:
        ``(B, in_channels, H, W)`` to a tuple of the stages'
        ``(B, C_i, H_i, W_i)``.

    Source: He et al., arXiv:1512.03385; Xie et al., arXiv:1611.05431;
        He et al., arXiv:1812.01187 (deep stem, pooled shortcut).

    Raises:
        TypeError: An option it does not have.
        ValueError: Options that contradict each other or the depth.
    """

    # Blocks of each depth; ``custom_block`` those of a tuple of depths.
    custom_block = Bottleneck
    arch_settings = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
        86: (Bottleneck, (5, 6, 12, 5)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }

    def __init__(self,
                 depth: Union[int, Sequence[int]],
                 *,
                 attention: Word = None,
                 attention_at: Union[None, str, Sequence] = None,
                 link: Word = None,
                 fusion: Word = None,
                 depth_fusion: Word = None,
                 stage_attention: Word = None,
                 conv2: Word = None,
                 branches: Optional[Sequence[dict]] = None,
                 in_channels: int = 3,
                 stem_channels: Optional[int] = None,
                 base_channels: int = 64,
                 num_stages: int = 4,
                 strides: Sequence[int] = (1, 2, 2, 2),
                 dilations: Sequence[int] = (1, 1, 1, 1),
                 out_indices: Sequence[int] = (0, 1, 2, 3),
                 style: str = 'pytorch',
                 deep_stem: bool = False,
                 avg_down: bool = False,
                 groups: int = 1,
                 base_width: Optional[int] = None,
                 width_per_group: Optional[int] = None,
                 expansion: Optional[int] = None,
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 conv_cfg: Optional[dict] = None,
                 norm_cfg: dict = dict(type='BN', requires_grad=True),
                 dcn: Optional[dict] = None,
                 stage_with_dcn: Sequence[bool] = (False, ) * 4,
                 contract_dilation: bool = False,
                 multi_grid: Optional[Sequence[int]] = None,
                 plugins: None = None,
                 with_cp: bool = False,
                 drop_path_rate: float = 0.,
                 zero_init_residual: bool = True,
                 pretrained: Optional[str] = None,
                 on_partial_load: str = 'error',
                 init_cfg: Union[None, dict, List[dict]] = None,
                 **unknown: Any):
        refuse_unknown(type(self), unknown)
        if plugins is not None:
            raise ValueError(
                f'{type(self).__name__} takes no plugins; name the attention '
                "itself, attention=dict(type='SE', ratio=16), and its place, "
                "attention_at='output' (after_conv3) or 'hidden' "
                '(after_conv2)')
        check_positive(
            in_channels=in_channels,
            base_channels=base_channels,
            groups=groups,
            **given(
                stem_channels=stem_channels,
                base_width=base_width,
                width_per_group=width_per_group))
        check_bool(
            deep_stem=deep_stem,
            avg_down=avg_down,
            contract_dilation=contract_dilation,
            with_cp=with_cp,
            zero_init_residual=zero_init_residual)
        if not is_number(drop_path_rate) or not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate={drop_path_rate!r} must be at '
                             'least 0 and less than 1')
        block_type, depths = self._block_and_depths(depth, num_stages)
        check_positives(
            strides=strides,
            dilations=dilations,
            **given(multi_grid=multi_grid))
        for name, values in (('strides', strides), ('dilations', dilations)):
            if len(values) != num_stages:
                raise ValueError(f'{name}={tuple(values)} must have one entry '
                                 f'for each of num_stages={num_stages}')
        block_type, settings = block_and_settings(
            block_type, depth, base_channels, expansion, avg_down, groups,
            base_width, width_per_group, style, branches)
        super().__init__(
            num_stages=num_stages,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            on_partial_load=on_partial_load,
            init_cfg=initialisation(pretrained, init_cfg))
        words = stage_words(
            num_stages,
            attention=attention,
            attention_at=attention_at,
            link=link,
            fusion=fusion,
            depth_fusion=depth_fusion,
            stage_attention=stage_attention,
            conv2=spatial_convs(conv2, dcn, stage_with_dcn, num_stages))
        parts = Parts(
            conv=partial(build_conv, conv_cfg, bias=False),
            norm=partial(build_norm, norm_cfg),
            attention_at='output' if branches is None else 'hidden',
            with_cp=with_cp)
        self.deep_stem = deep_stem
        channels = stem_channels or base_channels
        if deep_stem and channels < 2:
            raise ValueError('deep_stem halves the channels of the stem: give '
                             'stem_channels or base_channels of 2 or more')
        self._add_stem(parts, in_channels, channels)
        # Every stage of the depth has its share of the ramp, built or not.
        rates = torch.linspace(
            0, drop_path_rate, sum(depths), device='cpu').tolist()
        linked = None
        for i, num_blocks in enumerate(depths[:num_stages]):
            planes = base_channels * 2**i
            grid = block_dilations(
                dilations[i], num_blocks, contract_dilation,
                multi_grid if i == num_stages - 1 else None)
            rows = [
                dict(
                    in_channels=planes * block_type.expansion
                    if j else channels,
                    channels=planes,
                    stride=1 if j else strides[i],
                    dilation=grid[j],
                    drop_path=rates.pop(0)) for j in range(num_blocks)
            ]
            linked = self.add_stage(
                partial(block_type, **settings), rows, parts, words[i],
                norm_cfg, linked, 'attention'
                if branches is None else 'attention of branches')
            channels = planes * block_type.expansion
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    module.init_cfg = dict(
                        type='Constant',
                        val=0,
                        override=dict(name='last_norm'))
        self.freeze()

    def _block_and_depths(self, depth: Union[int, Sequence[int]],
                          num_stages: int) -> Tuple[type, Tuple[int, ...]]:
        if is_list(depth):
            check_positives(depth=depth)
            block_type, depths = self.custom_block, tuple(depth)
        elif is_int(depth) and depth in self.arch_settings:
            block_type, depths = self.arch_settings[depth]
        else:
            raise ValueError(
                f'depth {depth!r} is none of {list(self.arch_settings)}; give '
                'one of them or a tuple of stage depths')
        if not is_int(num_stages) or not 1 <= num_stages <= len(depths):
            raise ValueError(f'num_stages={num_stages!r} does not fit the '
                             f'stage depths {depths}')
        return block_type, depths

    def _add_stem(self, parts: Parts, in_channels: int, channels: int) -> None:
        if self.deep_stem:
            widths = (in_channels, channels // 2, channels // 2, channels)
            layers = []
            for i in range(3):
                layers += [
                    parts.conv(
                        widths[i],
                        widths[i + 1],
                        3,
                        stride=1 if i else 2,
                        padding=1),
                    parts.norm(widths[i + 1])[1],
                    parts.act(inplace=True)
                ]
            self.add_module('stem', nn.Sequential(*layers))
        else:
            self.conv1 = parts.conv(
                in_channels, channels, 7, stride=2, padding=3)
            self.norm1_name, norm = parts.norm(channels, postfix=1)
            self.add_module(self.norm1_name, norm)
            self.relu = parts.act(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward_stem(self, x: Tensor) -> Tensor:
        if self.deep_stem:
            x = self.stem(x)
        else:
            x = self.relu(getattr(self, self.norm1_name)(self.conv1(x)))
        return self.maxpool(x)

    def stem_modules(self) -> List[nn.Module]:
        if self.deep_stem:
            return [self.stem]
        return [self.conv1, getattr(self, self.norm1_name)]
