from typing import Tuple, Union

from mmengine.model import BaseModule
from torch import Tensor

from ..links import MapLink

Descriptor = Union[Tensor, Tuple[Tensor, ...]]


def check_positive(**values: int) -> None:
    """Raise ValueError unless every value is a positive integer."""
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f'{name} must be a positive integer, got '
                             f'{value!r}')


def check_kernel_size(kernel_size: int) -> None:
    """Raise ValueError unless it is a positive odd integer."""
    if (not isinstance(kernel_size, int) or kernel_size < 1
            or kernel_size % 2 == 0):
        raise ValueError('kernel_size must be a positive odd integer, got '
                         f'{kernel_size!r}')


def hidden_channels(in_channels: int, ratio: int) -> int:
    """Width ``in_channels // ratio`` of a gate's hidden layer.

    Raises:
        ValueError: The ratio is not a positive integer, or leaves nothing.
    """
    check_positive(ratio=ratio)
    if in_channels < ratio:
        raise ValueError(f'ratio={ratio} leaves no hidden channel for '
                         f'in_channels={in_channels}; use a smaller ratio')
    return in_channels // ratio


class Attention(BaseModule):
    """Reweights a map by what it says about itself.

    ``y = attend(x, transform(extract(x)))``: a descriptor is extracted from
    the map, transformed into weights, and the map attended with them.
    Subclasses define ``extract(x) -> d`` and ``transform(d) -> a``. The
    phases are pure, so that a link can step in between (see ``mmattn.links``).

    The first constructor parameter is ``in_channels`` and everything else is
    a keyword, which also makes each subclass an mmcv plugin for the stock
    ResNets. A subclass without phases may override ``forward`` alone; it
    then cannot be linked.

    Shape:
        ``(B, C, H, W)`` to the same, for any H and W. Descriptors and
        weights are 4-D tensors or tuples of them.
    """

    # What connects two of its kind; the universal link unless a paper says
    # otherwise.
    link_type = MapLink

    def attend(self, x: Tensor, a: Descriptor) -> Tensor:
        """Map and weights to map."""
        return x * a

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, self.transform(self.extract(x)))


class Chain(Attention):
    """Attentions one after the other, each on the result of the last.

    Args:
        parts: The attentions by name, in order. A link runs them one by one.
    """

    def __init__(self, **parts: Attention):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x
