import math
from typing import Optional

import torch
from torch import Tensor

from ..checks import check_positive
from ..links import MapLink
from ..links.base import pooling_matrix
from ..registry import MODELS
from .se import SE

# Of rows, of columns, in a plane of 7 x 7; the best first.
FREQUENCIES = ((0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2,
                4, 6, 3, 5, 5, 2, 6, 5, 5, 3, 3, 4, 2, 2, 6, 1),
               (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2,
                6, 3, 3, 3, 5, 1, 1, 2, 4, 2, 1, 1, 3, 0, 5, 3))


@MODELS.register_module()
class Fca(SE):
    """Scale every channel by a gate that sees one frequency of each channel.

    SE without biases, of a coefficient of the orthonormal cosine transform
    in place of the mean: the i-th of n groups of channels at frequency i.

    Args:
        in_channels: C, divisible by ``num_frequencies``.
        ratio: C over hidden width.
        num_frequencies: n, up to 32 of the paper's list ("top16").
        dct_size: Side of the square the map is pooled to before. None takes
            the map as it is, at ``u H // 7`` of H frequencies; d then grows
            with the map. For weights trained at another size, give the sides
            of training: 56, 28, 14, 7 for the stages of the published nets.
        gate_init: As for SE.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``(B, C, 1, 1)``.

    Source: Qin et al., "FcaNet", arXiv:2012.11879, section 3.3.
    Departs: cosines of a side, pooling folded in, not an N x N table (same
        numbers); other sides than 7 n use the frequency below.

    Raises:
        ValueError: ``ratio`` leaves no hidden channel; no such n; no size.
    """

    link_type = MapLink

    def __init__(self,
                 in_channels: int,
                 *,
                 ratio: int = 16,
                 num_frequencies: int = 16,
                 dct_size: Optional[int] = None,
                 gate_init: Optional[str] = None):
        super().__init__(
            in_channels, ratio=ratio, bias=False, gate_init=gate_init)
        check_positive(num_frequencies=num_frequencies)
        if num_frequencies > 32 or in_channels % num_frequencies:
            raise ValueError(f'num_frequencies={num_frequencies} must be at '
                             f'most 32 and divide in_channels={in_channels}')
        if dct_size is not None:
            check_positive(dct_size=dct_size)
        self.num_frequencies = num_frequencies
        self.dct_size = dct_size
        frequencies = torch.tensor(FREQUENCIES)[:, :num_frequencies]
        self.register_buffer('frequencies', frequencies, persistent=False)

    def _cosines(self, size: int, x: Tensor, each: Tensor) -> Tensor:
        """One of 7 cosines along a side of the map for each frequency."""
        side = self.dct_size or size
        dtype = torch.promote_types(x.dtype, torch.float32)
        f = (torch.arange(7, device=x.device) * side // 7)[:, None]
        t = torch.arange(side, device=x.device, dtype=dtype) + 0.5
        basis = (f * t * (math.pi / side)).cos() / side**0.5
        basis = torch.where(f > 0, basis * 2**0.5, basis)
        if side != size:  # pooling the map or the basis is the same
            basis = basis @ pooling_matrix(size, side, x.device, dtype)
        return basis[each]

    def extract(self, x: Tensor) -> Tensor:
        rows, columns = (
            self._cosines(size, x, each)
            for size, each in zip(x.shape[2:], self.frequencies))
        basis = (rows[:, :, None] * columns[:, None]).flatten(1).to(x.dtype)
        groups = x.flatten(2).unflatten(1, (self.num_frequencies, -1))
        d = groups @ basis[..., None]  # (B, n, C/n, 1)
        return d.flatten(1)[..., None, None]
