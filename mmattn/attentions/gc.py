from typing import Optional

from torch import Tensor, nn

from ..checks import check_bool, hidden_channels
from ..links import ContextLink
from ..registry import MODELS
from .base import Attention


@MODELS.register_module()
class GC(Attention):
    """Add to every position one vector read off where the map looks.

    ``y = x + W2 relu(LN(W1 c))`` with the context
    ``c = sum_p x_p softmax_p(w_k . x_p)`` over all positions p.

    Args:
        in_channels: C.
        ratio: C over hidden width.
        zero_start: Start W2 at zero, so that a new GC adds nothing: it is
            the identity start, which attentions with a gate call
            ``gate_init``. False leaves W2 and w_k to the backbone's
            initialisation: DCANet's ResNets do, because they initialise
            every convolution once more behind the block. Their rows with it
            score below the plain network.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``(B, C, 1, 1)``.

    Source: Cao et al., "GCNet", arXiv:1904.11492, section 3.3. Equal to
        mmcv's ``ContextBlock(ratio=1/16)`` with attention pooling and
        channel addition.
    Departs: none.

    Raises:
        ValueError: ``ratio`` leaves no hidden channel.
    """

    link_type = ContextLink

    def __init__(self,
                 in_channels: int,
                 *,
                 ratio: int = 16,
                 zero_start: bool = True):
        super().__init__()
        check_bool(zero_start=zero_start)
        hidden = hidden_channels(in_channels, ratio)
        self.zero_start = zero_start
        self.mask = nn.Conv2d(in_channels, 1, 1)
        self.fc1 = nn.Conv2d(in_channels, hidden, 1)
        self.norm = nn.LayerNorm([hidden, 1, 1])
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(hidden, in_channels, 1)

    def init_weights(self) -> None:
        super().init_weights()
        if not self.zero_start:
            return
        nn.init.kaiming_normal_(self.mask.weight, nonlinearity='relu')
        nn.init.zeros_(self.mask.bias)
        self.fc1.reset_parameters()
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def extract(self, x: Tensor) -> Tensor:
        weights = self.mask(x).flatten(2).softmax(2)  # (B, 1, HW)
        # This way round the product reads the map row by row.
        context = weights.to(x.dtype) @ x.flatten(2).transpose(1, 2)
        return context.transpose(1, 2).unsqueeze(-1)

    def transform(self, d: Tensor) -> Tensor:
        return self.fc2(self.act(self.norm(self.fc1(d))))

    def attend(self, x: Tensor, a: Tensor) -> Tensor:
        return x + a

    def finish(self,
               x: Tensor,
               a: Tensor,
               shortcut: Optional[Tensor] = None,
               inplace: bool = False) -> Tensor:
        y = x.add_(a) if inplace else x + a
        if shortcut is None:
            return y
        # Sums keep nothing for their gradient.
        return y.add_(shortcut) if y.dtype == shortcut.dtype else y + shortcut
