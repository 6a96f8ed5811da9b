from typing import Optional, Tuple, Union

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ..links import MapLink
from ..weighting import weighted

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
        """Map and weights to map: times each of them."""
        return weighted(x, _as_tuple(a))

    def finish(self, x: Tensor, a: Descriptor,
               shortcut: Optional[Tensor] = None,
               inplace: bool = False) -> Tensor:
        """``attend(x, a)``, plus a shortcut if there is one.

        Weights that only multiply do so while the shortcut is added, in one
        pass over the maps. ``inplace`` says that nobody else holds ``x`` and
        that no gradient will be asked for.
        """
        if type(self).attend is not Attention.attend:
            x = self.attend(x, a)
            if shortcut is None:
                return x
            return x.add_(shortcut) if inplace else x + shortcut
        weights = _as_tuple(a)
        if not inplace:
            return weighted(x, weights, shortcut)
        for other in weights[:-1]:
            x.mul_(other)
        if shortcut is None:
            return x.mul_(weights[-1])
        return torch.addcmul(shortcut, x, weights[-1], out=x)

    def forward(self, x: Tensor,
                shortcut: Optional[Tensor] = None,
                inplace: bool = False) -> Tensor:
        a = self.transform(self.extract(x))
        return self.finish(x, a, shortcut, inplace)


def _as_tuple(a: Descriptor) -> Tuple[Tensor, ...]:
    return a if isinstance(a, tuple) else (a, )


class Chain(Attention):
    """Attentions one after the other, each on the result of the last.

    Args:
        parts: The attentions by name, in order. A link runs them one by one.
    """

    def __init__(self, **parts: Attention):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor,
                shortcut: Optional[Tensor] = None,
                inplace: bool = False) -> Tensor:
        *parts, last = self.children()
        for part in parts:
            x = part(x, inplace=inplace)
        return last(x, shortcut, inplace)
