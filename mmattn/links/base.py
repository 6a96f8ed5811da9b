"""The contract of links, and the link that fits any attention."""
from typing import Any, Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS

# ``attention`` and descriptors are not annotated by class here: attentions
# name their link, so this module sits below them.


class Link(BaseModule):
    """Runs an attention with what the previous one handed on.

    ``d = extract(x)``; ``a = transform(merge(d, match(carry)))``;
    ``y = attend(x, a)``; hands on ``carry(d, a, y)``.

    Args:
        attention: The attention it will run; it stays a sibling, so that
            weights trained without a link load as they are.
        in_channels: Channels of the attended map.
        carry_channels: Channels of the map that the previous attention
            attended; None for the first attention of the network, whose link
            has no parameters and only hands on.

    Raises:
        TypeError: The attention has no phases to step between.
    """

    # Whether ``carry`` needs the attended map.
    hands_on_map = True

    def __init__(self, attention: nn.Module, in_channels: int,
                 carry_channels: Optional[int]):
        super().__init__()
        missing = [
            phase for phase in ('extract', 'transform', 'attend')
            if not hasattr(attention, phase)
        ]
        if missing:
            raise TypeError(
                f'{type(attention).__name__} cannot be linked: it has no '
                f'{", ".join(missing)}; link an attention with phases')

    def match(self, carry: Any, x: Tensor) -> Any:
        """Bring what was handed on to the channels and size of ``x``."""
        return carry

    def merge(self, attention: nn.Module, d: Any, p: Any) -> Any:
        """Mix the matched carry into the descriptor."""
        raise NotImplementedError

    @staticmethod
    def carry(d: Any, a: Any, y: Optional[Tensor]) -> Any:
        """What the next attention gets."""
        raise NotImplementedError

    def forward(self,
                attention: nn.Module,
                x: Tensor,
                carry: Any = None,
                shortcut: Optional[Tensor] = None,
                inplace: bool = False) -> Tuple[Tensor, Any]:
        d = attention.extract(x)
        if carry is None:
            a = attention.transform(d)
        else:
            p = self.match(carry, x)
            a = attention.transform(self.merge(attention, d, p))
        if not self.hands_on_map:
            y = attention.finish(x, a, shortcut, inplace)
            return y, self.carry(d, a, None)
        y = attention.finish(x, a, inplace=inplace)
        return y if shortcut is None else y + shortcut, self.carry(d, a, y)


def pooling_matrix(size: int, side: int, device: torch.device,
                   dtype: torch.dtype) -> Tensor:
    """What adaptive average pooling multiplies a side of a map by.

    Shape:
        ``(side, size)``: a row for each place of the result.
    """
    place = torch.arange(side, device=device)[:, None]
    start = place * size // side
    end = ((place + 1) * size + side - 1) // side
    t = torch.arange(size, device=device)
    return ((t >= start) & (t < end)).to(dtype) / (end - start)


def pool_to(carry: Tensor, x: Tensor) -> Tensor:
    """Average-pool a map to the size of ``x`` where it differs.

    PyTorch's is not exported to ONNX for any size, and its gradient is not
    deterministic on a GPU; where either is asked for, matrices do the same.
    """
    sizes = *carry.shape[2:], *x.shape[2:]
    if carry.shape[2:] == x.shape[2:]:
        return carry
    if not (torch.are_deterministic_algorithms_enabled()
            or any(isinstance(size, torch.SymInt) for size in sizes)):
        return F.adaptive_avg_pool2d(carry, x.shape[2:])
    rows, columns = (
        pooling_matrix(size, side, carry.device, carry.dtype)
        for size, side in zip(sizes[:2], sizes[2:]))
    return rows @ carry @ columns.T


@MODELS.register_module()
class MapLink(Link):
    """Mixes in the descriptor of the previous attended map.

    ``z = w_1 * extract(x) + w_2 * extract(match(y'))`` for the previous
    attended map ``y'``, starting at ``w = (1, 0)``: a newly linked network
    equals the unlinked one. ``match`` pools ``y'`` to the size of ``x`` and,
    where the widths differ, applies a 1x1 convolution.

    Needs nothing from the attention but its phases, so it links any kind: an
    extension of ours, not one of DCANet's published links.

    Args:
        attention, in_channels, carry_channels: As for every link.

    Raises:
        TypeError: The attention is a fusion of several maps.
    """

    def __init__(self, attention: nn.Module, in_channels: int,
                 carry_channels: Optional[int]):
        super().__init__(attention, in_channels, carry_channels)
        if hasattr(attention, 'num_maps'):
            raise TypeError(
                f'{type(attention).__name__} cannot have a MapLink: it fuses '
                'several maps and hands on one; SelectiveFusion can be linked')
        self.conv = None
        if carry_channels is None:
            return
        self.weight = nn.Parameter(torch.tensor([1., 0.]))
        if carry_channels != in_channels:
            self.conv = nn.Conv2d(carry_channels, in_channels, 1)

    def match(self, carry: Tensor, x: Tensor) -> Tensor:
        carry = pool_to(carry, x)
        return carry if self.conv is None else self.conv(carry)

    def merge(self, attention: nn.Module, d: Any, p: Tensor) -> Any:
        p = attention.extract(p)
        if isinstance(d, tuple):
            return tuple(self._mix(*pair) for pair in zip(d, p))
        return self._mix(d, p)

    def _mix(self, d: Tensor, p: Tensor) -> Tensor:
        return self.weight[0] * d + self.weight[1] * p

    @staticmethod
    def carry(d: Any, a: Any, y: Tensor) -> Tensor:
        return y
