"""Pooling whose weights the network learns (LIP).

Source: Gao et al., "LIP: Local Importance-based Pooling", arXiv:1908.04156,
sections 3.2 and 3.3, and the authors' released ResNet.
"""
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..checks import check_not_negative, check_positive


def lip_pool(x: Tensor,
             logits: Tensor,
             kernel_size: int = 3,
             stride: int = 2,
             padding: int = 1) -> Tensor:
    """Average every window with weights ``exp(logits)``.

    Half precision is pooled in single precision, where the weights of any
    gate here are far from overflow. Padding has no weight.

    Shape:
        Two maps ``(B, C, H, W)`` to ``(B, C, H', W')``.
    """
    window = dict(kernel_size=kernel_size, stride=stride, padding=padding)
    weights = logits.to(torch.promote_types(x.dtype, torch.float32)).exp()
    y = F.avg_pool2d(x * weights, **window) / F.avg_pool2d(weights, **window)
    return y.to(x.dtype)


def _norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def _check_map(part: nn.Module, x: Tensor) -> None:
    """Raise ValueError if instance norms would see one value, or none."""
    if x.shape[0] == 0:
        raise ValueError(f'{type(part).__name__}: PyTorch has no instance '
                         'norm of an empty batch; leave it out')
    if x.shape[2:].numel() == 1:
        raise ValueError(
            f'{type(part).__name__}: its instance norm needs more than one '
            'position and got a 1x1 map; give larger images, or pool these '
            'maps without LIP')


class _Gate(BaseModule):
    """A convolution's logits, normed and bounded: ``6 tanh(norm(.) / 2)``.

    The published gate is ``12 sigmoid(.)``, which is 6 more everywhere; the
    6 cancels in the average. Starts at 0: plain averaging.
    """

    def __init__(self, in_channels: int, channels: int, kernel_size: int):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            channels,
            kernel_size,
            padding=kernel_size // 2,
            bias=False)
        self.norm = _norm(channels)
        nn.init.zeros_(self.conv.weight)

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.zeros_(self.conv.weight)
        nn.init.ones_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return 6 * (self.norm(self.conv(x)) / 2).tanh()


class SimplifiedLIP(BaseModule):
    """Pool with the logits of one 3x3 convolution of the map itself.

    ``y = avg(x e^l) / avg(e^l)`` with ``l = 12 sigmoid(norm(conv(x)))``. In
    place of a maximum pooling, as in the stem of LIP-ResNet.

    Args:
        in_channels: C.
        kernel_size, stride, padding: Of the window.

    Shape:
        ``(B, C, H, W)`` to ``(B, C, H', W')``, with H' and W' as of an
        average pooling; halves, rounded up, by default.

    Source: as of this module. Keys: ``gate.conv``, ``gate.norm``.
    Departs: a constant less in the logits, which cancels.

    Raises:
        ValueError: ``kernel_size`` or ``stride`` is not positive. In forward:
            a 1x1 map, an empty batch.
    """

    def __init__(self,
                 in_channels: int,
                 *,
                 kernel_size: int = 3,
                 stride: int = 2,
                 padding: int = 1):
        super().__init__()
        check_positive(kernel_size=kernel_size, stride=stride)
        check_not_negative(padding=padding)
        self.window = kernel_size, stride, padding
        self.gate = _Gate(in_channels, in_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        _check_map(self, x)
        return lip_pool(x, self.gate(x), *self.window)


class LIPTrunk(nn.Sequential):
    """What the logits of several ``LIP`` of one block are read from.

    ``relu(norm(conv3x3(relu(norm(conv1x1(x))))))`` at full resolution.

    Args:
        in_channels: Of the block's input.
        channels: Of the result.

    Shape:
        ``(B, in_channels, H, W)`` to ``(B, channels, H, W)``.

    Raises:
        ValueError: ``channels`` is not positive. In forward: a 1x1 map,
            an empty batch.
    """

    def __init__(self, in_channels: int, channels: int = 128):
        check_positive(channels=channels)
        super().__init__(
            nn.Conv2d(in_channels, channels, 1, bias=False), _norm(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            _norm(channels), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        _check_map(self, x)
        return super().forward(x)


class LIP(BaseModule):
    """Pool with logits that one 1x1 convolution reads off a trunk.

    ``y = avg(x e^l) / avg(e^l)`` with ``l = 12 sigmoid(norm(W t))``, for the
    result t of a ``LIPTrunk``. A block of LIP-ResNet that halves the map has
    two: one before a 1x1 convolution in place of its 3x3 one, one in its
    shortcut.

    Args:
        in_channels: C of the map that is pooled.
        trunk_channels: Of the trunk.
        kernel_size, stride, padding: Of the window.

    Shape:
        ``(B, C, H, W)`` and ``(B, trunk_channels, H, W)`` to
        ``(B, C, H', W')``.

    Source: as of this module. Keys: ``gate.conv``, ``gate.norm``.
    Departs: a constant less in the logits, which cancels.

    Raises:
        ValueError: As ``SimplifiedLIP``.
    """

    def __init__(self,
                 in_channels: int,
                 trunk_channels: int = 128,
                 *,
                 kernel_size: int = 3,
                 stride: int = 2,
                 padding: int = 1):
        super().__init__()
        check_positive(kernel_size=kernel_size, stride=stride)
        check_not_negative(padding=padding)
        self.window = kernel_size, stride, padding
        self.gate = _Gate(trunk_channels, in_channels, 1)

    def forward(self, x: Tensor, trunk: Tensor) -> Tensor:
        _check_map(self, x)
        return lip_pool(x, self.gate(trunk), *self.window)
