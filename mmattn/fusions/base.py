from typing import Sequence, Tuple

from torch import Tensor

from ..attentions.base import Attention
from ..checks import check_positive, is_int
from ..registry import MODELS
from ..weighting import weighted


class Fusion(Attention):
    """Several maps in, one map out, in the three phases of an attention.

    ``y = attend(xs, transform(extract(xs)))``. Maps come as a sequence and
    are never stacked: a stack would copy all of them. ``extract`` takes what
    it needs of each map by ``pool``, which a stage calls as its maps come
    up, while they are still in cache.

    The constructor is ``(in_channels, num_maps=2, *, ...)``.

    Shape:
        ``num_maps`` times ``(B, C, H, W)`` to ``(B, C, H, W)``.

    Raises:
        ValueError: The number of maps that come is not ``num_maps``.
    """

    def __init__(self, in_channels: int, num_maps: int = 2):
        super().__init__()
        if not is_int(num_maps) or num_maps < 2:
            raise ValueError(f'{type(self).__name__} fuses at least two maps, '
                             f'got num_maps={num_maps!r}')
        check_positive(in_channels=in_channels, num_maps=num_maps)
        self.num_maps = num_maps

    def pool(self, x: Tensor) -> Tensor:
        """What ``extract`` needs of one map."""
        return x.mean((2, 3), keepdim=True)

    def extract(self, xs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        return tuple(self.pool(x) for x in xs)

    def attend(self, xs: Sequence[Tensor], a: Sequence[Tensor]) -> Tensor:
        y = weighted(xs[0], (a[0], ))
        for x, weights in zip(xs[1:], a[1:]):
            y = weighted(x, (weights, ), y, onto=True)  # no copy per map
        return y

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        if len(xs) != self.num_maps:
            raise ValueError(f'{type(self).__name__} was built for '
                             f'{self.num_maps} maps, got {len(xs)}')
        return self.attend(xs, self.transform(self.extract(xs)))


@MODELS.register_module()
class Add(Fusion):
    """Add maps: ``y = sum_m x_m``. The join of a residual block.

    Args:
        in_channels: C; any.
        num_maps: How many maps there are.

    Shape:
        ``num_maps`` times ``(B, C, H, W)`` to ``(B, C, H, W)``.

    Raises:
        ValueError: ``num_maps < 2``.
    """

    def pool(self, x: Tensor) -> None:
        return None

    def transform(self, d: Sequence[None]) -> None:
        return None

    def attend(self, xs: Sequence[Tensor], a: None) -> Tensor:
        return sum(xs[1:], xs[0])
