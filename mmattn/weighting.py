"""Maps times weights, with the gradients that the weights need."""
from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor


def weighted(x: Tensor,
             weights: Sequence[Tensor],
             start: Optional[Tensor] = None,
             onto: bool = False) -> Tensor:
    """``start + x * a_1 * a_2 ...``, with fewer passes in training.

    PyTorch's own gradient of an ``addcmul`` forms ``x * 1`` beside
    ``grad * x``, and that of a longer product keeps the shorter ones. This one
    keeps ``x`` and forms ``grad * x``, once for all weights.

    Args:
        x: A map.
        weights: One tensor or more, each broadcast to the map.
        start: Another map; None for none.
        onto: Write the result into ``start``, which nobody else needs.

    Shape:
        ``(B, C, H, W)`` to the same.
    """
    # A trace of torch 2.1 holds no function of one's own that writes in place.
    if torch.is_grad_enabled() and not torch.jit.is_tracing():
        return _Weighted.apply(x, start, onto, *weights)
    return _forward(x, weights, start, onto)


def _forward(x: Tensor, weights: Sequence[Tensor], start: Optional[Tensor],
             onto: bool) -> Tensor:
    *others, last = weights
    for a in others:
        x = x * a
    if start is None:
        return x * last
    return (start.addcmul_ if onto else start.addcmul)(x, last)


class _Weighted(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x: Tensor, start: Optional[Tensor], onto: bool,
                *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, *weights)
        if onto:
            ctx.mark_dirty(start)
        return _forward(x, weights, start, onto)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        x, *weights = ctx.saved_tensors
        to_x = grad
        for a in weights:
            to_x = to_x * a
        to_start = grad if ctx.needs_input_grad[1] else None
        return to_x, to_start, None, *_to_weights(grad * x, weights)


def _to_weights(product: Tensor, weights: Sequence[Tensor]) -> List[Tensor]:
    """The gradient of each weight, from the map times its own."""
    shape = product.shape
    if [a.shape for a in weights] == [(*shape[:3], 1),
                                      (*shape[:2], 1, shape[3])]:
        # Rows and columns: products of matrices, which write no map.
        rows, columns = (a.to(product.dtype).mT for a in weights)
        return [product @ columns, rows @ product]
    grads = []
    for i, a in enumerate(weights):
        part = product
        for b in (*weights[:i], *weights[i + 1:]):
            part = part * b
        grads.append(part.sum_to_size(a.shape))
    return grads
