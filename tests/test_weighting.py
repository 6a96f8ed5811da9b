"""A product of a map and its weights has the gradients of the formula."""
import pytest
import torch
from tracker import Tracker

from mmattn.weighting import weighted

B, C, H, W = 2, 3, 5, 4
WEIGHTS = dict(
    vector=[(B, C, 1, 1)],
    positions=[(B, 1, H, W)],
    full=[(B, C, H, W)],
    shared=[(1, C, 1, 1)],
    rows_and_columns=[(B, C, H, 1), (B, C, 1, W)],
    three=[(B, C, H, 1), (B, C, 1, W), (B, 1, 1, 1)])


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def formula(x, start, *weights):
    for a in weights:
        x = x * a
    return x if start is None else start + x


@pytest.mark.parametrize('shapes', WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize('size', [(B, C, H, W), (1, C, 1, W), (0, C, H, W)])
@pytest.mark.parametrize('with_start', [True, False])
@pytest.mark.parametrize('onto', [True, False])
def test_values_and_gradients(shapes, size, with_start, onto):
    shapes = [
        tuple(min(n, m) for n, m in zip(shape, size)) for shape in shapes
    ]
    tensors = [
        random(*size), random(*size) if with_start else None,
        *(random(*shape) for shape in shapes)
    ]
    given = [t for t in tensors if t is not None]

    def ours(x, start, *weights):
        # A leaf cannot be written to.
        start = start + 0 if onto and start is not None else start
        return weighted(x, weights, start, onto and start is not None)

    results = []
    for function in (formula, ours):
        y = function(*tensors)
        grads = torch.autograd.grad(
            y.sin().sum(), given, create_graph=True)
        # Of second order too.
        results.append([
            y, *grads,
            *torch.autograd.grad(sum(g.cos().sum() for g in grads), given)
        ])
    for expected, got in zip(*results):
        assert got.shape == expected.shape
        torch.testing.assert_close(got, expected)


def test_onto_needs_no_other_map():
    x, a = torch.randn(B, C, H, W), torch.randn(B, C, 1, 1)
    start = torch.randn(B, C, H, W)
    y = weighted(x, [a], start, onto=True)
    assert y.data_ptr() == start.data_ptr()
    assert weighted(x, [a], start).data_ptr() != start.data_ptr()


def backward_of(*shapes):
    """Maps kept for it, maps that it wrote, by operator."""
    x, start, *weights = (
        torch.randn(*shape, requires_grad=True)
        for shape in [(2, 8, 31, 17)] * 2 + list(shapes))
    numbers = x.numel()
    with Tracker(numbers) as tracker:
        y = weighted(x, weights, start)
    kept = tracker.live / (numbers * 4) - 1  # but for the result itself
    del tracker.full_maps[:]
    grad = torch.ones_like(start)
    with tracker:
        torch.autograd.grad(y, [x, start, *weights], grad)
    return round(kept, 1), tracker.full_maps


def test_a_gate_is_trained_in_two_products():
    """PyTorch's own takes three: ``x * 1``, ``grad * x`` and ``grad * a``."""
    kept, names = backward_of((2, 8, 1, 1))
    assert kept == 0
    assert names.count('mul') == len(names) == 2


def test_two_gates_are_trained_in_three_products():
    """PyTorch's own takes five, and keeps ``x`` times the first."""
    kept, names = backward_of((2, 8, 31, 1), (2, 8, 1, 17))
    assert kept == 0
    assert names.count('mul') == len(names) == 3
