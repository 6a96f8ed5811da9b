from dataclasses import replace
from typing import Any, List, Optional, Sequence, Tuple

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checkpoints.report import check_trunk
from ..checks import check_bool, check_choice, is_int, is_list
from ..parts import Factory, Parts, factory, spread
from .blocks import ResidualBlock, Stage
from .depths import layer_depth


class Backbone(BaseModule):
    """Stem and stages; returns the maps of ``out_indices`` as a tuple.

    The base of ResNets and mobile nets. A subclass builds its stem, defines
    ``forward_stem`` and ``stem_modules``, and calls ``add_stage`` once a
    stage, with that stage's entry of ``stage_words``.

    Args:
        num_stages: How many stages ``add_stage`` will be called for.
        out_indices: Stages whose output is returned, from 0.
        out_taps: Maps inside the stages that are returned before those, as
            ``'layer6.0.expanded'``: stage, block, and a name that the block
            has (``tap_names``).
        frozen_stages: -1 freezes nothing, 0 the stem, k also the first k
            stages with all their parts.
        norm_eval: Keep batch norms in eval mode while training.
        on_partial_load: ``'error'`` refuses a checkpoint that holds nothing
            or only some of the trunk, ``'warn'`` goes on with what fits.
        init_cfg: As for every mmengine module.

    Raises:
        ValueError: A stage that does not exist, an unknown
            ``on_partial_load``.
    """

    # Whether a frozen stem is in eval mode.
    stem_eval = True

    def __init__(self, *, num_stages: int, out_indices: Sequence[int],
                 frozen_stages: int, norm_eval: bool, on_partial_load: str,
                 init_cfg: Any, out_taps: Sequence[str] = (),
                 num_outputs: Optional[int] = None):
        super().__init__(init_cfg)
        last = (num_outputs or num_stages) - 1
        if not is_list(out_taps) or not all(
                isinstance(name, str) for name in out_taps):
            raise ValueError(f'out_taps must list names, got {out_taps!r}')
        if not is_list(out_indices) or not (out_indices or out_taps) or any(
                not is_int(i) or not 0 <= i <= last for i in out_indices):
            raise ValueError(f'out_indices {out_indices!r} must name stages '
                             f'0 to {last}, in a list')
        if not is_int(frozen_stages) or not -1 <= frozen_stages <= num_stages:
            raise ValueError(f'frozen_stages {frozen_stages!r} must lie '
                             f'between -1 and num_stages={num_stages}')
        check_bool(norm_eval=norm_eval)
        check_choice(('error', 'warn'), on_partial_load=on_partial_load)
        self.num_stages = num_stages
        self.out_indices = tuple(out_indices)
        self.out_taps = tuple(out_taps)
        self.tap_places: Tuple[Tuple[str, int, str], ...] = ()
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.on_partial_load = on_partial_load
        self.stage_names: List[str] = []

    def add_stage(self, block_type: Factory, rows: Sequence[dict],
                  parts: Parts, words: dict, norm_cfg: dict,
                  linked: Optional[ResidualBlock],
                  attention_slot: str = 'attention'
                  ) -> Optional[ResidualBlock]:
        """Build the next stage.

        Args:
            block_type: Called as ``(in_channels, channels, stride, dilation,
                parts, carry_channels)``.
            rows: For each block its ``in_channels, channels, stride,
                dilation, drop_path``, and ``settings`` if it is called with
                more.
            parts: What all blocks share.
            words: The config words of this stage.
            norm_cfg: Handed to parts that hold a norm.
            linked: The last block before that has a link.
            attention_slot: What an attention of these blocks may be, a slot
                of ``parts.SLOTS``.

        Returns:
            The last block so far that has a link.

        Raises:
            ValueError: A word that does not fit the stage.
        """
        name = f'layer{len(self.stage_names) + 1}'

        def each_block(word: str) -> list:
            return spread(words[word], len(rows), f'{word} of {name}',
                          'blocks')

        if words['depth_fusion'] and len(rows) < 2:
            raise ValueError(f'depth_fusion chooses among the blocks of a '
                             f'stage, and {name} has one; give None for it')
        parts = replace(parts, inplace=not words['depth_fusion'])
        slots = ('attention', 'link', 'fusion', 'conv2')
        configs = zip(*(each_block(slot) for slot in slots),
                      each_block('attention_at'))
        blocks = []
        for row, (*made, at) in zip(rows, configs):
            made = {
                slot: factory(
                    cfg, attention_slot if slot == 'attention' else slot,
                    norm_cfg)
                for slot, cfg in zip(slots, made) if cfg is not None
            }
            if at is not None:
                made['attention_at'] = at
            block = block_type(
                row['in_channels'],
                row['channels'],
                row['stride'],
                row['dilation'],
                replace(parts, drop_path=row['drop_path'], **made),
                linked.attention_channels if linked else None,
                **row.get('settings', {}))
            blocks.append(block)
            if block.link is not None:
                for part in ('attention', 'link') if linked else ():
                    this, last = getattr(block, part), getattr(linked, part)
                    if type(this) is not type(last):
                        raise ValueError(
                            f'{name}.{len(blocks) - 1} cannot link '
                            f'{type(this).__name__} to '
                            f'{type(last).__name__}: a network has links of '
                            'one kind between attentions of one kind')
                linked = block
        out_channels = blocks[-1].out_channels
        depth_fusion = factory(words['depth_fusion'], 'depth_fusion',
                               norm_cfg)
        stage_attention = factory(words['stage_attention'], 'stage_attention',
                                  norm_cfg)
        self.add_module(
            name,
            Stage(
                blocks, depth_fusion and depth_fusion(
                    out_channels, num_maps=len(blocks)), stage_attention
                and stage_attention(out_channels)))
        self.stage_names.append(name)
        return linked

    def find_taps(self) -> None:
        """Find the maps of ``out_taps``; ValueError for what is not there."""
        known = [
            f'{stage}.{i}.{name}' for stage in self.stage_names
            for i, block in enumerate(getattr(self, stage))
            for name in block.tap_names
        ]
        wrong = [tap for tap in self.out_taps if tap not in known]
        if wrong:
            raise ValueError(f'out_taps {", ".join(wrong)} are no maps of '
                             f'{type(self).__name__}; it has '
                             f'{", ".join(known)}')
        names = (tap.split('.') for tap in self.out_taps)
        self.tap_places = tuple((s, int(i), name) for s, i, name in names)

    def forward_stem(self, x: Tensor) -> Tensor:
        """Image to the first stage's input."""
        raise NotImplementedError

    def forward_tail(self, x: Tensor) -> Tensor:
        """Last stage's output to what a network has behind its stages."""
        raise NotImplementedError

    def stem_modules(self) -> List[nn.Module]:
        """What ``frozen_stages >= 0`` freezes before the stages."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        x = self.forward_stem(x)
        carry, outs = None, []
        taps = {}  # places for the maps asked for, this call's own
        for stage, i, name in self.tap_places:
            taps.setdefault(stage, {}).setdefault(i, {})[name] = None
        last = max([*self.out_indices, *(
            self.stage_names.index(stage) for stage in taps)])
        for i, stage in enumerate(self.stage_names[:last + 1]):
            x, carry = getattr(self, stage)(x, carry, taps.get(stage))
            if i in self.out_indices:
                outs.append(x)
        if self.num_stages in self.out_indices:
            outs.append(self.forward_tail(x))
        return (*(taps[s][i][name] for s, i, name in self.tap_places), *outs)

    def get_layer_depth(self,
                        param_name: str,
                        prefix: str = '') -> Tuple[int, int]:
        """The layer of a parameter and the number of layers (``depths.py``).

        What mmpretrain's ``LearningRateDecayOptimWrapperConstructor`` asks
        for; equal to its own ResNets' answer where they have one.

        Args:
            param_name: Its name in the whole model.
            prefix: Of the backbone's names in it. Anything else is the head.
        """
        name = ''
        if param_name.startswith(prefix):
            name = param_name[len(prefix):]
        return layer_depth(
            name, [child for child, _ in self.named_children()],
            self.stage_names,
            [len(getattr(self, stage)) for stage in self.stage_names])

    def freeze(self) -> None:
        """Freeze the stem and the first ``frozen_stages`` stages."""
        if self.frozen_stages < 0:
            return
        stem = self.stem_modules()
        stages = [
            getattr(self, name)
            for name in self.stage_names[:self.frozen_stages]
        ]
        for module in stem + stages:
            for parameter in module.parameters():
                parameter.requires_grad = False
        for module in (stem if self.stem_eval else []) + stages:
            if not isinstance(module, nn.Conv2d):  # as the stock networks
                module.eval()

    def init_weights(self) -> None:
        """Initialise, or load the checkpoint of ``init_cfg``.

        Raises:
            FileNotFoundError: It is missing; says how to get it.
        """
        try:
            super().init_weights()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{error}\nIt is the starting checkpoint of the '
                f'{type(self).__name__} backbone. Train it with the ImageNet '
                'config of this backbone (configs/imagenet/), or convert a '
                "published file with tools/convert_checkpoint.py; then set "
                '--cfg-options model.backbone.init_cfg.checkpoint=PATH. To '
                'start from scratch: model.backbone.init_cfg=None') from error

    def train(self, mode: bool = True) -> 'Backbone':
        """Set the mode; what is frozen and ``norm_eval`` norms stay put."""
        super().train(mode)
        self.freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args: Any) -> None:
        check_trunk(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
