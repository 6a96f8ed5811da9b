import math
from typing import Optional

from torch import Tensor, nn

from ..checks import check_kernel_size
from ..registry import MODELS
from .base import Attention


def adaptive_kernel_size(in_channels: int, gamma: int = 2, b: int = 1) -> int:
    """``(log2(C) + b) / gamma``, truncated, then up to the next odd."""
    t = int(abs((math.log2(in_channels) + b) / gamma))
    return t if t % 2 else t + 1


@MODELS.register_module()
class ECA(Attention):
    """Scale every channel by a gate that sees its k neighbours' means.

    ``y = x * sigmoid(w (*) mean_hw(x))``, where ``(*)`` is a convolution
    along the channel axis with one kernel for all channels, zero-padded at
    both ends, without a bias.

    Args:
        in_channels: C.
        kernel_size: k, odd. None follows the paper's rule; the published
            networks do not, they state k per stage (3, 5, 5, 7 for
            ResNet-50).

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``(B, C, 1, 1)``.

    Source: Wang et al., "ECA-Net", arXiv:1910.03151, section 3.2.
    Departs: none.

    Raises:
        ValueError: ``kernel_size`` is not a positive odd integer.
    """

    def __init__(self, in_channels: int, *, kernel_size: Optional[int] = None):
        super().__init__()
        if kernel_size is None:
            kernel_size = adaptive_kernel_size(in_channels)
        check_kernel_size(kernel_size)
        self.conv = nn.Conv1d(
            1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def extract(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    def transform(self, d: Tensor) -> Tensor:
        g = self.conv(d.flatten(2).transpose(1, 2))  # (B, 1, C)
        return g.transpose(1, 2).unsqueeze(-1).sigmoid()
