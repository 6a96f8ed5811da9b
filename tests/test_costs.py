"""What attentions cost beside their trunk, in passes over maps.

Operators that write a map, by name, and bytes that are alive: what no timing
on a busy machine could guard.
"""
from collections import Counter
from functools import partial

import pytest
import torch
from mmcv.cnn import build_conv_layer, build_norm_layer
from test_fuse import NETS, build
from torch.utils._python_dispatch import TorchDispatchMode
from tracker import Tracker

from mmattn.backbones import (BigLittle, Bottleneck, MobileNetV2,
                              ResidualBlock, ResNet, Stage)
from mmattn.benchmark.memory import CAN_COUNT, LiveStorages
from mmattn.fusions import SelectiveFusion
from mmattn.parts import Parts, factory

CHANNELS, SIZE = 64, (31, 17)
MAP = 2 * CHANNELS * 31 * 17


class Names(TorchDispatchMode):
    """How often each operator ran."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def stage(depth=2, depth_fusion=None, **words):
    """Bottlenecks whose inner maps are smaller than a map."""
    made = {
        word: factory(dict(value), word)
        for word, value in words.items() if isinstance(value, dict)
    }
    parts = Parts(
        conv=partial(build_conv_layer, None, bias=False),
        norm=partial(build_norm_layer, dict(type='BN')),
        inplace=depth_fusion is None,
        **made)
    blocks, carry = [], None
    for _ in range(depth):
        blocks.append(Bottleneck(CHANNELS, CHANNELS // 4, 1, 1, parts, carry))
        carry = CHANNELS
    return Stage(blocks, depth_fusion)


def written(net, grad=False):
    """Names of the operators that wrote a map, and the peak in maps."""
    x = torch.randn(2, CHANNELS, *SIZE)
    with torch.set_grad_enabled(grad), Tracker(MAP) as tracker:
        net.train(grad)
        net(x)
    return tracker.full_maps, tracker.maps


@pytest.mark.parametrize('name', ['SE', 'ECA', 'GE', 'Fca'])
@pytest.mark.parametrize('grad', [False, True])
def test_a_vector_of_gates_adds_no_pass(name, grad):
    """It multiplies while the shortcut is added."""
    plain, peak = written(stage(), grad=grad)
    gated, gated_peak = written(stage(attention=dict(type=name)), grad=grad)
    sums = ('add', 'add_', 'addcmul')
    assert [n for n in gated if n not in sums] == [
        n for n in plain if n not in sums
    ]
    assert gated.count('addcmul') == 2
    assert not {'mul', 'mul_', 'add', 'add_'} & set(gated)
    if not grad:
        assert gated_peak < peak + 0.1


@pytest.mark.parametrize('name', ['CBAM', 'CoordAttention'])
def test_two_gates_add_one_pass(name):
    net = stage(attention=dict(type=name))
    names, peak = written(net)
    assert names.count('mul_') == names.count('addcmul') == 2
    assert 'mul' not in names
    assert peak < written(stage())[1] + 0.5
    names, _ = written(net, grad=True)
    assert names.count('mul') == names.count('addcmul') == 2


def test_a_summand_is_added_in_place():
    names, peak = written(stage(attention=dict(type='GC')))
    assert names.count('add_') == 4 and 'add' not in names
    assert peak < written(stage())[1] + 0.1
    names, _ = written(stage(attention=dict(type='GC')), grad=True)
    assert names.count('add_') == names.count('add') == 2


@pytest.mark.parametrize('name', ['SE', 'GE', 'GC'])
@pytest.mark.parametrize('grad', [False, True])
def test_a_link_of_vectors_touches_no_map(name, grad):
    words = dict(attention=dict(type=name))
    alone, peak = written(stage(depth=4, **words), grad=grad)
    linked, linked_peak = written(
        stage(depth=4, link=dict(type='DCA'), **words), grad=grad)
    assert linked == alone
    assert linked_peak < peak + 0.2


@pytest.mark.parametrize('grad', [False, True])
def test_the_global_branch_of_aff_stays_a_vector(grad):
    """Sum, context, gate, share: four maps a block, and twice in place."""
    names, _ = written(stage(depth=1, fusion=dict(type='AFF')), grad=grad)
    assert Counter(names) == Counter({
        'convolution': 2, 'native_batch_norm': 2, 'add': 2, 'sigmoid_': 1,
        'lerp': 1, 'mul_': 1, 'relu_': 1
    })


def test_depth_fusion_grows_by_one_sum_with_each_block():
    """Its passes, and the maps it holds, are linear in the blocks."""
    passes, peaks = [], []
    for depth in (3, 6, 9):
        fusion = SelectiveFusion(CHANNELS, num_maps=depth, min_channels=8)
        names, peak = written(stage(depth, fusion))
        passes.append(len(names) - len(written(stage(depth))[0]))
        peaks.append(peak)
    assert passes[2] - passes[1] == passes[1] - passes[0] == 3
    assert abs(peaks[2] - 2 * peaks[1] + peaks[0]) < 0.1
    assert 2.9 < peaks[1] - peaks[0] < 3.1


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('ours, options', [
    (ResNet, dict(depth=18, out_indices=(0, 1, 2, 3))),
    (ResNet, dict(depth=50, out_indices=(0, 1, 2, 3))),
    (MobileNetV2, dict(out_indices=(7, ))),
])
def test_plain_networks_run_the_stock_operators(ours, options, training):
    backbones = pytest.importorskip('mmpretrain.models.backbones')
    counts = []
    for network in (ours, getattr(backbones, ours.__name__)):
        net = network(**options)
        net.train(training)
        with torch.set_grad_enabled(training), Names() as names:
            outs = net(torch.randn(2, 3, 65, 47))
            if training:
                sum(y.sum() for y in outs).backward()
        # In place or not, as the memory tests have it.
        names.counts['add'] += names.counts.pop('add_', 0)
        counts.append(names.counts)
    assert counts[0] == counts[1]


def gradients(net, x):
    """Of every parameter, and the bytes that the forward left alive."""
    with LiveStorages() as storages:
        outs = net(x)
    held = storages.live
    net.zero_grad()
    sum(y.square().mean() for y in outs).backward()
    return [p.grad.clone() for p in net.parameters()], held


@pytest.mark.config
@pytest.mark.skipif(not CAN_COUNT, reason='storages cannot be followed')
@pytest.mark.parametrize('row', NETS)
def test_recomputing_blocks_cuts_memory_and_no_number(row):
    net = build(row).double().train()
    size = (113, 129) if row == 'ScaleResNet' else (65, 97)
    x = torch.randn(2, 3, *size).double()
    expected, stored = gradients(net, x)
    for module in net.modules():
        if isinstance(module, ResidualBlock) and not isinstance(
                module, BigLittle):  # its rows' blocks do it
            module.with_cp = True
    for grad, other in zip(gradients(net, x)[0], expected):
        torch.testing.assert_close(grad, other, rtol=1e-9, atol=1e-9)
    assert gradients(net, x)[1] < 0.75 * stored
