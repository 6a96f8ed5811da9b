from torch import Tensor, nn

from ..checks import hidden_channels
from ..registry import MODELS
from .base import Attention


@MODELS.register_module()
class A2(Attention):
    """Gather a few vectors from the whole map, give each position its mix.

    ``y = x + W G softmax_n(rho(x))`` with the n vectors
    ``G = phi(x) softmax_hw(theta(x))^T``: n attention maps over the positions
    gather, then at each position n weights distribute.

    Args:
        in_channels: C.
        ratio: C over the number of vectors, n, and over their width.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``(B, n, n, 1)``, the
        vectors in columns; weights: ``(B, C, n, 1)``.

    Source: Chen et al., "A2-Nets", arXiv:1810.11579, section 3. No code was
        released; layers without biases fit its parameter count.
    Departs: ``W`` runs on the n vectors, not on all positions (same
        numbers).

    Raises:
        ValueError: ``ratio`` leaves no hidden channel.
    """

    def __init__(self, in_channels: int, *, ratio: int = 4):
        super().__init__()
        hidden = hidden_channels(in_channels, ratio)
        self.phi = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.theta = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.rho = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.out = nn.Conv2d(hidden, in_channels, 1, bias=False)

    def extract(self, x: Tensor) -> Tensor:
        values = self.phi(x).flatten(2)
        maps = self.theta(x).flatten(2).softmax(2).to(values.dtype)
        return (values @ maps.transpose(1, 2)).unsqueeze(-1)

    def transform(self, d: Tensor) -> Tensor:
        return self.out(d)

    def attend(self, x: Tensor, a: Tensor) -> Tensor:
        weights = self.rho(x).flatten(2).softmax(1).to(a.dtype)  # (B, n, HW)
        return x + (a.squeeze(-1) @ weights).view_as(x)
