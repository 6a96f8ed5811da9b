"""Links made of links: for attentions in a chain, for parallel branches."""
from typing import Any, Optional, Tuple

from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..checks import check_choice
from ..registry import MODELS
from .base import Link
from .dca import ChannelLink, accepted


@MODELS.register_module()
class ChainLink(Link):
    """One link for each part of a chain of attentions (CBAM).

    Hands on one carry per part; a part is connected to its own kind only.

    Args:
        attention: The chain.
        in_channels, carry_channels: As for every link.
        norm_cfg: For the parts' links that hold a norm.
        published_start: For the link of a spatial gate, see ``SpatialLink``.
        match_bias: For the link of a channel gate, see ``PooledMapLink``.
    """

    def __init__(self,
                 attention: nn.Module,
                 in_channels: int,
                 carry_channels: Optional[int],
                 *,
                 norm_cfg: dict = dict(type='BN'),
                 published_start: bool = False,
                 match_bias: bool = True):
        # Not Link's check: a chain has no phases, its parts have.
        BaseModule.__init__(self)
        self.links = ModuleList(
            part.link_type(
                part, in_channels, carry_channels, **accepted(
                    part.link_type,
                    norm_cfg=norm_cfg,
                    published_start=published_start,
                    match_bias=match_bias))
            for part in attention.children())

    def forward(self,
                attention: nn.Module,
                x: Tensor,
                carry: Optional[tuple] = None,
                shortcut: Optional[Tensor] = None,
                inplace: bool = False) -> Tuple[Tensor, tuple]:
        carries = []
        last = len(self.links) - 1
        for i, (link, part) in enumerate(
                zip(self.links, attention.children())):
            # What a link handed on is not ours to write to.
            x, handed = link(part, x, None if carry is None else carry[i],
                             shortcut if i == last else None,
                             inplace and i == 0)
            carries.append(handed)
        return x, tuple(carries)


@MODELS.register_module()
class BranchLink(Link):
    """One ``ChannelLink`` for each map that a fusion chooses among (SK).

    Every branch's descriptor is mixed with what the same branch handed on,
    ``s_i' = d_i * a_i``; the fusion then decides over the mixed ones.

    Args:
        attention: The fusion.
        in_channels, carry_channels: As for every link.
        mix_bias, match_ratio: Of each, see ``ChannelLink``.
        hand_on: What each branch hands on: ``'mean'`` of its weighted map,
            ``d_i * a_i``, or only the ``'weight'`` ``a_i``, as the published
            SK-MobileNetV2 does.

    Departs: the published code pools the weighted maps once more to hand
        them on; the mean of ``a_i x_i`` is ``a_i d_i`` (same numbers).

    Raises:
        TypeError: The attention fuses no maps.
        ValueError: Another ``hand_on``.
    """

    hands_on_map = False

    def __init__(self,
                 attention: nn.Module,
                 in_channels: int,
                 carry_channels: Optional[int],
                 *,
                 mix_bias: bool = True,
                 match_ratio: Optional[int] = None,
                 hand_on: str = 'mean'):
        super().__init__(attention, in_channels, carry_channels)
        check_choice(('mean', 'weight'), hand_on=hand_on)
        if not hasattr(attention, 'num_maps'):
            raise TypeError(f'{type(attention).__name__} cannot have a '
                            'BranchLink: it does not fuse several maps')
        self.hand_on = hand_on
        self.links = ModuleList(
            ChannelLink(
                attention,
                in_channels,
                carry_channels,
                mix_bias=mix_bias,
                match_ratio=match_ratio)
            for _ in range(attention.num_maps))

    def match(self, carry: Tuple[Tensor, ...], x: Any) -> Tuple[Tensor, ...]:
        return tuple(
            link.match(c, x) for link, c in zip(self.links, carry))

    def merge(self, attention: nn.Module, d: Tuple[Tensor, ...],
              p: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
        return tuple(
            link.merge(attention, *pair)
            for link, pair in zip(self.links, zip(d, p)))

    def carry(self, d: Tuple[Tensor, ...], a: Tuple[Tensor, ...],
              y: None) -> Tuple[Tensor, ...]:
        if self.hand_on == 'weight':
            return a
        return tuple(ChannelLink.carry(*pair, y) for pair in zip(d, a))
