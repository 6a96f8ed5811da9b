import math
from typing import Optional

import torch
from torch import Tensor, nn

from ..checks import check_positive, given
from ..registry import MODELS
from .base import Attention


@MODELS.register_module()
class SGE(Attention):
    """Scale every position, group by group, by how it resembles the mean.

    In each of G groups of channels, ``y = x * sigmoid(w * t + b)``, where
    ``t`` is ``s = <x, mean_hw(x)>``, the similarity of a position to the mean
    vector of its group, less its mean over all positions and divided by its
    unbiased standard deviation plus 1e-5.

    Args:
        in_channels: C.
        groups: G, a divisor of C. None takes 64, as the published networks
            have, or as large a divisor of 64 as C allows.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``s``, ``(B, G, H, W)``.

    Source: Li et al., "Spatial Group-wise Enhance", arXiv:1905.09646,
        section 3; the released code for the standard deviation.
    Departs: ``s`` is one matrix product per group; no map of products.

    Raises:
        ValueError: ``groups`` does not divide C. In forward: the map is 1x1,
            which has no standard deviation.
    """

    def __init__(self, in_channels: int, *, groups: Optional[int] = None):
        super().__init__()
        check_positive(in_channels=in_channels, **given(groups=groups))
        groups = groups or math.gcd(64, in_channels)
        if in_channels % groups:
            raise ValueError(f'groups={groups} must divide in_channels='
                             f'{in_channels}')
        self.groups = groups
        # The published start: one gate, sigmoid(1), for all.
        self.weight = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.bias = nn.Parameter(torch.ones(1, groups, 1, 1))

    def extract(self, x: Tensor) -> Tensor:
        u = x.flatten(2).unflatten(1, (self.groups, -1))  # (B, G, C/G, HW)
        s = u.mean(3).unsqueeze(2) @ u  # (B, G, 1, HW)
        return s.view(x.shape[0], self.groups, *x.shape[2:])

    def transform(self, d: Tensor) -> Tensor:
        if d.shape[2:].numel() == 1:
            raise ValueError(
                'SGE: a 1x1 map has no standard deviation over its positions; '
                'give larger images, or no SGE to the stages whose maps are '
                'this small (attention=[..., None])')
        t = d - d.mean((2, 3), keepdim=True)
        t = t / (t.std((2, 3), keepdim=True) + 1e-5)
        # Its own parameters would widen a half-precision gate.
        return (self.weight * t + self.bias).sigmoid().to(d.dtype)

    def attend(self, x: Tensor, a: Tensor) -> Tensor:
        u = x.unflatten(1, (self.groups, -1))
        return (u * a.unsqueeze(2)).flatten(1, 2)
