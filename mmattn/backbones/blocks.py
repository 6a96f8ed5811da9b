import inspect
from typing import Any, List, Optional, Sequence, Tuple

import torch
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..fusions import Add, Fusion
from ..parts import Parts


def tap(taps: Optional[dict], name: str, x: Tensor) -> None:
    """Give a map to the caller's dict if that has a place for it."""
    if taps is not None and name in taps:
        taps[name] = x


class ResidualBlock(BaseModule):
    """``z = fusion(branch(x), shortcut(x))``, before the activation.

    The template of every block. A subclass builds its convolutions, then
    calls ``add_parts``; its ``branch`` calls ``attend(y, carry, 'hidden')``
    behind the spatial convolution if it lists that place. ``act`` is applied
    by the stage, which may need the sum as it is.

    ``forward`` maps ``(x, carry)`` to ``(z, carry)``: what a link hands on
    travels beside the map. A block without an attention passes it through.
    Into ``taps``, a dict of the caller's, it puts those of its inner maps
    that the dict has a place for.

    Args:
        parts: The factories it is handed.

    Raises:
        ValueError: The attention's place is not one the block has.
    """

    # Output channels over ``channels``.
    expansion = 1
    # Where an attention may sit.
    places: Tuple[str, ...] = ('output', )
    # The maps that can be asked for; ``output`` is the result.
    tap_names: Tuple[str, ...] = ('output', )

    def __init__(self, parts: Parts):
        super().__init__()
        self.attention_at = parts.attention_at
        self.with_cp = parts.with_cp
        self.downsample = None
        if parts.attention and parts.attention_at not in self.places:
            raise ValueError(
                f'{type(self).__name__} has no place '
                f'{parts.attention_at!r} for an attention; attention_at can '
                f'be {" or ".join(map(repr, self.places))}')

    def add_norm(self, parts: Parts, channels: int, index: int) -> str:
        """Add a norm under its published name (``bn1``); return the name."""
        name, norm = parts.norm(channels, postfix=index)
        self.add_module(name, norm)
        return name

    def add_parts(self,
                  parts: Parts,
                  out_channels: int,
                  attention_channels: int,
                  carry_channels: Optional[int],
                  join: bool = True) -> None:
        """Add what follows the convolutions: attention, link, join, act.

        Without ``join`` the block has no shortcut, and the branch is all.
        """
        self.out_channels = out_channels
        self.attention_channels = attention_channels
        self.attention = self.link = None
        if parts.attention:
            self.attention = parts.attention(attention_channels)
            if parts.link:
                self.link = parts.link(self.attention, attention_channels,
                                       carry_channels)
        self.fusion = parts.fusion(out_channels) if join else None
        self.drop_path = (
            DropPath(parts.drop_path)
            if join and parts.drop_path else nn.Identity())
        self.act = parts.act(inplace=parts.inplace)
        # Ours add the shortcut in the pass that weighs the map.
        callee = self.link or self.attention
        self.takes_shortcut = (
            callee is not None
            and 'shortcut' in inspect.signature(callee.forward).parameters)

    @property
    def last_norm(self) -> Optional[nn.Module]:
        """The norm that ends the branch, None if none does."""
        return None

    def branch(self,
               x: Tensor,
               carry: Any,
               taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        """The convolutions."""
        raise NotImplementedError

    def shortcut(self, x: Tensor) -> Tensor:
        return x if self.downsample is None else self.downsample(x)

    def attend(self,
               y: Tensor,
               carry: Any,
               at: str,
               shortcut: Optional[Tensor] = None) -> Tuple[Tensor, Any]:
        """Run the attention if ``at`` is its place; add the shortcut."""
        same = shortcut is None or y.dtype == shortcut.dtype
        if self.attention is None or at != self.attention_at:
            if shortcut is not None:
                # A branch holds its map alone, and what made it, a norm or a
                # convolution, does not need it for its gradient.
                y = y.add_(shortcut) if same else y + shortcut
            return y, carry
        # An attention does need its map.
        inplace = same and not torch.is_grad_enabled()
        options = {}
        if self.takes_shortcut:
            options = dict(shortcut=shortcut, inplace=inplace)
        if self.link is None:
            y = self.attention(y, **options)
        else:
            y, carry = self.link(self.attention, y, carry, **options)
        if shortcut is not None and not self.takes_shortcut:
            y = y + shortcut
        return y, carry

    def _forward(self, x: Tensor, carry: Any,
                 taps: Optional[dict]) -> Tuple[Tensor, Any]:
        y, carry = self.branch(x, carry, taps)
        if type(self.fusion) is Add and type(self.drop_path) is nn.Identity:
            y, carry = self.attend(y, carry, 'output', self.shortcut(x))
        else:
            y, carry = self.attend(y, carry, 'output')
            if self.fusion is not None:
                y = self.fusion((self.drop_path(y), self.shortcut(x)))
        tap(taps, 'output', y)
        return y, carry

    def forward(self,
                x: Tensor,
                carry: Any = None,
                taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        # Not where the input needs no gradient: there is little to save, and
        # batch norms of a block that runs twice update twice.
        if self.with_cp and x.requires_grad:
            return checkpoint(
                self._forward, x, carry, taps, use_reentrant=False)
        return self._forward(x, carry, taps)


class Stage(BaseModule):
    """Blocks in a row, then depth fusion, then the stage's attention.

    With a depth fusion (SDA-xNet) the output is ``act(fusion(z_1 ... z_n))``
    over the blocks' sums ``z_i`` before their activation; the blocks
    themselves run as without it. At most the n sums stay alive; what the
    fusion needs of each is pooled right behind its block.

    Blocks are children ``'0'``, ``'1'``, ... and ``stage[i]`` returns them.

    Args:
        blocks: The blocks. With a depth fusion their ``act`` must not work
            in place.
        depth_fusion: Fuses the blocks' sums.
        stage_attention: Attends the output.
    """

    def __init__(self,
                 blocks: Sequence[ResidualBlock],
                 depth_fusion: Optional[Fusion] = None,
                 stage_attention: Optional[nn.Module] = None):
        super().__init__()
        self.num_blocks = len(blocks)
        for i, block in enumerate(blocks):
            self.add_module(str(i), block)
        self.depth_fusion = depth_fusion
        self.stage_attention = stage_attention

    def __len__(self) -> int:
        return self.num_blocks

    def __getitem__(self, index: int) -> ResidualBlock:
        return self.blocks[index]

    @property
    def blocks(self) -> List[ResidualBlock]:
        return [getattr(self, str(i)) for i in range(self.num_blocks)]

    def forward(self,
                x: Tensor,
                carry: Any = None,
                taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        taps = taps or {}
        if self.depth_fusion is None:
            for i, block in enumerate(self.blocks):
                x, carry = block(x, carry, taps.get(i))
                x = block.act(x)
        else:
            x, carry = self._forward_depths(x, carry, taps)
        if self.stage_attention is not None:
            x = self.stage_attention(x)
        return x, carry

    def _forward_depths(self, x: Tensor, carry: Any,
                        taps: dict) -> Tuple[Tensor, Any]:
        sums, descriptors = [], []
        *inner, last = self.blocks
        for i, block in enumerate(inner):
            z, carry = block(x, carry, taps.get(i))
            sums.append(z)
            descriptors.append(self.depth_fusion.pool(z))
            x = block.act(z)
        # Nobody reads the last one's activation.
        z, carry = last(x, carry, taps.get(len(inner)))
        del x
        sums.append(z)
        descriptors.append(self.depth_fusion.pool(z))
        del z
        weights = self.depth_fusion.transform(tuple(descriptors))
        return last.act(self.depth_fusion.attend(sums, weights)), carry
