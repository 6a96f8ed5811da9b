from torch import Tensor

from ..links import ChannelLink
from ..registry import MODELS
from .base import Attention


@MODELS.register_module()
class GE(Attention):
    """Scale every channel by the sigmoid of its own mean.

    ``y = x * sigmoid(mean_hw(x))``; no parameters. This is the theta-minus
    form of Gather-Excite with global extent.

    Args:
        in_channels: C. Decides nothing here; the slot of an attention gives
            it to every kind.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``(B, C, 1, 1)``.

    Source: Hu et al., "Gather-Excite", arXiv:1810.12348, section 3.1.
    Departs: none. (DCANet's tables call it GEtheta.)
    """

    link_type = ChannelLink

    def __init__(self, in_channels: int):
        super().__init__()

    def extract(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    def transform(self, d: Tensor) -> Tensor:
        return d.sigmoid()
