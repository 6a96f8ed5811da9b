from typing import Optional, Tuple

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from ..checks import check_batch, check_kernel_size, hidden_channels
from ..links import ChainLink, PooledMapLink, SpatialLink
from ..registry import MODELS
from .base import Attention, Chain


class ChannelGate(Attention):
    """Scale every channel by ``sigmoid(m(mean_hw(x)) + m(max_hw(x)))``.

    ``m(t) = W2 relu(W1 t)`` is shared by the two. Descriptor: two tensors
    ``(B, C, 1, 1)``, mean first.
    """

    link_type = PooledMapLink

    def __init__(self, in_channels: int, *, ratio: int, bias: bool):
        super().__init__()
        hidden = hidden_channels(in_channels, ratio)
        self.fc1 = nn.Conv2d(in_channels, hidden, 1, bias=bias)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(hidden, in_channels, 1, bias=bias)

    def init_weights(self) -> None:
        super().init_weights()
        self.fc1.reset_parameters()
        self.fc2.reset_parameters()

    def extract(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)

    def transform(self, d: Tuple[Tensor, Tensor]) -> Tensor:
        both = self.fc2(self.act(self.fc1(torch.cat(d))))  # (2B, C, 1, 1)
        mean, maximum = both.chunk(2)
        return (mean + maximum).sigmoid()


class SpatialGate(Attention):
    """Scale every position by ``sigmoid(norm(conv([max_c(x), mean_c(x)])))``.

    Descriptor: ``(B, 2, H, W)``, maximum first.
    """

    link_type = SpatialLink

    def __init__(self, *, kernel_size: int, norm_cfg: Optional[dict]):
        super().__init__()
        check_kernel_size(kernel_size)
        self.conv = nn.Conv2d(
            2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = (
            nn.Identity() if norm_cfg is None else build_norm_layer(
                norm_cfg, 1)[1])

    def extract(self, x: Tensor) -> Tensor:
        return torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)

    def transform(self, d: Tensor) -> Tensor:
        d = self.conv(d)
        check_batch(self, self.norm, d)
        return self.norm(d).sigmoid()


@MODELS.register_module()
class CBAM(Chain):
    """Scale every channel, then every position.

    ``u = x * sigmoid(m(mean_hw(x)) + m(max_hw(x)))`` with
    ``m(t) = W2 relu(W1 t)``; ``y = u * sigmoid(norm(conv([max_c(u),
    mean_c(u)])))``.

    Args:
        in_channels: C.
        ratio: C over hidden width of ``m``.
        kernel_size: Of the spatial convolution, odd.
        bias: Whether the layers of ``m`` have one.
        norm_cfg: The norm behind the spatial convolution; None for none.

    Shape:
        ``(B, C, H, W)`` to the same. Keys: ``channel_gate.*``,
        ``spatial_gate.*``.

    Source: Woo et al., "CBAM", arXiv:1807.06521, sections 3.1 and 3.2; the
        authors' released code for the biases, the norm and the order of
        maximum and mean. SDA-xNet's CBAM-86 rows have neither bias nor norm.
    Departs: the linear layers are 1x1 convolutions; mean and maximum go
        through them as one batch (same numbers).

    Raises:
        ValueError: ``ratio`` leaves no hidden channel, or ``kernel_size`` is
            not odd; a batch norm would train on one value.
    """

    link_type = ChainLink

    def __init__(self,
                 in_channels: int,
                 *,
                 ratio: int = 16,
                 kernel_size: int = 7,
                 bias: bool = True,
                 norm_cfg: Optional[dict] = dict(type='BN')):
        super().__init__(
            channel_gate=ChannelGate(in_channels, ratio=ratio, bias=bias),
            spatial_gate=SpatialGate(
                kernel_size=kernel_size, norm_cfg=norm_cfg))
