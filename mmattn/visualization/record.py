"""What attentions, fusions and links decided during a forward pass."""
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Tuple

import torch
from torch import Tensor, nn

from ..attentions.base import Attention
from ..fusions import Add
from ..links import (ChannelLink, ContextLink, Link, MapLink, PooledMapLink,
                     SpatialLink)


class Record:
    """What a :func:`record` collects; names are those of ``named_modules``.

    Attributes:
        weights: For each attention and fusion that ran, what ``transform``
            returned, call by call: a tensor or a tuple of them, detached and
            not copied. In the order of the first calls.
        shares: For each link that mixed, how much of the mix came from the
            previous attention, call by call: a tensor ``(B, )`` of numbers
            from 0 to 1, ``|w_2 p| / (|w_1 d| + |w_2 p|)`` summed over the
            descriptor. The first link of a network mixes nothing.
        calls: The names of both kinds in call order.
        names: Of all that is being recorded, whether it ran or not.
    """

    def __init__(self):
        self.names: List[str] = []
        self.weights: Dict[str, List[Any]] = {}
        self.shares: Dict[str, List[Tensor]] = {}
        self.calls: List[str] = []

    def clear(self) -> None:
        """Forget what was collected, to collect the next image alone."""
        for kept in (self.weights, self.shares, self.calls):
            kept.clear()


class _Recorder:
    """Stands in for a method of one module while a record is open."""

    def __init__(self, module: nn.Module, method: str, keep: Callable):
        self.module = module
        self.method = method
        self.inner = getattr(module, method)
        self.keep = keep

    def __call__(self, *args: Any) -> Any:
        result = self.inner(*args)
        self.keep(args, result)
        return result

    def __reduce__(self):
        # Copies and pickles get the method itself, bound to the copy.
        return getattr, (self.module, self.method)


@contextmanager
def record(model: nn.Module) -> Iterator[Record]:
    """Collect what every attention, fusion and link of a model decides.

        with mmattn.record(model) as kept:
            model(images)
        kept.weights['layer1.0.attention'][0]  # (B, C, 1, 1)

    ``transform`` of the instances is replaced until the block ends, whichever
    way it does; links call it without calling the attention, so a forward
    hook would miss it. Nothing stays on the modules, and a model without an
    open record has no cost. Records nest. A copy made inside the block is not
    recorded.

    Addition decides nothing and is left out. A gate inside a fusion (AFF)
    appears beside the fusion. A block that is checkpointed (``with_cp``)
    decides again in the backward pass, which counts as a second call.

    Args:
        model: Any module, in eager mode: a compiled one may record nothing.

    Returns:
        Through ``as``: a :class:`Record`.
    """
    kept = Record()
    replaced = []

    def keep_weights(name: str) -> Callable:

        def keep(args: tuple, weights: Any) -> None:
            kept.calls.append(name)
            kept.weights.setdefault(name, []).append(_detached(weights))

        return keep

    def keep_share(name: str, link: Link) -> Callable:

        def keep(args: tuple, mixed: Any) -> None:
            kept.calls.append(name)
            kept.shares.setdefault(name, []).append(share(link, *args))

        return keep

    def replace(module: nn.Module, method: str, keep: Callable) -> None:
        before = vars(module).get(method)
        vars(module)[method] = _Recorder(module, method, keep)
        replaced.append((module, method, before))

    try:
        for name, module in model.named_modules():
            if isinstance(module, Add):
                continue
            if isinstance(module, Attention) and hasattr(module, 'transform'):
                replace(module, 'transform', keep_weights(name))
            elif isinstance(module, KINDS):
                replace(module, 'merge', keep_share(name, module))
            else:
                continue
            kept.names.append(name)
        yield kept
    finally:
        for module, method, before in reversed(replaced):
            if before is None:
                del vars(module)[method]
            else:
                vars(module)[method] = before


def _detached(weights: Any) -> Any:
    if isinstance(weights, (tuple, list)):
        return tuple(each.detach() for each in weights)
    return weights.detach()


# The links that mix themselves; the others are made of these.
KINDS = (MapLink, ChannelLink, ContextLink, PooledMapLink, SpatialLink)


def mix_weights(link: Link) -> Tuple[Any, Any]:
    """The factors of a link's own and of the recycled descriptor."""
    if isinstance(link, (ChannelLink, PooledMapLink)):
        return link.mix.weight[0], link.mix.weight[1]
    if isinstance(link, ContextLink):
        return 1, link.weight
    return link.weight[0], link.weight[1]


@torch.no_grad()
def share(link: Link, attention: nn.Module, d: Any, p: Any) -> Tensor:
    """How much of a link's mix is recycled, ``(B, )`` from 0 to 1.

    Args:
        link: One of ``KINDS``.
        attention, d, p: What its ``merge`` gets.
    """
    if link.hands_on_map:
        p = attention.extract(p)
    own, recycled = (
        sum((factor * each).float().abs().flatten(1).sum(1)
            for each in (t if isinstance(t, tuple) else (t, )))
        for factor, t in zip(mix_weights(link), (d, p)))
    total = own + recycled
    # 0 of 0 is nothing recycled
    return torch.where(total > 0, recycled / total, total)
