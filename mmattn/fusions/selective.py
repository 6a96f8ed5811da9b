import math
from typing import Optional, Sequence, Tuple

from torch import Tensor, nn

from ..checks import (build_norm, check_batch, check_bool, check_positive,
                      is_number)
from ..links import BranchLink
from ..registry import MODELS
from .base import Fusion


@MODELS.register_module()
class SelectiveFusion(Fusion):
    """Let every channel choose among several maps.

    ``y = sum_m a_m * x_m``, ``a = softmax_m(W_m relu(norm(V g)) + b_m)``
    with ``g = sum_m mean_hw(x_m)``: what all maps show together decides, for
    each channel, which map it is read from.

    Joins the block outputs of a stage in SDA-xNet (the maps are depths), and
    the kernel branches of SKNet.

    Args:
        in_channels: C of every map and of the result.
        num_maps: M, how many maps there are to choose from.
        ratio: C over hidden width.
        min_channels: Floor of the hidden width ``max(C // ratio, floor)``.
        bias: Whether ``W_m`` has one (SDA-xNet: yes, SKNet: no).
        last_share: Weight of the last map at the start of training, the rest
            shared evenly: ``W`` starts at 0 and ``b`` at
            ``log(share (M - 1) / (1 - share))`` for the last map. A stage
            that already works without the fusion keeps working. None starts
            at random.
        norm_cfg: The norm of the hidden layer.

    Shape:
        M times ``(B, C, H, W)`` to ``(B, C, H, W)``.
        Descriptor: M times ``(B, C, 1, 1)``.

    Source: Guo et al., "SDA-xNet: Selective Depth Attention Networks",
        arXiv:2209.10327, and the authors' released code; Li et al.,
        arXiv:1903.06586, section 3.1. Their S, the sum of the maps, is
        pooled map by map and never formed.
    Departs: the M projections are one convolution with M * C outputs;
        ``last_share`` is ours.

    Raises:
        ValueError: ``num_maps < 2``; ``ratio`` or ``min_channels`` not
            positive; ``last_share`` outside (0, 1) or without a bias; a
            batch norm would train on one image.
    """

    link_type = BranchLink

    def __init__(self,
                 in_channels: int,
                 num_maps: int = 2,
                 *,
                 ratio: int = 16,
                 min_channels: int = 64,
                 bias: bool = True,
                 last_share: Optional[float] = None,
                 norm_cfg: dict = dict(type='BN')):
        super().__init__(in_channels, num_maps)
        check_positive(ratio=ratio, min_channels=min_channels)
        check_bool(bias=bias)
        if last_share is not None and not (
                bias and is_number(last_share) and 0 < last_share < 1):
            raise ValueError('last_share must lie between 0 and 1 and needs '
                             f'bias=True, got last_share={last_share!r} and '
                             f'bias={bias!r}')
        hidden = max(in_channels // ratio, min_channels)
        self.last_share = last_share
        self.squeeze = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.norm = build_norm(norm_cfg, hidden)[1]
        self.act = nn.ReLU(inplace=True)
        self.project = nn.Conv2d(
            hidden, num_maps * in_channels, 1, bias=bias)

    def init_weights(self) -> None:
        super().init_weights()
        channels = self.squeeze.in_channels
        nn.init.kaiming_normal_(
            self.squeeze.weight, mode='fan_out', nonlinearity='relu')
        if self.last_share is None:
            # Fan-out of one map's projection: the published networks hold
            # one convolution for each. Their biases keep PyTorch's start.
            nn.init.normal_(self.project.weight, std=math.sqrt(2 / channels))
            if self.project.bias is not None:
                bound = self.project.in_channels**-0.5
                nn.init.uniform_(self.project.bias, -bound, bound)
            return
        odds = self.last_share * (self.num_maps - 1) / (1 - self.last_share)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.constant_(self.project.bias[-channels:], math.log(odds))

    def transform(self, d: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        g = sum(d[1:], d[0])  # (B, C, 1, 1)
        g = self.squeeze(g)  # (B, C', 1, 1)
        check_batch(self, self.norm, g)
        logits = self.project(self.act(self.norm(g)))
        logits = logits.unflatten(1, (self.num_maps, -1))  # (B, M, C, 1, 1)
        # Under autocast softmax answers in single precision; the maps that
        # it weighs do not.
        return logits.softmax(1).to(g.dtype).unbind(1)
