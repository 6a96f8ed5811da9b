import math
from typing import Optional

from torch import Tensor, nn

from ..checks import check_kernel_size, check_positive
from ..registry import MODELS
from .base import Attention
from .start import gate_function, start_gate


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
        gate_init: ``'identity'`` doubles the gate and starts w at zero, so
            that a new ECA changes nothing. None is the published start.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``(B, C, 1, 1)``.

    Source: Wang et al., "ECA-Net", arXiv:1910.03151, section 3.2.
    Departs: ``gate_init`` is ours.

    Raises:
        ValueError: ``kernel_size`` is not a positive odd integer; another
            ``gate_init``.
    """

    def __init__(self,
                 in_channels: int,
                 *,
                 kernel_size: Optional[int] = None,
                 gate_init: Optional[str] = None):
        super().__init__()
        check_positive(in_channels=in_channels)
        if kernel_size is None:
            kernel_size = adaptive_kernel_size(in_channels)
        check_kernel_size(kernel_size)
        self.conv = nn.Conv1d(
            1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.gate_init = gate_init
        self.gate = gate_function(gate_init)
        start_gate(gate_init, self.conv)

    def init_weights(self) -> None:
        super().init_weights()
        start_gate(self.gate_init, self.conv)

    def extract(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    def transform(self, d: Tensor) -> Tensor:
        g = self.conv(d.flatten(2).transpose(1, 2))  # (B, 1, C)
        return self.gate(g.transpose(1, 2).unsqueeze(-1))
