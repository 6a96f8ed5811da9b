from typing import Tuple

from torch import Tensor, nn

from ..checks import build_norm, check_batch, hidden_channels
from ..registry import MODELS
from .base import Attention


@MODELS.register_module()
class MSCAM(Attention):
    """Scale every value by a gate that sees its position and the whole map.

    ``y = x * sigmoid(L(x) + G(mean_hw(x)))``, where both branches are
    ``norm(W2 relu(norm(W1 .)))`` with weights of their own: the local one
    runs at every position, the global one on the mean, whose result is added
    to all positions.

    AFF and iAFF share two maps out by the gate alone (``weights``).

    Args:
        in_channels: C.
        ratio: C over hidden width.
        norm_cfg: The norms of both branches.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: the map itself and its mean
        ``(B, C, 1, 1)``; weights: ``(B, C, H, W)``.

    Source: Dai et al., "Attentional Feature Fusion", arXiv:2009.14082,
        section 3.1 (MS-CAM).
    Departs: none. (The biases before a norm change nothing while it trains;
        the published networks hold them.)

    Raises:
        ValueError: ``ratio`` leaves no hidden channel; a batch norm would
            train on one image.
    """

    def __init__(self,
                 in_channels: int,
                 *,
                 ratio: int = 4,
                 norm_cfg: dict = dict(type='BN')):
        super().__init__()
        hidden = hidden_channels(in_channels, ratio)
        for branch in ('local_branch', 'global_branch'):
            layers = nn.Sequential(
                nn.Conv2d(in_channels, hidden, 1),
                build_norm(norm_cfg, hidden)[1], nn.ReLU(inplace=True),
                nn.Conv2d(hidden, in_channels, 1),
                build_norm(norm_cfg, in_channels)[1])
            self.add_module(branch, layers)

    def extract(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return x, x.mean((2, 3), keepdim=True)

    def transform(self, d: Tuple[Tensor, Tensor]) -> Tensor:
        x, mean = d
        check_batch(self, self.global_branch[1], mean)
        # The sum is ours alone; no second map for its sigmoid.
        return (self.local_branch(x) + self.global_branch(mean)).sigmoid_()

    def weights(self, x: Tensor) -> Tensor:
        """The gate, without applying it."""
        return self.transform(self.extract(x))
