import math
from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from ..checks import check_positive, given
from ..registry import MODELS
from .base import Attention


@MODELS.register_module()
class SA(Attention):
    """Scale half the channels by their means, half by their own values.

    Each of G groups of channels is cut in two halves ``u`` and ``v`` of
    ``h = C / 2G`` channels: ``u * sigmoid(w_u * mean_hw(u) + b_u)`` and
    ``v * sigmoid(w_v * norm(v) + b_v)``, where ``norm`` runs over the
    positions of each channel. A shuffle then mixes the first half of all
    channels with the second. All G groups share the 6 h parameters.

    Args:
        in_channels: C.
        groups: G, even; 2 G divides C. None takes 64, as the published
            networks have, or as large a divisor of 64 as C allows.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: the means ``(B, C/2, 1, 1)``
        and the maps ``(B, C/2, H, W)``.

    Source: Zhang and Yang, "SA-Net", arXiv:2102.00240, section 3; the
        released code for the start.
    Departs: the norm and the line behind it are one, and the joined halves
        are written in shuffled order at once (same numbers).

    Raises:
        ValueError: ``groups`` is odd, or ``2 * groups`` does not divide C.
    """

    def __init__(self, in_channels: int, *, groups: Optional[int] = None):
        super().__init__()
        check_positive(in_channels=in_channels, **given(groups=groups))
        groups = groups or math.gcd(64, in_channels // 2)
        if groups % 2 or in_channels % (2 * groups):
            raise ValueError(f'groups={groups} must be even, and twice as '
                             f'many must divide in_channels={in_channels}')
        self.groups = groups
        self.half = in_channels // (2 * groups)
        shape = 1, self.half, 1, 1
        # The published start: one gate, sigmoid(1), for all.
        self.mean_weight = nn.Parameter(torch.zeros(shape))
        self.mean_bias = nn.Parameter(torch.ones(shape))
        self.map_weight = nn.Parameter(torch.zeros(shape))
        self.map_bias = nn.Parameter(torch.ones(shape))
        self.norm = nn.GroupNorm(self.half, self.half)

    def _halves(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        u, v = x.unflatten(1, (self.groups, 2, self.half)).unbind(2)
        return u, v  # (B, G, h, H, W)

    def extract(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        u, v = self._halves(x)
        return (u.mean((3, 4)).flatten(1)[..., None, None], v.flatten(1, 2))

    def transform(self, d: Tuple[Tensor, Tensor]) -> Tuple[Tensor, Tensor]:
        mean, v = d

        def each_group(value: Tensor) -> Tensor:
            return value.flatten().repeat(self.groups)

        line = each_group(self.mean_weight), each_group(self.mean_bias)
        mean = line[0][:, None, None] * mean + line[1][:, None, None]
        weight, bias = self.map_weight.flatten(), self.map_bias.flatten()
        # The function of torch, not that of its module, which refuses one
        # value per channel; the norm of one value is 0.
        v = torch.group_norm(v, v.shape[1],
                             each_group(weight * self.norm.weight),
                             each_group(weight * self.norm.bias + bias),
                             self.norm.eps)
        # Autocast runs the norm in single precision; gates do not.
        return mean.sigmoid().to(d[0].dtype), v.to(d[1].dtype).sigmoid()

    def attend(self, x: Tensor, a: Tuple[Tensor, Tensor]) -> Tensor:
        # Channel (i, g, s, k) of (2, G/2, 2, h) goes to (g, s, k, i).
        halves = [
            (half * gate.unflatten(1, half.shape[1:3])).unflatten(
                1, (2, -1)).movedim(1, 3)
            for half, gate in zip(self._halves(x), a)
        ]
        return torch.stack(halves, 2).flatten(1, 4)
