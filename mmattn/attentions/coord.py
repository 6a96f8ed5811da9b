from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from ..checks import build_norm, check_positive
from ..registry import MODELS
from .base import Attention
from .start import gate_function, start_gate


@MODELS.register_module()
class CoordAttention(Attention):
    """Scale every position by a gate of its row and a gate of its column.

    ``y = x * g_h * g_w`` with ``g_h = sigmoid(F_h f_h)`` of shape
    ``(B, C, H, 1)``, ``g_w = sigmoid(F_w f_w)`` of shape ``(B, C, 1, W)``,
    and ``f = hardswish(norm(F_1 z))`` for the row means and the column means
    ``z`` of ``x`` laid end to end.

    Args:
        in_channels: C.
        ratio: C over hidden width.
        min_channels: Floor of the hidden width ``max(C // ratio, floor)``.
        norm_cfg: The norm of the hidden layer; its statistics are taken over
            rows and columns together.
        gate_init: ``'identity'`` doubles both gates and starts ``F_h`` and
            ``F_w`` at zero, so that a new one changes nothing. None is the
            published start.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``(B, C, H, 1)`` and
        ``(B, C, 1, W)``.

    Source: Hou et al., "Coordinate Attention", arXiv:2103.02907, section
        3.2; the released code for h-swish.
    Departs: ``gate_init`` is ours.

    Raises:
        ValueError: ``ratio`` or ``min_channels`` is not positive; another
            ``gate_init``.
    """

    def __init__(self,
                 in_channels: int,
                 *,
                 ratio: int = 32,
                 min_channels: int = 8,
                 norm_cfg: dict = dict(type='BN'),
                 gate_init: Optional[str] = None):
        super().__init__()
        check_positive(
            in_channels=in_channels, ratio=ratio, min_channels=min_channels)
        hidden = max(in_channels // ratio, min_channels)
        self.fc1 = nn.Conv2d(in_channels, hidden, 1)
        self.norm = build_norm(norm_cfg, hidden)[1]
        self.act = nn.Hardswish(inplace=True)
        self.fc_h = nn.Conv2d(hidden, in_channels, 1)
        self.fc_w = nn.Conv2d(hidden, in_channels, 1)
        self.gate_init = gate_init
        self.gate = gate_function(gate_init)
        start_gate(gate_init, self.fc_h, self.fc_w)

    def init_weights(self) -> None:
        super().init_weights()
        start_gate(self.gate_init, self.fc_h, self.fc_w)

    def extract(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return x.mean(3, keepdim=True), x.mean(2, keepdim=True)

    def transform(self, d: Tuple[Tensor, Tensor]) -> Tuple[Tensor, Tensor]:
        sizes = d[0].shape[2], d[1].shape[3]
        # (B, C, H + W, 1)
        strip = torch.cat((d[0], d[1].transpose(2, 3)), 2)
        f = self.act(self.norm(self.fc1(strip)))
        rows, columns = f.split(sizes, 2)
        return (self.gate(self.fc_h(rows)),
                self.gate(self.fc_w(columns.transpose(2, 3))))
