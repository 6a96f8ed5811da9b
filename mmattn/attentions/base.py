from typing import Tuple, Union

from mmengine.model import BaseModule
from torch import Tensor

from ..links import MapLink

Descriptor = Union[Tensor, Tuple[Tensor, ...]]


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
