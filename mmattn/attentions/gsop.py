import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import build_norm, check_batch, check_positive
from ..registry import MODELS
from .base import Attention


@MODELS.register_module()
class GSoP(Attention):
    """Scale every channel by a gate that sees how channels vary together.

    ``y = x * sigmoid(W2 r(norm(S)))``, where ``S`` is the d x d covariance
    over all positions of ``t = relu(norm(W1 relu(x)))``, and ``r`` turns each
    of its rows into four numbers, with weights of its own.

    Args:
        in_channels: C.
        channels: d, the width of ``t``.
        stride: Of ``W1``; the published network has 2 in its first stage,
            whose maps are the largest.
        norm_cfg: The norms of ``t`` and of the rows.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``W1 relu(x)``,
        ``(B, d, H / stride, W / stride)``, rounded up.

    Source: Gao et al., "Global Second-order Pooling Convolutional Networks",
        arXiv:1811.12006, section 3.2; the released code for the norm of the
        rows and no activation behind ``r``.
    Departs: ``t`` is centred before the product, which needs no matrix of
        positions (same numbers). (The bias of ``W1`` before a norm changes
        nothing while it trains; the published network holds it.)

    Raises:
        ValueError: ``channels`` or ``stride`` is not positive; a batch norm
            would train on one value.
    """

    def __init__(self,
                 in_channels: int,
                 *,
                 channels: int = 128,
                 stride: int = 1,
                 norm_cfg: dict = dict(type='BN')):
        super().__init__()
        check_positive(
            in_channels=in_channels, channels=channels, stride=stride)
        self.reduce = nn.Conv2d(in_channels, channels, 1, stride=stride)
        self.norm = build_norm(norm_cfg, channels)[1]
        self.row_norm = build_norm(norm_cfg, channels)[1]
        self.row_conv = nn.Conv2d(
            channels, 4 * channels, (channels, 1), groups=channels)
        self.fc = nn.Conv2d(4 * channels, in_channels, 1)

    def extract(self, x: Tensor) -> Tensor:
        return self.reduce(F.relu(x))

    def transform(self, d: Tensor) -> Tensor:
        check_batch(self, self.norm, d)
        t = F.relu(self.norm(d)).flatten(2)  # (B, d, M)
        # Half of 1 / M to each factor keeps the sum small in half precision.
        t = (t - t.mean(2, keepdim=True)) * t.shape[2]**-0.5
        covariance = (t @ t.transpose(1, 2)).unsqueeze(-1)
        return self.fc(self.row_conv(self.row_norm(covariance))).sigmoid()
