from typing import Sequence, Tuple

import torch
from torch import Tensor, nn

from ..attentions.se import SE
from .base import Fusion


class PSA(Fusion):
    """Concatenate maps, each channel weighted against its like in the others.

    ``y = [a_M * x_M, ..., a_1 * x_1]`` with ``a = softmax_m(SE(x_m))``, one
    squeeze and excitation for all maps: the c-th channels of the maps compete.

    It widens the map, so it joins the branches of a convolution (see
    ``PSAConv``) and no residual block; no config word finds it.

    Args:
        in_channels: C of every map.
        num_maps: M, how many maps there are.
        ratio: C over hidden width.

    Shape:
        M times ``(B, C, H, W)`` to ``(B, M * C, H, W)``.
        Descriptor: M times ``(B, C, 1, 1)``.

    Source: Zhang et al., "EPSANet", arXiv:2105.14447, section 3.2.
    Departs: the last map comes first, as in the released code and its
        checkpoints and unlike the paper's figure.

    Raises:
        ValueError: ``num_maps < 2``; ``ratio`` leaves no hidden channel.
    """

    def __init__(self, in_channels: int, num_maps: int = 2, *,
                 ratio: int = 16):
        super().__init__(in_channels, num_maps)
        self.se = SE(in_channels, ratio=ratio)

    def init_weights(self) -> None:
        super().init_weights()
        # Like every convolution there; biases keep PyTorch's start.
        for conv in (self.se.fc1, self.se.fc2):
            nn.init.kaiming_normal_(
                conv.weight, mode='fan_out', nonlinearity='relu')

    def transform(self, d: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        gates = self.se.transform(torch.cat(tuple(d)))  # (M * B, C, 1, 1)
        gates = gates.unflatten(0, (self.num_maps, -1))
        # Under autocast softmax answers in single precision.
        return gates.softmax(0).to(d[0].dtype).unbind(0)

    def attend(self, xs: Sequence[Tensor], a: Sequence[Tensor]) -> Tensor:
        weighted = [x * weight for x, weight in zip(xs, a)]
        return torch.cat(weighted[::-1], 1)
