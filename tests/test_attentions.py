"""Every registered attention under one contract, then each by hand.

A new attention is tested by registering it. What is particular to one
(values computed on paper, parity, refused arguments) follows the matrix.
"""
import inspect
import math
from copy import deepcopy

import pytest
import torch
from mmcv.cnn.bricks import ContextBlock
from samples import in_one_graph, randomise
from torch.autograd import gradcheck
from torch.func import functional_call

from mmattn.attentions import (CBAM, ECA, GC, GE, MSCAM, SE, Attention,
                               CoordAttention)
from mmattn.backbones import ResNet
from mmattn.fusions import Fusion
from mmattn.registry import MODELS

MODELS.import_from_location()
ATTENTIONS = sorted(
    name for name, cls in MODELS.module_dict.items() if inspect.isclass(cls)
    and issubclass(cls, Attention) and not issubclass(cls, Fusion))
SIZES = [(7, 5), (1, 1), (32, 19)]
CHANNELS = 64

# Parameters whose gradient is zero by algebra: a softmax and a batch norm
# remove what shifts all they see. Published files hold them.
ZERO_GRADIENT = dict(
    GC={'mask.bias'},
    CoordAttention={'fc1.bias'},
    BAM={
        'channel_branch.0.bias', 'spatial_branch.0.bias',
        'spatial_branch.3.bias', 'spatial_branch.6.bias'
    },
    GSoP={'reduce.bias'},
    MSCAM={
        f'{branch}_branch.{i}.bias'
        for branch in ('local', 'global') for i in (0, 3)
    })

every_attention = pytest.mark.parametrize('name', ATTENTIONS)
# Sizes for which a formula has no value; test_peer_attentions.py sees the
# error. One position has no standard deviation.
UNDEFINED = {('SGE', (1, 1))}
every_attention_and_size = pytest.mark.parametrize(
    'name,size', [(name, size) for name in ATTENTIONS for size in SIZES
                  if (name, size) not in UNDEFINED])


def build(name, channels=CHANNELS, dtype=torch.float64):
    return randomise(MODELS.get(name)(channels)).to(dtype)


def random_map(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def set_weights(module, **values):
    """Set parameters by name (``fc1_weight``), any nesting of numbers."""
    with torch.no_grad():
        for key, value in values.items():
            layer, _, kind = key.rpartition('_')
            parameter = getattr(getattr(module, layer), kind)
            parameter.copy_(torch.as_tensor(value).reshape(parameter.shape))
    return module


def plain_norm(norm):
    """Make a fresh norm in eval mode the identity, to the bit."""
    norm.eps = 0.
    return norm


# The matrix


def test_the_matrix_sees_the_registry():
    assert {
        'A2', 'BAM', 'CBAM', 'CoordAttention', 'ECA', 'Fca', 'GC', 'GE',
        'GSoP', 'MSCAM', 'SA', 'SE', 'SGE'
    } <= set(ATTENTIONS)


@every_attention
def test_signature(name):
    first, *rest = inspect.signature(MODELS.get(name)).parameters.values()
    assert first.name == 'in_channels'
    assert all(p.kind is p.KEYWORD_ONLY for p in rest)


@every_attention_and_size
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_shape_and_dtype(name, size, dtype):
    layer = build(name, dtype=dtype)
    x = random_map(3, CHANNELS, *size, dtype=dtype)
    before = x.clone()
    y = layer(x)
    assert y.shape == x.shape
    assert y.dtype == dtype
    assert y.isfinite().all()
    assert torch.equal(x, before)


@every_attention
@pytest.mark.parametrize('size', [(7, 5), (32, 19)])
def test_every_parameter_has_a_gradient(name, size):
    layer = build(name)
    x = random_map(3, CHANNELS, *size).requires_grad_()
    layer(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    gradients = {
        key: p.grad.abs().max().item()
        for key, p in layer.named_parameters()
    }
    zero = {key for key, value in gradients.items() if value < 1e-9}
    assert zero == ZERO_GRADIENT.get(name, set())


@every_attention
def test_gradients_are_right(name):
    layer = build(name, channels=16).eval()
    x = random_map(2, 16, 3, 2).requires_grad_()
    parameters = dict(layer.named_parameters())

    def run(x, *values):
        return functional_call(layer, dict(zip(parameters, values)), (x, ))

    assert gradcheck(run, (x, *parameters.values()), fast_mode=True)


@every_attention_and_size
def test_eval_output_is_independent_of_batch_mates(name, size):
    layer = build(name).eval()
    x = random_map(3, CHANNELS, *size)
    together = layer(x)
    alone = torch.cat([layer(x[i:i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=1e-12)


@every_attention
def test_deepcopy_and_state_dict(name):
    layer = build(name).eval()
    x = random_map(2, CHANNELS, 7, 5)
    y = layer(x)
    assert torch.equal(deepcopy(layer)(x), y)
    other = build(name).eval()
    randomise(other, seed=2)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), y)


@every_attention
@pytest.mark.parametrize('training', [True, False])
def test_compiles_to_one_graph(name, training):
    layer = build(name).train(training)
    x = random_map(2, CHANNELS, 7, 5)
    compiled = in_one_graph(layer)
    assert torch.equal(compiled(x), layer(x))


@every_attention
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
def test_autocast_keeps_the_dtype_of_the_map(name, dtype):
    """A bfloat16 map stays one, and a float32 map is not degraded."""
    layer = build(name, dtype=torch.float32)
    with torch.no_grad():  # results of order 1, so that roundings stay small
        for p in layer.parameters():
            if p.dim() > 2:
                p *= 2 * p[0].numel()**-0.5
    x = random_map(2, CHANNELS, 7, 5).to(dtype).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == dtype
    y.float().square().sum().backward()
    assert x.grad.dtype == dtype
    assert all(p.grad is not None for p in layer.parameters())
    layer.eval()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = layer(x)
    torch.testing.assert_close(
        y.float(), layer(x.float()), rtol=0.05, atol=0.05)


@every_attention
def test_memory_layout_does_not_matter(name):
    layer = build(name).eval()
    x = random_map(2, CHANNELS, 7, 5)
    y = layer(x)
    strided = torch.stack((x, -x), -1)[..., 0]
    assert not strided.is_contiguous()
    channels_last = x.contiguous(memory_format=torch.channels_last)
    for same in (strided, channels_last):
        torch.testing.assert_close(
            layer(same), y, rtol=1e-12, atol=1e-12)


@every_attention
def test_forward_keeps_nothing_on_the_module(name):
    layer = build(name).eval()
    before = {key: vars(m).copy() for key, m in layer.named_modules()}
    layer(random_map(2, CHANNELS, 7, 5))
    after = {key: vars(m).copy() for key, m in layer.named_modules()}
    assert before.keys() == after.keys()
    for key in before:
        assert before[key].keys() == after[key].keys()
        assert all(before[key][attribute] is after[key][attribute]
                   for attribute in before[key])


@every_attention
def test_forward_is_its_phases(name):
    x = random_map(2, CHANNELS, 7, 5)
    for layer in build(name).eval().modules():
        if getattr(type(layer), 'forward', None) is not Attention.forward:
            continue
        d = layer.extract(x)
        a = layer.transform(d)
        for phase in (d, a):
            tensors = phase if isinstance(phase, tuple) else (phase, )
            assert all(t.dim() == 4 for t in tensors)
        assert torch.equal(layer.attend(x, a), layer(x))


# SE


def test_se_by_hand():
    layer = set_weights(
        SE(2, ratio=2),
        fc1_weight=[1., 2.],
        fc1_bias=0.5,
        fc2_weight=[math.log(3), 0.],
        fc2_bias=[0., -math.log(3)])
    # Means (1, -0.25): hidden 1 - 0.5 + 0.5 = 1, logits (log 3, -log 3).
    # Means (-2, 0): hidden relu(-1.5) = 0, logits (0, -log 3).
    x = torch.tensor([[[[0., 1., 2.]], [[-1., 0.25, 0.]]],
                      [[[-3., -2., -1.]], [[-6., 2., 4.]]]])
    gates = torch.tensor([[0.75, 0.25], [0.5, 0.25]])
    torch.testing.assert_close(layer(x), x * gates[..., None, None])


def test_hidden_width_is_not_rounded():
    assert SE(35, ratio=16).fc1.out_channels == 2
    assert SE(15, ratio=15).fc1.out_channels == 1


def test_se_with_rounded_width_and_hard_gate():
    """MobileNetV3's: 72 / 4 = 18 would round to 16, less than 90 %."""
    layer = randomise(SE(72, ratio=4, divisor=8, gate='hardsigmoid'))
    assert layer.fc1.out_channels == 24
    assert SE(64, ratio=4, divisor=8).fc1.out_channels == 16
    x = torch.randn(2, 72, 7, 5)
    z = layer.fc2(layer.fc1(x.mean((2, 3), keepdim=True)).relu())
    torch.testing.assert_close(layer(x), x * ((z + 3) / 6).clamp(0, 1))
    for options in (dict(divisor=0), dict(gate='tanh')):
        with pytest.raises(ValueError, match=f'{next(iter(options))} must be'):
            SE(64, **options)


def test_se_without_biases():
    layer = SE(64, ratio=4, bias=False)
    assert sum(p.numel() for p in layer.parameters()) == 2 * 64 * 16


# ECA


def test_eca_with_a_delta_kernel_is_ge():
    layer = set_weights(ECA(16, kernel_size=3), conv_weight=[0., 1., 0.])
    x = torch.randn(2, 16, 7, 5)
    torch.testing.assert_close(layer(x), GE(16)(x))


# Source: the listing in the paper, arXiv:1910.03151, figure 3.
@pytest.mark.parametrize('in_channels,kernel_size', [
    (16, 3), (24, 3), (32, 3), (64, 3), (96, 3), (128, 5), (144, 5), (160, 5),
    (192, 5), (256, 5), (320, 5), (384, 5), (512, 5), (576, 5), (960, 5),
    (1024, 5), (2048, 7)
])
def test_eca_adaptive_rule(in_channels, kernel_size):
    assert ECA(in_channels).conv.kernel_size == (kernel_size, )


@pytest.mark.parametrize('kernel_size', [1, 3, 9])
def test_eca_explicit_kernel_wins(kernel_size):
    layer = ECA(2048, kernel_size=kernel_size)
    assert [p.shape for p in layer.parameters()] == [(1, 1, kernel_size)]


def test_eca_pads_the_channel_ends_with_zeros():
    layer = set_weights(
        ECA(3, kernel_size=3), conv_weight=[1., 0., 10.])
    means = torch.tensor([0.1, 0.2, 0.4])
    x = means[None, :, None, None] + torch.tensor([[-1., 0.], [0., 1.]])
    # logit_c = 1 * mean_{c-1} + 10 * mean_{c+1}
    logits = torch.tensor([0. + 2., 0.1 + 4., 0.2 + 0.])
    expected = x * logits.sigmoid()[None, :, None, None]
    torch.testing.assert_close(layer(x), expected)


# GE


def test_ge_by_hand():
    x = torch.tensor([[[[0., 2 * math.log(3)]], [[-1., 1.]]]])
    expected = x * torch.tensor([0.75, 0.5])[None, :, None, None]
    torch.testing.assert_close(GE(2)(x), expected)
    assert not list(GE(2).parameters())


# GC


def test_gc_adds_nothing_at_first():
    layer = GC(32)
    layer.init_weights()
    x = torch.randn(2, 32, 7, 5)
    assert torch.equal(layer(x), x)


def test_gc_without_its_zero_start_is_the_backbones():
    net = ResNet((1, 1, 1, 1), base_channels=8,
                 attention=dict(type='GC', zero_start=False))
    net.init_weights()
    gate = net.layer4[0].attention
    for conv in (gate.fc2, gate.mask):  # Kaiming by fan-out, as published
        assert conv.weight.std().item() == pytest.approx(
            (2 / conv.out_channels)**0.5, rel=0.15)


@pytest.mark.parametrize('size', SIZES)
def test_gc_is_mmcvs_context_block(size):
    theirs = randomise(
        ContextBlock(
            32, ratio=1 / 16, pooling_type='att',
            fusion_types=('channel_add', ))).double()
    ours = GC(32).double()
    names = {
        'conv_mask': 'mask',
        'channel_add_conv.0': 'fc1',
        'channel_add_conv.1': 'norm',
        'channel_add_conv.3': 'fc2'
    }
    ours.load_state_dict({
        f'{names[layer]}.{kind}': value
        for layer, _, kind, value in (
            (*key.rpartition('.'), value)
            for key, value in theirs.state_dict().items())
    })
    x = random_map(3, 32, *size)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_gc_reads_where_it_looks():
    layer = GC(2, ratio=1)
    set_weights(layer, mask_weight=[100., 0.], mask_bias=3.)
    x = torch.tensor([[[[0., 5., 1.]], [[7., -2., 4.]]]])
    # Channel 0 is greatest at the second position.
    torch.testing.assert_close(
        layer.extract(x).flatten(), torch.tensor([5., -2.]))


# CBAM


def cbam_by_hand():
    """Gates 0 and 1/2 of the channels; the position's gate sees the max."""
    layer = CBAM(2, ratio=2, kernel_size=1).eval()
    plain_norm(layer.spatial_gate.norm)
    set_weights(
        layer.channel_gate,
        fc1_weight=[0., 0.],
        fc1_bias=0.,
        fc2_weight=[0., 0.],
        fc2_bias=[-60., 0.])
    set_weights(layer.spatial_gate, conv_weight=[1., 0.])
    return layer


def test_channel_gate_adds_the_two_logits():
    gate = set_weights(
        CBAM(2, ratio=1).channel_gate,
        fc1_weight=[[0., 0.], [0., 0.]],
        fc1_bias=[0.5, -9.],
        fc2_weight=[[math.log(3), 5.], [0., 5.]],
        fc2_bias=[0., -math.log(3) / 2])
    # The MLP says (log 3 / 2, -log 3 / 2) of the mean, and again of the max.
    x = torch.randn(2, 2, 7, 5)
    expected = torch.tensor([0.75, 0.25])[None, :, None, None].expand(
        2, -1, -1, -1)
    torch.testing.assert_close(gate.transform(gate.extract(x)), expected)


def test_channel_gate_runs_mean_and_max_through_one_mlp():
    gate = set_weights(
        CBAM(1, ratio=1).channel_gate,
        fc1_weight=1.,
        fc1_bias=0.,
        fc2_weight=1.,
        fc2_bias=0.)
    x = torch.tensor([[[[0., 3., 0.]]]])  # mean 1, maximum 3
    logit = gate.transform(gate.extract(x)).logit()
    torch.testing.assert_close(logit.flatten(), torch.tensor([1. + 3.]))


def test_channel_descriptor_is_mean_and_max():
    x = torch.randn(2, 16, 7, 5)
    mean, maximum = CBAM(16).channel_gate.extract(x)
    torch.testing.assert_close(mean.flatten(1), x.flatten(2).mean(2))
    assert torch.equal(maximum.flatten(1), x.flatten(2).max(2).values)


def test_spatial_descriptor_is_max_then_mean():
    x = torch.randn(2, 16, 7, 5)
    d = CBAM(16).spatial_gate.extract(x)
    assert d.shape == (2, 2, 7, 5)
    assert torch.equal(d[:, 0], x.max(1).values)
    torch.testing.assert_close(d[:, 1], x.mean(1))


def test_cbam_gates_channels_before_positions():
    # The greatest channel is shut before the position's gate looks.
    x = torch.tensor([7., 2 * math.log(3)])[None, :, None, None]
    y = cbam_by_hand()(x.expand(1, 2, 3, 2))
    expected = torch.tensor([0., 0.75 * math.log(3)])[None, :, None, None]
    torch.testing.assert_close(y, expected.expand(1, 2, 3, 2))


def test_cbam_without_biases_and_norm():
    layer = randomise(CBAM(16, ratio=4, bias=False, norm_cfg=None)).double()
    # SDA-xNet's CBAM rows: 2 C C / r weights, and two 7x7 planes.
    assert sum(p.numel() for p in layer.parameters()) == 2 * 16 * 4 + 98
    x = random_map(2, 16, 7, 5)
    gate = layer.channel_gate

    def m(t):
        t = torch.einsum('hc,bc->bh', gate.fc1.weight[..., 0, 0], t).relu()
        return torch.einsum('ch,bh->bc', gate.fc2.weight[..., 0, 0], t)

    u = x * (m(x.mean((2, 3))) + m(x.amax((2, 3)))).sigmoid()[..., None, None]
    d = torch.stack((u.amax(1), u.mean(1)), 1)
    weight = layer.spatial_gate.conv.weight
    torch.testing.assert_close(
        layer(x), u * torch.conv2d(d, weight, padding=3).sigmoid())


def test_one_value_is_too_few_to_train_a_norm():
    layer = CBAM(16)
    with pytest.raises(ValueError, match='SpatialGate: one image and a 1x1'):
        layer(torch.randn(1, 16, 1, 1))
    layer(torch.randn(1, 16, 1, 2))
    layer.eval()(torch.randn(1, 16, 1, 1))


# MS-CAM


@pytest.mark.parametrize('training', [True, False])
def test_mscam_is_its_formula(training):
    layer = build('MSCAM').train(training)
    x = random_map(3, CHANNELS, 7, 5)

    def norm(layer, y):
        dims = (0, 2, 3)
        mean, var = layer.running_mean, layer.running_var
        if training:
            mean, var = y.mean(dims), y.var(dims, unbiased=False)
        y = (y - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return y * layer.weight[:, None, None] + layer.bias[:, None, None]

    def branch(layers, y):
        y = torch.conv2d(y, layers[0].weight, layers[0].bias)
        y = norm(layers[1], y).relu()
        y = torch.conv2d(y, layers[3].weight, layers[3].bias)
        return norm(layers[4], y)

    local = branch(layer.local_branch, x)
    whole = branch(layer.global_branch, x.mean((2, 3), keepdim=True))
    expected = x * (local + whole).sigmoid()
    torch.testing.assert_close(layer(x), expected)


def test_mscam_needs_two_images_to_train():
    layer = build('MSCAM')
    x = random_map(1, CHANNELS, 7, 5)
    with pytest.raises(ValueError, match='MSCAM: one image.*norm_eval=True'):
        layer(x)
    layer.eval()(x)


# Coordinate attention


@pytest.mark.parametrize('training', [True, False])
def test_coordinate_attention_of_a_transposed_map(training):
    layer = build('CoordAttention').train(training)
    swapped = deepcopy(layer)
    swapped.fc_h, swapped.fc_w = swapped.fc_w, swapped.fc_h
    x = random_map(2, CHANNELS, 7, 5)
    torch.testing.assert_close(
        swapped(x.transpose(2, 3)),
        layer(x).transpose(2, 3),
        rtol=1e-12,
        atol=1e-12)


def test_coordinate_attention_by_hand():
    layer = CoordAttention(1, ratio=1, min_channels=1).eval()
    plain_norm(layer.norm)
    set_weights(
        layer,
        fc1_weight=1.,
        fc1_bias=0.,
        fc_h_weight=1.,
        fc_h_bias=-4.,
        fc_w_weight=1.,
        fc_w_bias=-5.)
    # h-swish leaves everything from 3 on as it is.
    x = torch.tensor([[[[3., 4., 5.], [6., 6., 9.]]]])
    rows = torch.tensor([4., 7.]).sub(4).sigmoid()[:, None]
    columns = torch.tensor([4.5, 5., 7.]).sub(5).sigmoid()
    torch.testing.assert_close(layer(x), x * rows * columns)


def test_coordinate_attention_hidden_width():
    assert CoordAttention(64).fc1.out_channels == 8
    assert CoordAttention(640).fc1.out_channels == 20
    assert CoordAttention(64, min_channels=1).fc1.out_channels == 2


# What is refused


@pytest.mark.parametrize('cls', [SE, GC, CBAM, MSCAM])
def test_a_ratio_must_leave_a_hidden_channel(cls):
    with pytest.raises(ValueError, match='ratio=17.*in_channels=16'):
        cls(16, ratio=17)
    for ratio in (0, -4, 2.5, '4'):
        with pytest.raises(ValueError, match='positive integer'):
            cls(16, ratio=ratio)


@pytest.mark.parametrize('cls', [ECA, CBAM])
@pytest.mark.parametrize('kernel_size', [0, 4, -3, 2.5])
def test_a_kernel_size_must_be_odd(cls, kernel_size):
    with pytest.raises(ValueError, match='kernel_size must be .* odd'):
        cls(64, kernel_size=kernel_size)


@pytest.mark.parametrize(
    'options', [dict(ratio=0), dict(min_channels=0), dict(ratio=2.5)])
def test_coordinate_attention_refuses(options):
    with pytest.raises(ValueError, match='must be a positive integer'):
        CoordAttention(64, **options)


@pytest.mark.parametrize('name', ['SE', 'CBAM', 'GC', 'CoordAttention', 'ECA'])
def test_options_are_keywords(name):
    with pytest.raises(TypeError, match='positional'):
        MODELS.get(name)(64, 16)


def test_an_attention_without_phases_says_so():
    layer = Attention()
    with pytest.raises((AttributeError, NotImplementedError)):
        layer(torch.randn(1, 2, 3, 5))


# In the stock ResNet


def tiny_stock_resnet(**options):
    backbones = pytest.importorskip('mmdet.models.backbones.resnet')

    class TinyResNet(backbones.ResNet):
        arch_settings = {50: (backbones.Bottleneck, (1, 1, 1, 1))}

    return TinyResNet(50, base_channels=8, norm_eval=False, **options)


def plugin(name, **options):
    return [
        dict(
            cfg=dict(type=f'mmattn.{name}', **options),
            position='after_conv3')
    ]


@every_attention
def test_works_as_plugin_of_the_stock_resnet(name):
    net = tiny_stock_resnet(plugins=plugin(name))  # born in training mode
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    added = [
        p for m in net.modules() if isinstance(m, MODELS.get(name))
        for p in m.parameters()
    ]
    assert sum(isinstance(m, MODELS.get(name)) for m in net.modules()) == 4
    before = [p.clone() for p in added]
    x = torch.randn(2, 3, 75, 53)
    sum(y.square().sum() for y in net(x)).backward()
    assert all(p.grad is not None for p in net.parameters())
    optimizer.step()
    assert all(p.isfinite().all() for p in added)
    if added:
        assert any(not torch.equal(*pair) for pair in zip(before, added))


def test_a_plugin_is_our_own_attention_at_the_output():
    theirs = tiny_stock_resnet(plugins=plugin('SE', ratio=8))
    randomise(theirs)
    slot, = theirs.layer1[0].after_conv3_plugin_names
    state = {
        key.replace(f'.{slot}.', '.attention.'): value
        for key, value in theirs.state_dict().items()
    }
    ours = ResNet((1, 1, 1, 1),
                  base_channels=8,
                  attention=dict(type='SE', ratio=8),
                  attention_at='output')
    ours.load_state_dict(state)
    x = torch.randn(2, 3, 75, 53).double()
    for training in (True, False):
        ours.double().train(training)
        theirs.double().train(training)
        for a, b in zip(ours(x), theirs(x)):
            # Ours rounds once where theirs weighs, then adds.
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
