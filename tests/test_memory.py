"""What depth fusion costs in live maps, counted operator by operator.

A map is one block output ``(B, C, H, W)`` of the stage. Counted are the bytes
of all storages that operators made and somebody still holds; parameters and
the stage's input existed before and do not count. Nothing is timed, and
scratch space inside an operator is not seen, so the numbers are the same on
every machine.
"""
from functools import partial

import pytest
import torch
from mmcv.cnn import build_conv_layer, build_norm_layer
from tracker import Tracker as NamedTracker

from mmattn.backbones import Bottleneck, Stage
from mmattn.fusions import SelectiveFusion
from mmattn.parts import Parts

CHANNELS = 32  # of a map
SHAPE = (2, CHANNELS, 31, 17)
MAP = 2 * CHANNELS * 31 * 17  # numbers in one

# How many blocks the stages of SDA-ResNet-86 have: 5, 6, 12, 5.
every_depth = pytest.mark.parametrize('n', [5, 12])


Tracker = partial(NamedTracker, MAP)


def build(n, depth_fusion):
    parts = Parts(
        conv=partial(build_conv_layer, None, bias=False),
        norm=partial(build_norm_layer, dict(type='BN')),
        inplace=not depth_fusion)
    blocks = [
        Bottleneck(CHANNELS if i else 16, CHANNELS // 4, 1, 1, parts)
        for i in range(n)
    ]
    fusion = SelectiveFusion(
        CHANNELS, num_maps=n, min_channels=8) if depth_fusion else None
    return Stage(blocks, fusion).eval()


def measure(n, mode, depth_fusion=True):
    """Tracker after a forward, and after the backward where there is one.

    Modes: ``'inference'`` without autograd; ``'idle'`` with autograd on and
    nothing that requires a gradient; ``'training'``.
    """
    stage = build(n, depth_fusion)
    stage.requires_grad_(mode == 'training')
    x = torch.randn(2, 16, *SHAPE[2:], requires_grad=mode == 'training')
    tracker = Tracker()
    with torch.set_grad_enabled(mode != 'inference'), tracker:
        y, _ = stage(x)
    forward = tracker.maps
    assert y.shape == SHAPE
    if mode == 'training':
        gradient = torch.ones_like(y)
        with tracker:
            y.backward(gradient)
    return forward, tracker


def test_the_tracker_counts():
    x = torch.randn(SHAPE)
    with Tracker() as tracker:
        a = x + 1
        b = a * 2
        b.relu_()
        view = b.flatten(2)
        del a
        c = torch.cat((b, x))
        d = x.clone()
        del b, view, c, d
    assert tracker.full_maps == ['add', 'mul', 'relu_', 'cat', 'clone']
    assert tracker.live == 0
    assert tracker.maps == 1 + 2 + 1


def test_the_tracker_counts_what_autograd_keeps():
    x = torch.randn(SHAPE, requires_grad=True)
    with Tracker() as tracker:
        y = x.sigmoid()
        z = y.exp()
        del y  # kept for the backward of both
    assert tracker.live == 2 * MAP * 4
    del z
    assert tracker.live == 0


@every_depth
def test_inference_without_autograd(n):
    peak, _ = measure(n, 'inference')
    assert peak <= n + 3, f'{peak:.2f} maps live, {n} + 3 allowed'


@every_depth
def test_inference_with_autograd_on(n):
    peak, _ = measure(n, 'idle')
    assert peak <= n + 4, f'{peak:.2f} maps live, {n} + 4 allowed'


@every_depth
def test_training_forward(n):
    plain, _ = measure(n, 'training', depth_fusion=False)
    peak, _ = measure(n, 'training')
    extra = peak - plain
    # The trunk adds in place and holds a sum less than it writes.
    assert extra <= n + 1.1, (
        f'{peak:.2f} maps live, {plain:.2f} of the plain trunk: {extra:.2f} '
        f'more, {n} + 1.1 allowed')


@every_depth
def test_training_backward(n):
    plain = measure(n, 'training', depth_fusion=False)[1].maps
    peak = measure(n, 'training')[1].maps
    extra = peak - plain
    assert extra <= n + 2.5, (
        f'{peak:.2f} maps live, {plain:.2f} of the plain trunk: {extra:.2f} '
        f'more, {n} + 2.5 allowed')


@every_depth
@pytest.mark.parametrize('mode', ['inference', 'idle', 'training'])
def test_no_map_is_copied(n, mode):
    _, tracker = measure(n, mode)
    copies = {'cat', 'stack', 'clone', 'copy_', '_to_copy', 'contiguous'}
    assert not copies & set(tracker.full_maps)


@every_depth
def test_inference_writes_no_more_than_n_maps(n):
    """The sum is weighed in place; only activations leave the place."""
    plain = measure(n, 'inference', depth_fusion=False)[1].full_maps
    fused = measure(n, 'inference')[1].full_maps
    assert len(fused) - len(plain) <= n + 1
    assert fused.count('mul') == 1
    assert fused.count('addcmul_') == n - 1
    assert 'sum' not in fused
