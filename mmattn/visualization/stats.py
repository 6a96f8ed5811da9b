"""Numbers that say how a gate is doing."""
import math
import re
from typing import Any, Optional, Tuple

import torch
from torch import Tensor, nn

from ..attentions import A2, GC
from ..fusions import Fusion

# A gate below or above these hardly moves any more.
LOW, HIGH = 0.05, 0.95
# What they return is added to the map, not multiplied by it.
ADDED = (GC, A2)


def group_of(name: str) -> str:
    """The stage of a module, or what holds it where that is no stage.

    ``backbone.layer2.0.attention`` is of ``backbone.layer2``.
    """
    stage = re.match(r'(.*?\blayer\d+)(\.|$)', name)
    return stage[1] if stage else name.rpartition('.')[0] or name


def outermost(names) -> list:
    """Without the gates inside others: AFF and its MS-CAM decide once."""
    names = list(names)
    return [
        name for name in names
        if not any(name.startswith(other + '.') for other in names)
    ]


def gates(module: nn.Module, weights: Any) -> Optional[Tuple[Tensor, ...]]:
    """Weights as numbers from 0 to 1, or None where they are no gate.

    A gate with the identity start runs from 0 to 2 and is halved. What is
    added to a map instead of scaling it (``ADDED``) is no gate.

    Args:
        module: The attention or fusion.
        weights: What its ``transform`` returned.
    """
    if isinstance(module, ADDED):
        return None
    tensors = weights if isinstance(weights, tuple) else (weights, )
    # A fusion's are shares; its own start is no doubled gate.
    doubled = (getattr(module, 'gate_init', None) == 'identity'
               and not isinstance(module, Fusion))
    tensors = tuple(t.float() / (2 if doubled else 1) for t in tensors)
    if all(0 <= t.min() and t.max() <= 1 for t in tensors):
        return tensors
    return None


def shares_out(module: nn.Module, weights: Any) -> bool:
    """Whether weights are the shares of several maps, which sum to 1."""
    return isinstance(module, Fusion) and isinstance(weights, tuple)


def entropy(tensors: Tuple[Tensor, ...], shared: bool = False) -> float:
    """How undecided gates are, from 0 to 1.

    The mean binary entropy of a gate in bits; of shares (``shared``), their
    entropy over the maps divided by its maximum.
    """
    if shared:
        a = torch.stack(tensors)
        h = -torch.xlogy(a, a).sum(0) / math.log(len(a))
        return h.mean().item()
    total = count = 0
    for a in tensors:
        h = -(torch.xlogy(a, a) + torch.xlogy(1 - a, 1 - a)) / math.log(2)
        total, count = total + h.sum().item(), count + a.numel()
    return total / count


def saturation(tensors: Tuple[Tensor, ...]) -> float:
    """Share of gates below ``LOW`` or above ``HIGH``."""
    count = sum(a.numel() for a in tensors)
    return sum(((a < LOW) | (a > HIGH)).sum().item() for a in tensors) / count


def highest(tensors: Tuple[Tensor, ...]) -> Tensor:
    """The highest gate of each channel (and map) over images and places."""
    return torch.cat([a.amax((0, *range(2, a.dim()))) for a in tensors])


def dead(peaks: Tensor) -> float:
    """Share of channels whose gate never rises above ``LOW``."""
    return (peaks < LOW).float().mean().item()
