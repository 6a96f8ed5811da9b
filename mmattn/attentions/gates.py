"""The two gates of CBAM; each can be linked by its own kind."""
from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from ..checks import build_norm, check_batch, check_kernel_size
from ..links import PooledMapLink, SpatialLink
from .base import Attention
from .se import SE
from .start import gate_function, start_gate


class ChannelGate(SE):
    """Scale every channel by ``sigmoid(m(mean_hw(x)) + m(max_hw(x)))``.

    ``m(t) = W2 relu(W1 t)``, the layers of SE, is shared by the two.
    Descriptor: two tensors ``(B, C, 1, 1)``, mean first.
    """

    link_type = PooledMapLink

    def extract(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)

    def transform(self, d: Tuple[Tensor, Tensor]) -> Tensor:
        both = self.fc2(self.act(self.fc1(torch.cat(d))))  # (2B, C, 1, 1)
        mean, maximum = both.unflatten(0, (2, -1)).unbind()
        return self.gate(mean + maximum)


class SpatialGate(Attention):
    """Scale every position by ``sigmoid(norm(conv([max_c(x), mean_c(x)])))``.

    Descriptor: ``(B, 2, H, W)``, maximum first.
    """

    link_type = SpatialLink

    def __init__(self,
                 *,
                 kernel_size: int,
                 norm_cfg: Optional[dict],
                 gate_init: Optional[str] = None):
        super().__init__()
        check_kernel_size(kernel_size)
        self.conv = nn.Conv2d(
            2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.Identity()
        if norm_cfg is not None:
            self.norm = build_norm(norm_cfg, 1)[1]
        self.gate_init = gate_init
        self.gate = gate_function(gate_init)
        start_gate(gate_init, self.last_layer)

    @property
    def last_layer(self) -> nn.Module:
        """What ends the gate before its sigmoid."""
        return self.conv if isinstance(self.norm, nn.Identity) else self.norm

    def init_weights(self) -> None:
        super().init_weights()
        start_gate(self.gate_init, self.last_layer)

    def extract(self, x: Tensor) -> Tensor:
        return torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)

    def transform(self, d: Tensor) -> Tensor:
        d = self.conv(d)
        check_batch(self, self.norm, d)
        return self.gate(self.norm(d))
