from typing import Optional

from ..links import ChainLink
from ..registry import MODELS
from .base import Chain
from .gates import ChannelGate, SpatialGate


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
        gate_init: ``'identity'`` doubles both gates and starts the last layer
            of each at zero, so that a new CBAM changes nothing. None is the
            published start.

    Shape:
        ``(B, C, H, W)`` to the same. Keys: ``channel_gate.*``,
        ``spatial_gate.*``.

    Source: Woo et al., "CBAM", arXiv:1807.06521, section 3; the released
        code for biases, norm and the order of maximum and mean. SDA-xNet's
        CBAM-86 has neither bias nor norm.
    Departs: the linear layers are 1x1 convolutions; mean and maximum go
        through them as one batch (same numbers); ``gate_init`` is ours.

    Raises:
        ValueError: ``ratio`` leaves no hidden channel; ``kernel_size`` is not
            odd; another ``gate_init``, or a norm without a weight for it; a
            batch norm would train on one value.
    """

    link_type = ChainLink

    def __init__(self,
                 in_channels: int,
                 *,
                 ratio: int = 16,
                 kernel_size: int = 7,
                 bias: bool = True,
                 norm_cfg: Optional[dict] = dict(type='BN'),
                 gate_init: Optional[str] = None):
        super().__init__(
            channel_gate=ChannelGate(
                in_channels, ratio=ratio, bias=bias, gate_init=gate_init),
            spatial_gate=SpatialGate(
                kernel_size=kernel_size,
                norm_cfg=norm_cfg,
                gate_init=gate_init))
