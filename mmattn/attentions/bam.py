from typing import Tuple

import torch
from torch import Tensor, nn

from ..checks import (build_norm, check_batch, check_positive,
                      hidden_channels)
from ..registry import MODELS
from .base import Attention
from .start import refuse_gate_init


@MODELS.register_module()
class BAM(Attention):
    """Raise every value by a gate of its channel times its position.

    ``y = x * (1 + sigmoid(m_c(mean_hw(x)) * m_s(x)))``, where ``m_c`` is two
    layers over the channels, shared by all positions, and ``m_s`` a few
    dilated convolutions to one channel. Its place is behind a stage
    (``stage_attention``).

    Args:
        in_channels: C.
        ratio: C over hidden width of both branches.
        dilation: Of the two 3x3 convolutions.
        norm_cfg: The norms of both branches.
        gate_init: None; its gate only raises, by half at 0.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: the mean ``(B, C, 1, 1)``
        and the map itself; weights: ``(B, C, H, W)``.

    Source: Park et al., "BAM", arXiv:1807.06514, section 3. The released
        code multiplies the two branches, as here; the paper adds them.
    Departs: the mean is over the whole map, where the released code pools a
        square window; the linear layers are 1x1 convolutions (same numbers).
        (Biases before a norm do nothing; the published network has them.)

    Raises:
        ValueError: ``ratio`` leaves no hidden channel; ``dilation`` is not
            positive; a ``gate_init``; a batch norm would train on one image.
    """

    def __init__(self,
                 in_channels: int,
                 *,
                 ratio: int = 16,
                 dilation: int = 4,
                 norm_cfg: dict = dict(type='BN'),
                 gate_init: None = None):
        super().__init__()
        refuse_gate_init(
            self, gate_init, '1 + sigmoid is 1 only where the sigmoid is 0 '
            'and has no gradient left')
        check_positive(dilation=dilation)
        hidden = hidden_channels(in_channels, ratio)

        def normed(conv: nn.Module) -> list:
            norm = build_norm(norm_cfg, hidden)[1]
            return [conv, norm, nn.ReLU(inplace=True)]

        dilated = dict(padding=dilation, dilation=dilation)
        self.channel_branch = nn.Sequential(
            *normed(nn.Conv2d(in_channels, hidden, 1)),
            nn.Conv2d(hidden, in_channels, 1))
        self.spatial_branch = nn.Sequential(
            *normed(nn.Conv2d(in_channels, hidden, 1)),
            *normed(nn.Conv2d(hidden, hidden, 3, **dilated)),
            *normed(nn.Conv2d(hidden, hidden, 3, **dilated)),
            nn.Conv2d(hidden, 1, 1))

    def init_weights(self) -> None:
        super().init_weights()
        # As in the published network, whose linear layers keep PyTorch's
        # start but for the biases.
        for layer in (self.channel_branch[0], self.channel_branch[3]):
            layer.reset_parameters()
            nn.init.zeros_(layer.bias)

    def extract(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return x.mean((2, 3), keepdim=True), x

    def transform(self, d: Tuple[Tensor, Tensor]) -> Tensor:
        mean, x = d
        check_batch(self, self.channel_branch[1], mean)
        # The product is ours alone; no second map for its sigmoid.
        return (self.channel_branch(mean) * self.spatial_branch(x)).sigmoid_()

    def attend(self, x: Tensor, a: Tensor) -> Tensor:
        return torch.addcmul(x, x, a)
