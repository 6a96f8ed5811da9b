from typing import Optional, Tuple, Union

from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from ..checks import build_norm, check_batch, check_positive, hidden_channels
from ..links import ChannelLink
from ..registry import MODELS
from .base import Attention
from .start import refuse_gate_init


@MODELS.register_module()
class GE(Attention):
    """Scale every channel by a gate that sees the whole of that channel.

    Theta-minus, ``y = x * sigmoid(mean_hw(x))``, has no parameters. Theta,
    ``y = x * sigmoid(d)`` with ``d = norm(sum_hw(w * x))``, weighs every
    position; theta-plus is ``y = x * sigmoid(W2 relu(W1 relu(d)))``.

    Args:
        in_channels: C.
        size: Makes it theta: (H, W) of its maps, or the side of square ones.
        ratio: Makes theta theta-plus: C over hidden width.
        norm_cfg: The norm of theta and theta-plus.

    Shape:
        ``(B, C, H, W)`` to the same. Descriptor: ``(B, C, 1, 1)``.

    Source: Hu et al., "Gather-Excite", arXiv:1810.12348, section 3; the
        released networks for the relu behind the norm.
    Departs: none. (DCANet's tables call theta-minus GEtheta.)

    Raises:
        ValueError: No such size or ratio; a ``gate_init``; in forward, a map
            of another size, or a batch norm would train on one image.
    """

    link_type = ChannelLink

    def __init__(self,
                 in_channels: int,
                 *,
                 size: Union[None, int, Tuple[int, int]] = None,
                 ratio: Optional[int] = None,
                 norm_cfg: dict = dict(type='BN'),
                 gate_init: None = None):
        super().__init__()
        refuse_gate_init(self, gate_init, 'theta-minus has no parameters')
        self.gather = None
        self.norm, self.excite = nn.Identity(), nn.Sequential()
        if size is None and ratio is not None:
            raise ValueError(f'ratio={ratio} is theta-plus, which needs the '
                             'size of its maps: give size=(H, W)')
        check_positive(in_channels=in_channels)
        if size is None:
            return
        size = tuple(_pair(size))
        if len(size) != 2 or not all(type(n) is int and n > 0 for n in size):
            raise ValueError('size must be a positive integer or two of them, '
                             f'(H, W), got {size}')
        check_positive(**{'each of size': max(size)})
        self.gather = nn.Conv2d(
            in_channels, in_channels, size, groups=in_channels, bias=False)
        self.norm = build_norm(norm_cfg, in_channels)[1]
        if ratio is not None:
            hidden = hidden_channels(in_channels, ratio)
            self.excite = nn.Sequential(
                nn.ReLU(inplace=True), nn.Conv2d(in_channels, hidden, 1),
                nn.ReLU(inplace=True), nn.Conv2d(hidden, in_channels, 1))

    def init_weights(self) -> None:
        super().init_weights()
        if self.gather is not None:  # by fan-in; a backbone's is by fan-out
            nn.init.kaiming_normal_(self.gather.weight, nonlinearity='relu')
        for layer in self.excite[1::2]:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def extract(self, x: Tensor) -> Tensor:
        if self.gather is None:
            return x.mean((2, 3), keepdim=True)
        if x.shape[2:] != self.gather.kernel_size:
            raise ValueError(
                f'GE: a kernel of size {self.gather.kernel_size} cannot weigh '
                f'a map of {tuple(x.shape[2:])}; use theta-minus (no size)')
        return self.gather(x)

    def transform(self, d: Tensor) -> Tensor:
        check_batch(self, self.norm, d)
        return self.excite(self.norm(d)).sigmoid()
