"""The identity start of gates, ``gate_init='identity'``.

A gate ``2 * sigmoid(t)`` whose last layer starts at zero lets everything
through as it is, to the bit, and still has its full gradient there. (A plain
sigmoid driven to 1 by a bias has none left.)
"""
from typing import Optional

from torch import Tensor, nn


class _Twice(nn.Sequential):
    """Two times a gate, which is a vector or a plane, never a whole map."""

    def forward(self, t: Tensor) -> Tensor:
        return 2 * super().forward(t)


def check_gate_init(gate_init: Optional[str]) -> None:
    """Raise ValueError unless it is None or ``'identity'``."""
    if gate_init not in (None, 'identity'):
        raise ValueError("gate_init must be None or 'identity', got "
                         f'{gate_init!r}')


def refuse_gate_init(part: nn.Module, gate_init: None, reason: str) -> None:
    """Raise ValueError, with the reason, unless it is None."""
    if gate_init is not None:
        raise ValueError(f'{type(part).__name__} takes no gate_init, got '
                         f'{gate_init!r}: {reason}')


def gate_function(gate_init: Optional[str],
                  function: Optional[nn.Module] = None) -> nn.Module:
    """The function behind a gate's last layer: sigmoid unless given.

    Raises:
        ValueError: ``gate_init`` is neither None nor ``'identity'``.
    """
    check_gate_init(gate_init)
    function = nn.Sigmoid() if function is None else function
    return function if gate_init is None else _Twice(function)


def start_gate(gate_init: Optional[str], *layers: nn.Module) -> None:
    """Zero the last layers of a gate that is to start as the identity.

    For constructors, and for the end of ``init_weights``: a backbone's
    initialisation by kind of layer runs before it.

    Raises:
        ValueError: A layer has no weight.
    """
    for layer in layers if gate_init is not None else ():
        if getattr(layer, 'weight', None) is None:
            raise ValueError(
                "gate_init='identity' starts the last layer of a gate at "
                f'zero, and {layer} has no weight; use a norm that has one, '
                'with affine=True')
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
