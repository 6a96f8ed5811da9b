"""The comparison networks' attentions, and LIP, against their formulas.

Each is written down a second time here, in plain tensors and as it was
published: tables of every channel, loops over groups, matrices of positions.
What holds for every attention is in test_attentions.py and test_links.py.
"""
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import Sequential
from samples import randomise
from test_published_outputs import image, tensor_for
from torch.utils._python_dispatch import TorchDispatchMode

from mmattn.attentions import A2, BAM, GE, SA, SGE, Fca, GSoP
from mmattn.backbones import ResNet
from mmattn.convs import LIP, LIPTrunk, SimplifiedLIP, lip_pool

OUTPUTS = Path(__file__).parent / 'data' / 'published' / 'outputs'
SIZES = [(7, 5), (6, 9)]

every_size = pytest.mark.parametrize('size', SIZES)
in_both_modes = pytest.mark.parametrize('training', [True, False])


def build(cls, in_channels=32, training=True, **options):
    layer = randomise(cls(in_channels, **options))
    return layer.double().train(training)


def random_map(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def check(layer, x, expected):
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)


def normed(norm, x):
    """Batch norm by its formula, x of ``(B, C, ...)``."""
    shape = (1, -1) + (1, ) * (x.dim() - 2)
    mean, var = norm.running_mean, norm.running_var
    if norm.training:
        dims = [d for d in range(x.dim()) if d != 1]
        mean, var = x.mean(dims), x.var(dims, unbiased=False)
    x = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    return x * norm.weight.view(shape) + norm.bias.view(shape)


def conv(layer, x):
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding,
                    layer.dilation, layer.groups)


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that is made; views make none."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not func.is_view:
            self.numel = max(self.numel, out.numel())
        return out


def largest(call, *args):
    with torch.no_grad(), Largest() as mode:
        call(*args)
    return mode.numel


def agrees(layer, name, keys):
    """The published layer's output, on weights made from its keys."""
    path = OUTPUTS / f'{name}.json'
    if not path.exists():
        pytest.skip(f'tests/data has no {path.name} yet')
    record = json.loads(path.read_text())
    assert sum(p.numel() for p in layer.parameters()) == record['params']
    state = {}
    for key, shape in record['shapes'].items():
        part, _, kind = key.rpartition('.')
        state[f'{keys[part]}.{kind}'] = tensor_for(key, shape)
    layer.load_state_dict(state)
    made = record['input']
    with torch.no_grad():
        y = layer.double().eval()(image(made['seed'], made['shape']))
    expected = torch.from_numpy(np.load(OUTPUTS / f'{name}.npz')['out'])
    error = (y - expected.double()).abs().max() / expected.abs().max()
    assert error < 1e-6


# SGE


@every_size
@pytest.mark.parametrize('groups', [8, 32, 1])
def test_sge_is_its_formula(size, groups):
    layer = build(SGE, groups=groups)
    x = random_map(3, 32, *size)
    expected = []
    for i, u in enumerate(x.chunk(groups, 1)):
        s = (u * u.mean((2, 3), keepdim=True)).sum(1, keepdim=True)
        s = s - s.mean((2, 3), keepdim=True)
        n = size[0] * size[1]
        deviation = (s.square().sum((2, 3), keepdim=True) / (n - 1)).sqrt()
        t = s / (deviation + 1e-5)
        expected.append(
            u * (layer.weight[0, i] * t + layer.bias[0, i]).sigmoid())
    check(layer, x, torch.cat(expected, 1))


@pytest.mark.parametrize('channels,groups', [(256, 64), (2048, 64), (64, 64),
                                             (32, 32), (96, 32), (24, 8)])
def test_sge_groups_that_nobody_chose(channels, groups):
    assert SGE(channels).weight.shape == (1, groups, 1, 1)


def test_sge_starts_as_one_gate():
    layer = SGE(64)
    layer.init_weights()
    x = torch.randn(2, 64, 7, 5)
    torch.testing.assert_close(layer(x), x / (1 + math.exp(-1)))


def test_sge_makes_no_map_of_products():
    x = torch.randn(2, 64, 21, 15)
    assert largest(SGE(64, groups=8).extract, x) <= x.numel() // 8


def test_sge_of_a_map_without_contrast():
    """Nothing to standardise; neither values nor gradients are nan."""
    x = torch.zeros(2, 64, 7, 5, requires_grad=True)
    layer = randomise(SGE(64))
    layer(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_sge_refuses():
    with pytest.raises(ValueError, match='groups=5 must divide .*=64'):
        SGE(64, groups=5)
    with pytest.raises(ValueError, match='positive integer'):
        SGE(64, groups=0)
    for training in (True, False):
        with pytest.raises(ValueError, match='SGE: a 1x1 map'):
            SGE(64).train(training)(torch.randn(2, 64, 1, 1))
    SGE(64)(torch.randn(2, 64, 1, 2))


# SA


@pytest.mark.parametrize('size', SIZES + [(1, 1)])
@pytest.mark.parametrize('channels,groups', [(32, 2), (32, 4), (48, 8)])
def test_sa_is_its_formula(size, channels, groups):
    layer = build(SA, channels, groups=groups)
    x = random_map(3, channels, *size)
    u, v = x.reshape(3 * groups, -1, *size).chunk(2, 1)
    mean = u.mean((2, 3), keepdim=True)
    u = u * (layer.mean_weight * mean + layer.mean_bias).sigmoid()
    centred = v - v.mean((2, 3), keepdim=True)
    norm = centred / (centred.square().mean(
        (2, 3), keepdim=True) + 1e-5).sqrt()
    norm = (norm * layer.norm.weight.view(1, -1, 1, 1)
            + layer.norm.bias.view(1, -1, 1, 1))
    v = v * (layer.map_weight * norm + layer.map_bias).sigmoid()
    y = torch.cat((u, v), 1).reshape(3, 2, channels // 2, *size)
    check(layer, x, y.transpose(1, 2).reshape(x.shape))


def test_sa_starts_as_one_gate_and_a_shuffle():
    layer = SA(32, groups=4)
    layer.init_weights()
    x = torch.randn(2, 32, 7, 5)
    shuffled = F.channel_shuffle(x, 2)
    torch.testing.assert_close(layer(x), shuffled / (1 + math.exp(-1)))


def test_sa_of_one_position_and_one_image():
    layer = randomise(SA(64))
    assert layer(torch.randn(1, 64, 1, 1)).isfinite().all()


@pytest.mark.parametrize('channels,groups', [(256, 64), (2048, 64), (64, 32),
                                             (32, 16), (24, 4)])
def test_sa_groups_that_nobody_chose(channels, groups):
    assert SA(channels).groups == groups


@pytest.mark.parametrize('options,words', [
    (dict(groups=3), 'groups=3 must be even'),
    (dict(groups=64), 'groups=64 must be even, and twice .*=64'),
    (dict(groups=0), 'positive integer'),
])
def test_sa_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        SA(64, **options)


# BAM


@every_size
@in_both_modes
def test_bam_is_its_formula(size, training):
    layer = build(BAM, training=training)
    x = random_map(3, 32, *size)
    first, norm, _, last = layer.channel_branch
    c = F.linear(x.mean((2, 3)), first.weight[..., 0, 0], first.bias)
    c = F.linear(
        normed(norm, c).relu(), last.weight[..., 0, 0], last.bias)
    s, layers = x, list(layer.spatial_branch)
    for i in (0, 3, 6):
        s = normed(layers[i + 1], conv(layers[i], s)).relu()
    s = conv(layers[9], s)
    assert [layers[i].dilation for i in (3, 6)] == [(4, 4)] * 2
    assert s.shape == (3, 1, *size)
    check(layer, x, x * (1 + (c[..., None, None] * s).sigmoid()))


def test_bam_needs_two_images_to_train():
    layer = BAM(32)
    x = torch.randn(1, 32, 7, 5)
    with pytest.raises(ValueError, match='BAM: one image.*norm_eval=True'):
        layer(x)
    layer.eval()(x)
    BAM(32, norm_cfg=dict(type='GN', num_groups=1))(x)


def test_bam_starts_as_published():
    net = ResNet((1, 1), num_stages=2, strides=(1, 2), dilations=(1, 1),
                 out_indices=(1, ), stage_attention=[dict(type='BAM'), None])
    net.init_weights()
    assert net.layer2.stage_attention is None
    bam = net.layer1.stage_attention
    for key, value in bam.named_parameters():
        if key.endswith('bias'):
            assert not value.any(), key
    # Linear layers: PyTorch's, uniform within C^-1/2. Convolutions: Kaiming.
    fc = bam.channel_branch[0].weight
    assert fc.abs().max() <= 256**-0.5
    assert fc.std().item() == pytest.approx((3 * 256)**-0.5, rel=0.1)
    dilated = bam.spatial_branch[3].weight
    assert dilated.std().item() == pytest.approx((2 / (16 * 9))**0.5, rel=0.1)


def test_bam_refuses():
    with pytest.raises(ValueError, match='ratio=17.*in_channels=16'):
        BAM(16, ratio=17)
    with pytest.raises(ValueError, match='dilation must be a positive'):
        BAM(32, dilation=0)


# Fca

ROWS = 0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2
COLUMNS = 0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2


def dct_table(channels, size):
    """One N x N table for each channel, filled number by number."""

    def basis(f, t):
        value = math.cos(math.pi * f * (t + 0.5) / size) / size**0.5
        return value * (2**0.5 if f else 1)

    table = torch.empty(channels, size, size, dtype=torch.float64)
    scale = size // 7
    for i, (u, v) in enumerate(zip(ROWS, COLUMNS)):
        plane = [[basis(u * scale, x) * basis(v * scale, y)
                  for y in range(size)] for x in range(size)]
        share = channels // 16
        table[i * share:(i + 1) * share] = table.new_tensor(plane)
    return table


@pytest.mark.parametrize('dct_size,size', [
    (None, (7, 7)), (None, (14, 14)), (7, (7, 7)), (14, (14, 14)),
    (7, (23, 9)), (14, (31, 18)), (14, (5, 8)), (28, (14, 28)), (7, (1, 1)),
    (7, (7, 12)),
])
def test_fca_is_its_formula(dct_size, size):
    layer = build(Fca, 48, ratio=8, dct_size=dct_size)
    x = random_map(2, 48, *size)
    side = dct_size or size[0]
    pooled = F.adaptive_avg_pool2d(x, side)
    d = (pooled * dct_table(48, side)).sum((2, 3))
    g = F.linear(d, layer.fc1.weight[..., 0, 0]).relu()
    g = F.linear(g, layer.fc2.weight[..., 0, 0]).sigmoid()
    check(layer, x, x * g[..., None, None])


@pytest.mark.parametrize('size', [1, 2, 5, 7, 25, 32, 56])
def test_fca_has_frequencies_for_every_side(size):
    """Of an orthonormal transform, of which no map lacks one."""
    x = torch.zeros(1, dtype=torch.float64)
    basis = Fca(16)._cosines(size, x, torch.arange(7))
    frequencies = torch.arange(7) * size // 7
    assert frequencies[-1] < size
    same = (frequencies[:, None] == frequencies).double()
    torch.testing.assert_close(basis @ basis.T, same)


def test_fca_keeps_no_tables():
    assert set(Fca(64).state_dict()) == {'fc1.weight', 'fc2.weight'}
    x = torch.randn(2, 64, 56, 42)
    assert largest(Fca(64).extract, x) <= x.numel() // 4
    assert largest(Fca(64, dct_size=7).extract, x) <= x.numel() // 4


def test_fca_takes_more_or_fewer_frequencies():
    pair = build(Fca, 32, num_frequencies=2)
    x = random_map(1, 32, 7, 7)
    d = pair.extract(x).flatten()
    table = dct_table(32, 7)  # two channels for each of 16
    torch.testing.assert_close(d[3], (x[0, 3] * table[0]).sum())
    torch.testing.assert_close(d[20], (x[0, 20] * table[2]).sum())
    assert build(Fca, 32, num_frequencies=32)(x).isfinite().all()


@pytest.mark.parametrize('options,words', [
    (dict(num_frequencies=64), 'num_frequencies=64 must be at most 32'),
    (dict(num_frequencies=5), 'num_frequencies=5 must .*in_channels=64'),
    (dict(dct_size=0), 'dct_size must be a positive'),
    (dict(ratio=65), 'leaves no hidden channel'),
])
def test_fca_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        Fca(64, **options)


# GSoP


@pytest.mark.parametrize('stride', [1, 2])
@in_both_modes
def test_gsop_is_its_formula(stride, training):
    layer = build(GSoP, 16, training, channels=12, stride=stride)
    x = random_map(3, 16, 7, 5)
    t = conv(layer.reduce, x.relu())
    assert t.shape[2:] == ((7, 5) if stride == 1 else (4, 3))
    t = normed(layer.norm, t).relu().flatten(2)
    m = t.shape[2]
    centre = (torch.eye(m).double() - 1 / m) / m
    covariance = (t @ centre @ t.transpose(1, 2))[..., None]
    rows = normed(layer.row_norm, covariance)[..., 0]
    # Row i, by four columns of weights of its own.
    weight = layer.row_conv.weight.view(12, 4, 12)
    z = torch.einsum('bij,ikj->bik', rows, weight).flatten(1)
    z = z + layer.row_conv.bias
    gate = F.linear(z, layer.fc.weight[..., 0, 0], layer.fc.bias).sigmoid()
    check(layer, x, x * gate[..., None, None])


def test_gsop_makes_no_matrix_of_positions():
    layer = GSoP(32, channels=8)
    x = torch.randn(2, 32, 31, 25)
    assert largest(layer, x) <= x.numel()


def test_gsop_of_one_position():
    layer = randomise(GSoP(64))
    with pytest.raises(ValueError, match='GSoP: one image and a 1x1 map'):
        layer(torch.randn(1, 64, 1, 1))
    assert layer(torch.randn(1, 64, 1, 2)).isfinite().all()
    assert layer.eval()(torch.randn(1, 64, 1, 1)).isfinite().all()


def test_gsop_in_half_precision_does_not_overflow():
    x = 30 * torch.randn(1, 16, 128, 128)
    layer = GSoP(16, channels=4).eval()
    d = layer.extract(x)
    try:
        y = layer.half().transform(d.half())
    except RuntimeError as error:
        pytest.skip(f'torch {torch.__version__} on this CPU: {error}')
    torch.testing.assert_close(
        y.float(), layer.float().transform(d), rtol=0.02, atol=0.02)


@pytest.mark.parametrize('options', [dict(channels=0), dict(stride=0)])
def test_gsop_refuses(options):
    with pytest.raises(ValueError, match=f'{next(iter(options))} must be'):
        GSoP(64, **options)


# A2


@every_size
def test_a2_is_its_formula(size):
    layer = build(A2)
    x = random_map(3, 32, *size)
    a, b, v = (conv(part, x).flatten(2)
               for part in (layer.phi, layer.theta, layer.rho))
    assert a.shape[1] == 8
    z = torch.zeros_like(a)
    for vector in range(8):
        looks = b[:, vector].softmax(1)  # where it gathers
        gathered = torch.einsum('bcp,bp->bc', a, looks)
        share = v.softmax(1)[:, vector]  # how much of it each position takes
        z += gathered[..., None] * share[:, None]
    check(layer, x, x + conv(layer.out, z.view(3, 8, *size)))


def test_a2_projects_its_vectors_not_its_positions():
    x = torch.randn(2, 32, 31, 25)
    # Three maps of C / 4, and no map of C before the last.
    assert largest(A2(32).extract, x) <= x.numel() // 4


def test_a2_refuses():
    with pytest.raises(ValueError, match='ratio=65.*in_channels=64'):
        A2(64, ratio=65)


# GE, theta and theta-plus


@in_both_modes
@pytest.mark.parametrize('ratio', [None, 4])
def test_ge_is_its_formula(training, ratio):
    layer = build(GE, 16, training, size=(7, 5), ratio=ratio)
    x = random_map(3, 16, 7, 5)
    d = (x * layer.gather.weight[:, 0]).sum((2, 3), keepdim=True)
    d = normed(layer.norm, d)
    if ratio:
        _, down, _, up = layer.excite
        d = conv(up, conv(down, d.relu()).relu())
    check(layer, x, x * d.sigmoid())


def test_ge_learns():
    layer = build(GE, 16, size=(7, 5), ratio=4)
    x = random_map(3, 16, 7, 5).requires_grad_()
    layer(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    for key, p in layer.named_parameters():
        assert p.grad.abs().max() > 1e-9, key


def test_ge_takes_the_side_of_a_square():
    assert GE(16, size=7).gather.weight.shape == (16, 1, 7, 7)
    assert GE(16, size=[7, 5]).gather.weight.shape == (16, 1, 7, 5)


def test_ge_starts_near_half():
    layer = GE(64, size=28, ratio=16)
    layer.init_weights()
    for conv in layer.excite[1::2]:
        assert not conv.bias.any()
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert layer.gather.weight.std().item() == pytest.approx(
        (2 / 28**2)**0.5, rel=0.1)


# Source: the prototxt of RN50-GEPP (hujie-frank/GENet).
def test_ge_agrees_with_its_record():
    keys = {'gather.0': 'gather', 'gather.1': 'norm',
            'excite.0': 'excite.1', 'excite.2': 'excite.3'}
    layer = GE(64, size=(12, 10), ratio=16)
    agrees(layer, 'ge__theta_plus_global_c64_12x10', keys)


@pytest.mark.parametrize('options,words', [
    (dict(ratio=16), 'ratio=16 is theta-plus, which needs the size'),
    (dict(size=0), 'size must be a positive integer or two'),
    (dict(size=(7, 2.5)), r'size must be .*got \(7, 2.5\)'),
    (dict(size=(7, 5, 3)), 'size must be .* two of'),
    (dict(size=7, ratio=65), 'ratio=65.*in_channels=64'),
])
def test_ge_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        GE(64, **options)


def test_ge_with_a_kernel_takes_one_size():
    layer = GE(16, size=(7, 5))
    for size in ((5, 7), (8, 5), (6, 5)):
        with pytest.raises(ValueError, match=r'size \(7, 5\) cannot weigh'):
            layer(torch.randn(2, 16, *size))
    with pytest.raises(ValueError, match='GE: one image and a 1x1 map'):
        layer(torch.randn(1, 16, 7, 5))
    layer.eval()(torch.randn(1, 16, 7, 5))


# LIP, a pooling


@pytest.mark.parametrize('size,pooled', [((7, 5), (4, 3)), ((6, 9), (3, 5)),
                                         ((1, 2), (1, 1))])
def test_lip_pool_is_its_formula(size, pooled):
    x, logits = random_map(2, 3, 4, *size)
    y = torch.empty(3, 4, *pooled, dtype=torch.float64)
    for i in range(pooled[0]):
        for j in range(pooled[1]):
            # Rows 2 i - 1 to 2 i + 1, as far as they exist.
            window = (..., slice(max(2 * i - 1, 0), 2 * i + 2),
                      slice(max(2 * j - 1, 0), 2 * j + 2))
            share = logits[window].flatten(2).softmax(2)
            y[..., i, j] = (share * x[window].flatten(2)).sum(2)
    torch.testing.assert_close(lip_pool(x, logits), y)


@pytest.mark.parametrize('constant', [0., 6.])
def test_lip_is_its_formula(constant):
    trunk, lip = build(LIPTrunk), randomise(LIP(24)).double()
    x, z = random_map(3, 24, 7, 5), random_map(3, 32, 7, 5)

    def instance_normed(norm, z):
        z = z - z.mean((2, 3), keepdim=True)
        z = z / (z.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        return z * norm.weight[:, None, None] + norm.bias[:, None, None]

    t = z
    for i in (0, 3):
        t = instance_normed(trunk[i + 1], conv(trunk[i], t)).relu()
    t = instance_normed(lip.gate.norm, conv(lip.gate.conv, t))
    expected = lip_pool(x, 12 * t.sigmoid() - constant)
    torch.testing.assert_close(lip(x, trunk(z)), expected)


def test_lip_parameters():
    def count(layer):
        return sum(p.numel() for p in layer.parameters())

    assert count(SimplifiedLIP(64)) == 36_992
    assert count(LIPTrunk(256)) == 128 * 256 + 147_968
    assert count(LIP(256)) == 130 * 256


def test_lip_learns():
    layers = torch.nn.ModuleList([SimplifiedLIP(8), LIPTrunk(8, 6), LIP(8, 6)])
    randomise(layers).double()
    x = random_map(3, 8, 13, 9).requires_grad_()
    y = layers[0](x)
    layers[2](y, layers[1](y)).square().sum().backward()
    assert x.grad.abs().sum() > 0
    for key, p in layers.named_parameters():
        assert p.grad.abs().max() > 1e-9, key


@pytest.mark.parametrize('make', [SimplifiedLIP, LIP])
def test_lip_starts_as_average_pooling(make):
    net = Sequential(
        make(8), init_cfg=dict(type='Kaiming', layer='Conv2d'))
    net.init_weights()
    x, t = torch.randn(2, 8, 7, 5), torch.randn(2, 128, 7, 5)
    y = net[0](x) if make is SimplifiedLIP else net[0](x, t)
    torch.testing.assert_close(
        y, F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_lip_in_half_precision_does_not_overflow(dtype):
    x = (2000 * torch.randn(2, 8, 7, 5)).to(dtype)
    logits = torch.full_like(x, 12)
    y = lip_pool(x, logits)
    assert y.dtype == dtype
    expected = F.avg_pool2d(x.float(), 3, 2, 1, count_include_pad=False)
    torch.testing.assert_close(y.float(), expected, rtol=0.01, atol=4)


def test_lip_refuses():
    x, t = torch.randn(2, 8, 1, 1), torch.randn(2, 128, 1, 1)
    for call in (lambda: SimplifiedLIP(8)(x), lambda: LIPTrunk(8)(x),
                 lambda: LIP(8)(x, t)):
        with pytest.raises(ValueError, match='LIP.*: its instance norm .*1x1'):
            call()
    for options in (dict(kernel_size=0), dict(stride=0)):
        for make in (SimplifiedLIP, LIP):
            with pytest.raises(ValueError, match='must be a positive'):
                make(8, **options)


# Source: sebgao/LIP, imagenet/lip_resnet.py.
def test_simplified_lip_agrees_with_its_record():
    keys = {'logit.conv': 'gate.conv', 'logit.bn': 'gate.norm'}
    layer = SimplifiedLIP(64)
    agrees(layer, 'lip__simplified_lip_c64', keys)


# The published networks

# All parameters less the classifier, 2048 * 1000 + 1000.
CLASSIFIER = 2_049_000


def parameters(**words):
    with torch.device('meta'):
        net = ResNet(50, **words)
    return sum(p.numel() for p in net.parameters()) + CLASSIFIER


def each_stage(name, **lists):
    """A word with options of each stage."""
    return [
        dict(type=name, **dict(zip(lists, values)))
        for values in zip(*lists.values())
    ]


# wofmanaf/SA-Net; implus/PytorchInsight; cfzd/FcaNet.
@pytest.mark.parametrize('name,published', [
    (None, 25_557_032), ('SA', 25_557_740), ('SGE', 25_559_080),
    ('Fca', 28_071_976)
])
def test_parameters_of_networks_with_one_in_each_block(name, published):
    word = name and dict(type=name)
    assert parameters(attention=word) == published


# Jongchan/attention-module
def test_parameters_of_bam_behind_the_stages():
    bam = dict(type='BAM')
    assert parameters(stage_attention=[bam, bam, bam, None]) == 25_915_099


# ZilinGao/Global-Second-order-Pooling-Convolutional-Networks
@pytest.mark.parametrize('stages,published', [((1, 1, 1, 1), 28_285_224),
                                              ((0, 1, 1, 1), 28_054_440)])
def test_parameters_of_gsop_in_the_last_blocks(stages, published):
    words = [[None] * (blocks - 1) +
             [dict(type='GSoP', stride=stride) if there else None]
             for blocks, stride, there in zip((3, 4, 6, 3), (2, 1, 1, 1),
                                              stages)]
    # The stride of the last stage does not count.
    assert parameters(attention=words, strides=(1, 2, 2, 1)) == published


# A reconstruction: the paper prints 33.0M, with running statistics.
def test_parameters_of_double_attention():
    a2 = dict(type='A2', ratio=4)
    assert parameters(attention=[None, a2, a2, None]) == 32_897_064
    two_and_three = [
        None, [None, None] + [a2] * 2, [None] * 3 + [a2] * 3, None
    ]
    assert parameters(attention=two_and_three) == 29_227_048


# hujie-frank/GENet, RN50-GEP and RN50-GEPP
@pytest.mark.parametrize('ratio,published', [(None, 31_106_600),
                                             (16, 33_637_592)])
def test_parameters_of_gather_excite(ratio, published):
    word = each_stage('GE', size=(56, 28, 14, 7), ratio=[ratio] * 4)
    assert parameters(attention=word) == published
