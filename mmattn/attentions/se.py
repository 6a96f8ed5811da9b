from typing import Optional

from torch import Tensor, nn

from ..checks import (check_bool, check_choice, check_positive,
                      hidden_channels, make_divisible)
from ..links import ChannelLink
from ..registry import MODELS
from .base import Attention
from .start import gate_function, start_gate


@MODELS.register_module()
class SE(Attention):
    """Scale every channel by a gate that sees the mean of all channels.

    ``y = x * sigmoid(W2 relu(W1 mean_hw(x)))``.

    Args:
        in_channels: C.
        ratio: C over hidden width; the width is ``C // ratio``.
        bias: Whether the layers have one.
        divisor: Round the width to a multiple of it, and to no less than 90 %
            (MobileNetV3: 8).
        gate: ``'sigmoid'``, or ``'hardsigmoid'`` as in MobileNetV3.
        gate_init: ``'identity'`` doubles the gate and starts W2 at zero, so
            that a new SE changes nothing. None is the published start.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``(B, C, 1, 1)``.

    Source: Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507,
        section 3.
    Departs: the two linear layers are 1x1 convolutions (same numbers);
        ``gate_init`` is ours.

    Raises:
        ValueError: ``ratio`` leaves no hidden channel; ``divisor`` is not a
            positive integer; another ``gate`` or ``gate_init``.
    """

    link_type = ChannelLink

    def __init__(self,
                 in_channels: int,
                 *,
                 ratio: int = 16,
                 bias: bool = True,
                 divisor: int = 1,
                 gate: str = 'sigmoid',
                 gate_init: Optional[str] = None):
        super().__init__()
        check_positive(divisor=divisor)
        check_bool(bias=bias)
        check_choice(('sigmoid', 'hardsigmoid'), gate=gate)
        hidden = make_divisible(hidden_channels(in_channels, ratio), divisor)
        self.gate_init = gate_init
        self.gate = gate_function(
            gate_init,
            nn.Sigmoid() if gate == 'sigmoid' else nn.Hardsigmoid())
        self.fc1 = nn.Conv2d(in_channels, hidden, 1, bias=bias)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(hidden, in_channels, 1, bias=bias)
        start_gate(gate_init, self.fc2)

    def init_weights(self) -> None:
        super().init_weights()
        # Linear layers keep PyTorch's start in the published networks; a
        # backbone's Kaiming pass over its convolutions would change it.
        self.fc1.reset_parameters()
        self.fc2.reset_parameters()
        start_gate(self.gate_init, self.fc2)

    def extract(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    def transform(self, d: Tensor) -> Tensor:
        return self.gate(self.fc2(self.act(self.fc1(d))))
