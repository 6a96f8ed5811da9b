"""The networks that SDA-xNet's and AFF's tables compare with.

Behaviour is tested on tiny networks, sizes on the real ones.
"""
import re
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.registry import MODELS as ROOT_MODELS
from samples import in_one_graph, randomise
from test_published_outputs import (OUTPUTS, assert_equal, digest, image,
                                    tensor_for)
from torch import nn

from mmattn.backbones import (BigLittle, BLResNet, Bottleneck, LIPResNet,
                              PyConvResNet, Res2Bottleneck, Res2Net, ResNet,
                              ScaleBottleneck, ScaleResNet)
from mmattn.convs import PSAConv, PyConv
from mmattn.parts import Parts
from mmattn.registry import MODELS

PSA = dict(type='PSAConv')
# Kernels that fit a few channels.
SMALL_PSA = dict(
    type='PSAConv', kernel_sizes=(3, 5), branch_groups=(1, 2), ratio=2)
SMALL_PYRAMIDS = [
    dict(type='PyConv', kernel_sizes=(3, 5, 7), branch_groups=(1, 2, 2),
         shares=(1, 1, 2)),
    dict(type='PyConv', kernel_sizes=(3, 7), branch_groups=(1, 4)), None, None
]
TINY = dict(depth=(2, 1, 2, 1), base_channels=8)
# Tiny networks of each kind.
ROWS = {
    'Res2Net': partial(Res2Net, **TINY, base_width=4),
    'Res2Net v1b': partial(
        Res2Net, **TINY, base_width=6, deep_stem=True, avg_down=True),
    'Res2NeXt': partial(Res2Net, **TINY, base_width=2, groups=2, scales=3),
    'PyConv': partial(PyConvResNet, **TINY, conv2=SMALL_PYRAMIDS),
    'PyConvHG': partial(
        PyConvResNet, **TINY, arch='HG', groups=2, base_width=8),
    'EPSANet': partial(ResNet, **TINY, conv2=SMALL_PSA),
    'BLResNet': partial(BLResNet, (3, 2, 4, 2), base_channels=16, beta=2),
    'ScaleResNet': partial(
        ScaleResNet, **TINY, allocation=[
            [(4, 2, 2, 2, 56), (6, 0, 2, 0, 56)], [(8, 4, 6, 0, 28)],
            [(16, 4, 0, 0, 14), (8, 8, 0, 0, 14)], [(32, 0, 0, 0, 7)]]),
    # More in test_lip.py.
    'LIPResNet': partial(LIPResNet, **TINY),
}
every_row = pytest.mark.parametrize('row', ROWS)
SEL = dict(type='SelectiveFusion', ratio=16, min_channels=8)
# What a config can say at once.
WORDS = dict(
    attention=dict(type='SE', ratio=4),
    link=dict(type='DCA'),
    fusion=dict(type='AFF', ratio=4),
    depth_fusion=[SEL, None, SEL, None],
    stage_attention=dict(type='ECA'))


def words_for(row):
    """All words that it can take."""
    if row != 'BLResNet':
        return WORDS
    link = WORDS['link']
    return dict(WORDS, link=[[None, link]] * 3 + [link],
                depth_fusion=[None, None, SEL, SEL])


# Of an image of (75, 53), where they are not a ResNet's.
SIZES = dict(
    BLResNet=[(10, 7), (5, 4), (5, 4), (3, 2)],
    ScaleResNet=[(19, 14), (9, 7), (4, 3), (2, 1)])
USUAL = [(19, 14), (10, 7), (5, 4), (3, 2)]


def random_image(*size, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*size, generator=generator).to(dtype)


def count(net):
    return sum(p.numel() for p in net.parameters())


def blocks_of(net):
    return [block for name in net.stage_names for block in getattr(net, name)]


def sizes(outs):
    return [tuple(y.shape[2:]) for y in outs]


def parts(**made):
    return Parts(
        conv=partial(build_conv_layer, None, bias=False),
        norm=partial(build_norm_layer, dict(type='BN')), **made)


# The real networks


# The authors' released code, less the classifier; depth 86 is SDA-xNet's.
@pytest.mark.parametrize('build, parameters', [
    (partial(Res2Net, 50), 25_699_120),
    (partial(Res2Net, 101), 45_206_688),
    (partial(Res2Net, 50, deep_stem=True, avg_down=True), 25_718_352),
    (partial(Res2Net, 86), 42_470_416),
    (partial(PyConvResNet, 50), 24_847_720),
    (partial(PyConvResNet, 101), 42_307_944),
    (partial(PyConvResNet, 86), 40_547_048),
    (partial(PyConvResNet, 50, arch='HG'), 25_234_728),
    (partial(PyConvResNet, 101, arch='HG'), 44_627_240),
    (partial(ResNet, 50, conv2=PSA), 22_561_715),
    (partial(ResNet, 101, conv2=PSA), 38_900_279),
    (partial(ResNet, 86, conv2=PSA), 36_607_873),
])
def test_parameters(build, parameters):
    with torch.device('meta'):
        net = build()
        outs = net.eval()(torch.empty(1, 3, 75, 53))
    assert count(net) == parameters - 2_049_000
    assert [y.shape[1] for y in outs] == [256, 512, 1024, 2048]
    assert sizes(outs) == [(19, 14), (10, 7), (5, 4), (3, 2)]


# SDA-xNet's tables, less the classifier and the norm before it (4,096).
@pytest.mark.parametrize('build, parameters', [
    (partial(Res2Net, 86), 45_254_544),
    (partial(PyConvResNet, 86), 43_331_176),
    (partial(ResNet, 86, conv2=PSA), 39_392_001),
])
def test_parameters_with_depth_fusion(build, parameters):
    with torch.device('meta'):
        net = build(depth_fusion=SEL | dict(min_channels=64))
    assert count(net) == parameters - 2_049_000 - 4_096


# What the authors' code gave, and how its names come from ours.
RECORDS = {
    'peers__res2net50_26w_4s': (partial(Res2Net, 50), ()),
    'peers__epsanet50': (partial(ResNet, 50, conv2=PSA), (
        (r'conv2\.convs\.(\d)', lambda m: f'conv2.conv_{int(m[1]) + 1}'),
        (r'conv2\.psa\.se', 'conv2.se'),
    )),
}


def published_name(key, names):
    for ours, theirs in names:
        key = re.sub(ours, theirs, key)
    return key


@pytest.mark.config
@pytest.mark.parametrize('name', RECORDS)
def test_published_outputs(name):
    build, names = RECORDS[name]
    net = build().double().eval()
    net.load_state_dict({
        key: tensor_for(published_name(key, names), value.shape)
        for key, value in net.state_dict().items()
    })
    record = np.load(OUTPUTS / f'{name}.npz')
    with torch.no_grad():
        maps = net(image(0, (1, 3, 224, 224)))
        logits = F.linear(
            maps[-1].mean((2, 3)),
            tensor_for('fc.weight', (1000, 2048)).double(),
            tensor_for('fc.bias', (1000, )).double())
    for i, y in enumerate(maps, 1):
        assert_equal(digest(y), record[f'layer{i}'], f'layer{i}')
    assert_equal(logits, record['logits'], 'logits')


# Every row


def test_what_a_config_builds():
    for name in ('Res2Net', 'PyConvResNet', 'BLResNet'):
        net = ROOT_MODELS.build(
            dict(
                type=f'mmattn.{name}',
                depth=(2, 2),
                num_stages=2,
                strides=(1, 2),
                dilations=(1, 1),
                out_indices=(0, 1)))
        assert type(net) is MODELS.get(name)
    for name, conv in (('PyConv', PyConv), ('PSAConv', PSAConv)):
        assert MODELS.get(name) is conv
        net = ResNet((1, ), num_stages=1, strides=(1, ), dilations=(1, ),
                     out_indices=(0, ), conv2=dict(type=f'mmattn.{name}'))
        assert type(net.layer1[0].conv2) is conv


@every_row
@pytest.mark.parametrize('words', [False, True])
@pytest.mark.parametrize('training', [True, False])
def test_every_parameter_has_a_gradient(row, words, training):
    net = randomise(ROWS[row](**words_for(row) if words else {})).double()
    x = random_image(3, 3, 75, 53, dtype=torch.float64)
    if not training:  # the statistics of x, so that no gate is saturated
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.
        net(x)
    outs = net.train(training)(x)
    assert sizes(outs) == SIZES.get(row, USUAL)
    sum(y.square().sum() for y in outs).backward()
    assert all(p.grad is not None for p in net.parameters())
    most = max(p.grad.abs().max() for p in net.parameters())
    zero = {
        key for key, p in net.named_parameters()
        if p.grad.abs().max() < 1e-13 * most
    }
    # By algebra: a norm follows (see test_links.py and test_fusions.py).
    biases = r'mix\.bias|_branch\.[03]\.bias' if training else r'mix\.bias'
    assert zero == {
        key for key, _ in net.named_parameters() if re.search(biases, key)
    }


@every_row
def test_an_attention_inside_the_blocks(row):
    net = ROWS[row](**words_for(row), attention_at='hidden')
    attended = [module for module in net.modules()
                if isinstance(module, Bottleneck)]
    assert len(attended) >= len(net.stage_names)
    for block in attended:
        assert block.attention.fc1.in_channels == block.conv3.in_channels
    outs = net(random_image(2, 3, 75, 53))
    assert sizes(outs) == SIZES.get(row, USUAL)


@pytest.mark.config
@every_row
def test_can_be_traced(row):
    net = randomise(ROWS[row](**words_for(row))).double().eval()
    example = torch.randn(1, 3, 53, 75, dtype=torch.float64)
    traced = torch.jit.trace(net, example, check_trace=False)
    # Another size and batch.
    x = torch.randn(2, 3, 75, 53, dtype=torch.float64)
    for a, b in zip(traced(x), net(x)):
        torch.testing.assert_close(a, b)


OPTIONS = {
    'dilated': (dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
                (0, 1, 1, 1)),
    'contracted': (dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2),
                        contract_dilation=True), (0, 1, 2, 2)),
    'caffe': (dict(style='caffe'), None),
    'v1d': (dict(avg_down=True, deep_stem=True), None),
    'recomputed': (dict(with_cp=True, drop_path_rate=0.2), None),
    'grouped norms': (dict(norm_cfg=dict(type='GN', num_groups=2)), None),
}
# What a network refuses of them.
REFUSED = [('BLResNet', 'v1d'), ('ScaleResNet', 'v1d'),
           ('ScaleResNet', 'caffe'), ('LIPResNet', 'v1d'),
           ('LIPResNet', 'caffe')]


@pytest.mark.parametrize('row, name', [
    (row, name) for row in ROWS for name in OPTIONS
    if (row, name) not in REFUSED
])
def test_options_of_the_trunk(row, name):
    options, stages = OPTIONS[name]
    net = ROWS[row](**options)
    outs = net(random_image(2, 3, 75, 53))
    expected = SIZES.get(row, USUAL)
    if stages:  # with a ResNet's strides, or fewer of them
        usual = USUAL if row == 'BLResNet' else expected
        expected = [usual[i] for i in stages]
    assert sizes(outs) == expected
    sum(y.square().sum() for y in outs).backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize('row, name', [
    (row, name) for row, name in REFUSED if row in ROWS
])
def test_options_that_a_network_has_not(row, name):
    with pytest.raises(ValueError, match='belong'):
        ROWS[row](**OPTIONS[name][0])


@pytest.mark.parametrize('row', [row for row in ROWS if row != 'LIPResNet'])
def test_strides_and_dilations_leave_the_names_alone(row):
    """Weights of a classifier start a dilated network."""
    dilated = ROWS[row](strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    dilated.load_state_dict(ROWS[row]().state_dict())


# The other rows pass through every test of test_backbones.py.
own_row = pytest.mark.parametrize(
    'row', ['BLResNet', 'ScaleResNet', 'LIPResNet'])


@pytest.mark.config
@own_row
def test_copies_are_equal(row):
    net = randomise(ROWS[row](**words_for(row))).eval()
    other = ROWS[row](**words_for(row)).eval()
    other.load_state_dict(net.state_dict())
    compiled = in_one_graph(net)
    x = torch.randn(2, 3, 75, 53)
    for same in (deepcopy(net), other, compiled):
        assert all(torch.equal(*pair) for pair in zip(same(x), net(x)))


@own_row
@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 4])
def test_freezing(row, frozen_stages):
    net = ROWS[row](frozen_stages=frozen_stages, norm_eval=True,
                    **words_for(row)).train()
    live = {name.split('.')[0] for name, p in net.named_parameters()
            if p.requires_grad}
    every = {name.split('.')[0] for name, _ in net.named_parameters()}
    stages = net.stage_names
    if frozen_stages < 0:
        assert live == every
    else:
        assert live == set(stages[frozen_stages:])
    assert not any(module.training for module in net.modules()
                   if isinstance(module, nn.BatchNorm2d))
    for i, name in enumerate(stages):
        assert getattr(net, name).training == (i >= frozen_stages)
    assert [y.requires_grad for y in net(torch.randn(2, 3, 75, 53))
            ] == [i >= frozen_stages for i in range(4)]


@own_row
@pytest.mark.parametrize('num_stages', [1, 3])
def test_fewer_stages(row, num_stages):
    whole = randomise(ROWS[row]()).eval()
    strides = (2, 2, 1, 2) if row == 'BLResNet' else (1, 2, 2, 2)
    net = ROWS[row](
        num_stages=num_stages,
        strides=strides[:num_stages],
        dilations=(1, ) * num_stages,
        out_indices=tuple(range(num_stages))).eval()
    state = whole.state_dict()
    net.load_state_dict({key: state[key] for key in net.state_dict()})
    x = torch.randn(2, 3, 75, 53)
    outs = net(x)
    assert len(outs) == num_stages
    assert all(torch.equal(*pair) for pair in zip(outs, whole(x)))


@every_row
def test_autocast_keeps_bfloat16(row):
    net = ROWS[row]().eval()
    x = torch.randn(2, 3, 75, 53, dtype=torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = net(x)
    assert {y.dtype for y in outs} == {torch.bfloat16}


@every_row
def test_starts_like_its_trunk(row):
    net = ROWS[row]()
    net.init_weights()
    for block in blocks_of(net):
        assert (block.last_norm.weight == 0).all()
    for block in net.modules():
        if isinstance(block, Bottleneck):
            assert (block.bn3.weight == 0).all()
            assert (block.bn1.weight == 1).all()
    for key, conv in net.layer4.named_modules():
        if '.gate.' in key:  # of LIP
            assert (conv.weight == (0 if key.endswith('conv') else 1)).all()
        elif isinstance(conv, nn.Conv2d) and conv.weight.numel() > 2000:
            fan_out = conv.out_channels * conv.kernel_size[0]**2
            assert conv.weight.std().item() == pytest.approx(
                (2 / fan_out)**0.5, rel=0.15), key


# Res2Net

HOST = dict(base_width=6, base_channels=8, stem_channels=8)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('options', [
    dict(),
    dict(deep_stem=True, avg_down=True),
    dict(scales=3),
    dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    dict(style='caffe'),
    dict(with_cp=True),
])
def test_res2net_is_the_stock_network(options, training):
    theirs = pytest.importorskip('mmpretrain.models').Res2Net
    shape = dict(deep_stem=False, avg_down=False)
    theirs = theirs(depth=50, out_indices=(0, 1, 2, 3),
                    **{**HOST, **shape, **options})
    ours = Res2Net(50, **{**HOST, **options})
    randomise(theirs)
    names = {
        f'stem.{i}.{layer}.': f'stem.{3 * i + j}.'
        for i in range(3) for j, layer in enumerate(('conv', 'bn'))
    }
    state = {}
    for key, value in theirs.state_dict().items():
        for name, our_name in names.items():
            key = key.replace(name, our_name)
        state[key] = value
    ours.load_state_dict(state)
    x = random_image(2, 3, 75, 53)
    theirs.train(training)
    ours.train(training)
    for y, z in zip(theirs(x), ours(x)):
        assert torch.equal(y, z)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('first', [True, False])
def test_formula_of_res2net(stride, first):
    block = randomise(
        Res2Bottleneck(12, 8, stride, 1, parts(), scales=4, first=first,
                       width=0.5)).double().eval()
    if stride == 2 and not first:
        return  # no such block
    x = random_image(2, 16, 7, 5, dtype=torch.float64)
    a, b, c, d = x.split(4, 1)

    def f(i, x):
        y = F.conv2d(x, block.convs[i].weight, stride=stride, padding=1)
        return block.bns[i](y).relu()

    if first:
        ys = f(0, a), f(1, b), f(2, c), F.avg_pool2d(d, 3, stride, 1)
    else:
        y = f(0, a)
        z = f(1, b + y)
        ys = y, z, f(2, c + z), d
    torch.testing.assert_close(block.spatial(x), torch.cat(ys, 1))


def test_widths_of_res2net():
    net = Res2Net((1, 1, 1, 1))
    assert [block.convs[0].in_channels for block in blocks_of(net)
            ] == [26, 52, 104, 208]
    tiny = partial(Res2Net, (1, 1, 1, 1), base_channels=8)
    for name in ('base_width', 'width_per_group'):
        conv = tiny(**{name: 3}, groups=2, scales=3).layer2[0].convs[1]
        assert conv.weight.shape == (12, 6, 3, 3)


def test_every_convolution_of_res2net_is_conv2():
    net = ROWS['Res2Net'](conv2=dict(type='Conv2d', padding_mode='reflect'))
    modes = {conv.padding_mode for block in blocks_of(net)
             for conv in block.convs}
    assert modes == {'reflect'}


def test_res2net_takes_deformable_convolutions():
    pytest.importorskip('mmcv.ops')
    net = ROWS['Res2Net'](
        dcn=dict(type='DCNv2', deform_groups=1),
        stage_with_dcn=(False, False, True, False))
    for name in net.stage_names:
        for block in getattr(net, name):
            for conv in block.convs:
                assert hasattr(conv, 'conv_offset') == (name == 'layer3')
    net.init_weights()
    assert sizes(net(torch.randn(2, 3, 75, 53))) == USUAL


@pytest.mark.parametrize('row', ['Res2Net', 'PyConv', 'EPSANet'])
def test_a_plain_checkpoint_is_refused(row):
    plain = ResNet(**TINY).state_dict()
    with pytest.raises(RuntimeError, match='[Oo]nly some of the trunk'):
        ROWS[row]().load_state_dict(plain, strict=False)


# PyConv and PSA


@pytest.mark.parametrize('stride, dilation, groups', [
    (1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 3, 2)])
@pytest.mark.parametrize('bias', [True, False])
def test_formula_of_pyconv(stride, dilation, groups, bias):
    conv = randomise(
        PyConv(8, 16, 3, stride=stride, padding=dilation, dilation=dilation,
               groups=groups, bias=bias, kernel_sizes=(3, 5, 9),
               branch_groups=(1, 2, 4), shares=(1, 1, 2))).double()
    x = random_image(2, 8, 17, 13, dtype=torch.float64)
    ys = [
        F.conv2d(x, part.weight, part.bias, stride, dilation * (k // 2),
                 dilation, groups * g)
        for part, k, g in zip(conv.convs, (3, 5, 9), (1, 2, 4))
    ]
    assert [y.shape[1] for y in ys] == [4, 4, 8]
    plain = nn.Conv2d(8, 16, 3, stride, dilation, dilation).double()
    assert conv(x).shape == plain(x).shape
    assert torch.equal(conv(x), torch.cat(ys, 1))


def test_pyconv_takes_the_place_of_other_kernels():
    conv = PyConv(4, 8, 5, stride=2, padding=0, kernel_sizes=(5, 7),
                  branch_groups=(1, 1))
    x = torch.randn(2, 4, 13, 11)
    assert conv(x).shape == nn.Conv2d(4, 8, 5, 2)(x).shape


@pytest.mark.parametrize('batch', [1, 3])
def test_formula_of_psa(batch):
    conv = randomise(PSAConv(16, 64, stride=2, ratio=4)).double()
    x = random_image(batch, 16, 17, 13, dtype=torch.float64)
    se = conv.psa.se
    maps, gates = [], []
    for part, k, g in zip(conv.convs, (3, 5, 7, 9), (1, 4, 8, 16)):
        y = F.conv2d(x, part.weight, None, 2, k // 2, 1, g)
        hidden = (y.mean((2, 3)) @ se.fc1.weight[..., 0, 0].T +
                  se.fc1.bias).relu()
        maps.append(y)
        gates.append((hidden @ se.fc2.weight[..., 0, 0].T +
                      se.fc2.bias).sigmoid().exp())
    weighted = [
        y * (gate / sum(gates))[..., None, None]
        for y, gate in zip(maps, gates)
    ]
    torch.testing.assert_close(conv(x), torch.cat(weighted[::-1], 1))


def test_start_of_psa():
    net = ResNet((1, 1, 1, 1), conv2=PSA)
    net.init_weights()
    se = net.layer4[0].conv2.psa.se
    assert se.fc2.weight.std().item() == pytest.approx(
        (2 / 128)**0.5, rel=0.1)
    # PyTorch's own start, not the zero of the backbone's convolutions.
    assert 0 < se.fc1.bias.abs().max() <= 128**-0.5
    assert 0 < se.fc2.bias.abs().max() <= 8**-0.5


def test_kernels_of_pyconv_networks():
    plain, hg = [
        [[(conv.kernel_size[0], conv.groups, conv.out_channels)
          for conv in getattr(block.conv2, 'convs', [block.conv2])]
         for block in blocks_of(PyConvResNet((1, 1, 1, 1), arch=arch))]
        for arch in ('plain', 'HG')
    ]
    assert plain == [
        [(3, 1, 16), (5, 4, 16), (7, 8, 16), (9, 16, 16)],
        [(3, 1, 32), (5, 4, 32), (7, 8, 64)],
        [(3, 1, 128), (5, 4, 128)],
        [(3, 1, 512)],
    ]
    assert hg == [
        [(k, 32, 32) for k in (3, 5, 7, 9)],
        [(3, 32, 64), (5, 64, 64), (7, 64, 128)],
        [(3, 32, 256), (5, 64, 256)],
        [(3, 32, 1024)],
    ]


@pytest.mark.parametrize('avg_down', [False, True])
def test_shortcut_of_pyconv(avg_down):
    net = randomise(ROWS['PyConv'](avg_down=avg_down)).double().eval()
    pool = F.avg_pool2d if avg_down else F.max_pool2d
    options = dict(ceil_mode=True, count_include_pad=False) if avg_down else (
        dict(padding=1))
    x = random_image(2, 8, 15, 10, dtype=torch.float64)
    block = net.layer1[0]
    assert block.conv2.convs[0].stride == (2, 2)
    _, conv, norm = block.downsample
    assert conv.stride == (1, 1)
    pooled = pool(x, 2 if avg_down else 3, 2, **options)
    torch.testing.assert_close(
        block.shortcut(x), norm(F.conv2d(pooled, conv.weight)))
    assert [block.conv2.stride[0] for block in blocks_of(net)[3:]
            ] == [2, 1, 2]


def test_the_stem_of_pyconv_does_not_pool():
    x = torch.randn(2, 3, 75, 53)
    for deep_stem in (False, True):
        net = ROWS['PyConv'](deep_stem=deep_stem)
        assert net.forward_stem(x).shape == (2, 8, 38, 27)


# bL-ResNet


@pytest.mark.parametrize('depth, options, parameters', [
    (50, {}, 26_694_568),
    (50, dict(alpha=4, beta=2), 26_306_856),
    (50, dict(beta=2), 26_974_632),
    (101, {}, 41_851_560),
])
def test_parameters_of_big_little_networks(depth, options, parameters):
    with torch.device('meta'):
        net = BLResNet(depth, **options)
        outs = net.eval()(torch.empty(1, 3, 224, 224))
    assert count(net) == parameters - 2_049_000
    assert [y.shape[1] for y in outs] == [256, 512, 1024, 2048]
    assert tuple(224 // y.shape[2] for y in outs) == net.out_strides
    assert net.out_strides == (8, 16, 16, 32)


def test_out_strides_are_those_of_the_maps():
    build = ROWS['BLResNet']
    assert build(out_indices=[3, 1]).out_strides == (16, 32)
    dilated = build(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    assert dilated.out_strides == (4, 8, 8, 8)
    assert [64 // y.shape[2] for y in dilated(torch.randn(2, 3, 64, 64))
            ] == [4, 8, 8, 8]


def published_big_little(state, x):
    """A bL-ResNet of depth (3, 2, 4, 2) and beta 2, on our names."""

    def conv(x, name, norm, stride=1):
        weight = state[f'{name}.weight']
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2)
        return F.batch_norm(
            x, *(state[f'{norm}.{key}'] for key in
                 ('running_mean', 'running_var', 'weight', 'bias')))

    def bottleneck(x, name, stride=1, act=True):
        y = conv(x, f'{name}.conv1', f'{name}.bn1').relu()
        y = conv(y, f'{name}.conv2', f'{name}.bn2', stride).relu()
        y = conv(y, f'{name}.conv3', f'{name}.bn3')
        if stride == 2:
            x = F.avg_pool2d(x, 3, 2, 1)
        if y.shape[1] != x.shape[1]:
            x = conv(x, f'{name}.downsample.1', f'{name}.downsample.2')
        return (x + y).relu() if act else x + y

    x = conv(x, 'conv1', 'bn1', 2).relu()
    big = conv(x, 'b_conv0', 'bn_b0', 2)
    little = conv(x, 'l_conv0', 'bn_l0').relu()
    little = conv(little, 'l_conv1', 'bn_l1', 2).relu()
    x = (big + conv(little, 'l_conv2', 'bn_l2')).relu()
    x = conv(x, 'bl_init', 'bn_bl_init').relu()
    outs = []
    for stage, num_big, num_little, stride in (
            (1, 2, 1, 2), (2, 1, 1, 2), (3, 3, 1, 1)):
        name = f'layer{stage}'
        big = little = x
        for i in range(num_big):
            big = bottleneck(big, f'{name}.0.big.{i}', 1 if i else 2,
                             act=i < num_big - 1)
        for i in range(num_little):
            little = bottleneck(little, f'{name}.0.little.{i}')
        little = conv(little, f'{name}.0.little_e.0', f'{name}.0.little_e.1')
        rows, columns = (torch.arange(n) * m // n for n, m in
                         zip(x.shape[2:], big.shape[2:]))
        x = (big[:, :, rows][..., columns] + little).relu()
        x = bottleneck(x, f'{name}.1', stride)
        outs.append(x)
    for i in range(2):
        x = bottleneck(x, f'layer4.{i}', 1 if i else 2)
    return [*outs, x]


def test_formula_of_big_little():
    net = randomise(ROWS['BLResNet']()).double().eval()
    x = random_image(2, 3, 75, 53, dtype=torch.float64)
    for y, z in zip(net(x), published_big_little(net.state_dict(), x)):
        torch.testing.assert_close(y, z)


def test_blocks_of_big_little():
    net = BLResNet((3, 8, 4, 3), base_channels=8, alpha=4)
    kinds = [[type(block) is BigLittle for block in getattr(net, name)]
             for name in net.stage_names]
    assert kinds == [[True, False]] * 3 + [[False] * 3]
    rows = [(len(stage[0].big), len(stage[0].little)) for stage in
            (net.layer1, net.layer2, net.layer3)]
    assert rows == [(2, 1), (7, 1), (3, 1)]
    assert net.layer1[0].little[0].conv1.out_channels == 2


def test_a_frozen_stem_of_big_little():
    net = ROWS['BLResNet'](frozen_stages=0)
    assert {name.split('.')[0] for name, p in net.named_parameters()
            if p.requires_grad} == {f'layer{i}' for i in range(1, 5)}


def test_recomputing_big_little_changes_no_number():
    nets = [
        randomise(ROWS['BLResNet'](with_cp=with_cp, **words_for('BLResNet')))
        for with_cp in (False, True)
    ]
    # Once: the blocks inside, and not what holds them.
    assert nets[1].layer1[0].little[0].with_cp
    assert not nets[1].layer1[0].with_cp
    x = random_image(2, 3, 75, 53, dtype=torch.float64)
    for net in nets:
        sum(y.square().sum() for y in net.double()(x)).backward()
    for a, b in zip(*(net.parameters() for net in nets)):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-8)


# ScaleNet


@pytest.mark.parametrize('allocation, parameters', [
    ('plain', 31_483_618), ('light', 23_631_912)])
def test_parameters_of_scale_networks(allocation, parameters):
    with torch.device('meta'):
        net = ScaleResNet(50, allocation=allocation)
        outs = net.eval()(torch.empty(1, 3, 224, 224))
    assert count(net) == parameters - 2_049_000
    assert [y.shape[1:] for y in outs] == [
        (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]


@pytest.mark.parametrize('size', [(28, 56), (28, 17), (29, 17)])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('dilation', [1, 2])
def test_formula_of_a_scale_block(size, stride, dilation):
    block = randomise(
        ScaleBottleneck(12, 8, stride, dilation, parts(),
                        allocation=(4, 3, 2, 1, 7))).double().eval()
    x = random_image(2, 12, *size, dtype=torch.float64)

    def conv(x, name, norm, padding=0, dilation=1):
        y = F.conv2d(x, block.get_submodule(name).weight, None, 1, padding,
                     dilation)
        return block.get_submodule(norm)(y)

    pooled = F.max_pool2d(x, 2) if stride == 2 else x
    h = conv(pooled, 'conv1', 'bn1').relu()
    ys = []
    for i, ratio in enumerate((1, 2, 4, 7)):
        weight = block.conv2[str(i)].weight
        # 1x1 for a map of side 7 in the published size
        kernel = 1 if ratio == 7 else 3
        assert weight.shape == (4 - i, 8, kernel, kernel)
        y = F.conv2d(F.max_pool2d(h, ratio), weight, None, 1,
                     kernel // 2 * dilation, dilation)
        if h.shape[2] % ratio == h.shape[3] % ratio == 0:
            y = y.repeat_interleave(ratio, 2).repeat_interleave(ratio, 3)
        else:
            y = F.interpolate(y, h.shape[2:], mode='bilinear',
                              align_corners=False)
        ys.append(block.bn2[str(i)](y))
    y = conv(torch.cat(ys, 1).relu(), 'conv3', 'bn3')
    z = y + conv(pooled, 'downsample.0', 'downsample.1')
    torch.testing.assert_close(block(x)[0], z)


def test_every_convolution_of_a_scale_block_is_conv2():
    net = ROWS['ScaleResNet'](
        conv2=dict(type='Conv2d', padding_mode='reflect'), base_width=6)
    convs = [conv for block in blocks_of(net)
             for conv in block.conv2.values()]
    assert {conv.padding_mode for conv in convs} == {'reflect'}
    assert convs[0].in_channels == net.layer1[0].conv1.out_channels == 6


def test_a_scale_without_channels_needs_no_room():
    net = ROWS['ScaleResNet']().eval()
    assert net(torch.randn(1, 3, 64, 64))[3].shape == (1, 256, 2, 2)
    with pytest.raises(ValueError, match='of 6x16 by 7'):
        net(torch.randn(1, 3, 24, 64))
    block = ScaleBottleneck(8, 8, 2, 1, parts(), allocation=(8, 0, 0, 0, 7))
    with pytest.raises(ValueError, match='of 1x5 by 2'):
        block(torch.randn(2, 8, 1, 5))


# What is refused


@pytest.mark.parametrize('build, options, words', [
    (Res2Net, dict(depth=18), 'depth 18 is none of .*50, 86, 101, 152'),
    (Res2Net, dict(scales=1), 'scales=1 splits nothing'),
    (Res2Net, dict(scales=0), 'scales must be a positive integer'),
    (Res2Net, dict(branches=[dict(dilation=2)]), 'branches belong to ResNet'),
    (Res2Net, dict(base_width=4, width_per_group=8), 'give one'),
    (Res2Net, dict(base_width=0), 'base_width must be a positive integer'),
    (PyConvResNet, dict(depth=34), 'depth 34 is none of'),
    (PyConvResNet, dict(arch='hg'), "arch must be 'plain' or 'HG', got 'hg'"),
    (PyConvResNet, dict(branches=[dict(dilation=2)]), 'branches and dcn'),
    (PyConvResNet, dict(dcn=dict(type='DCNv2')), 'branches and dcn'),
    (PyConvResNet, dict(conv2=[None]), 'conv2 lists 1 entries for 4 stages'),
    (PyConvResNet, dict(base_channels=8),
     'PyConv: its 5x5 convolution from 8 to 2 channels cannot have 4 groups'),
    (BLResNet, dict(deep_stem=True), 'deep_stem, avg_down and branches'),
    (BLResNet, dict(avg_down=True), 'deep_stem, avg_down and branches'),
    (BLResNet, dict(branches=[{}]), 'deep_stem, avg_down and branches'),
    (BLResNet, dict(depth=86), 'depth 86 is none of .*50, 101, 152'),
    (BLResNet, dict(), 'layer1 of a BLResNet needs 2 blocks or more'),
    (BLResNet, dict(depth=50, alpha=3), 'alpha=3 does not divide the 64'),
    (BLResNet, dict(depth=50, beta=0), 'beta must be a positive integer'),
    (BLResNet, dict(depth=50, attention=dict(type='SE'),
                    link=dict(type='DCA')), 'link=..None, dict'),
    (BLResNet, dict(depth=50, depth_fusion=SEL),
     'layer1 of this BLResNet ends in a block of stride 2; give None'),
    (BLResNet, dict(depth=50, dilations=(1, 1, 2, 1), contract_dilation=True),
     'layer3 of a BLResNet has one dilation'),
    (BLResNet, dict(depth=50, attention=dict(type='SE'), attention_at='big'),
     "no place 'big'"),
    (ScaleResNet, dict(depth=101), r'depth 101 is none of \[50\]'),
    (ScaleResNet, dict(depth=50, groups=2), 'groups, style, .* belong'),
    (ScaleResNet, dict(depth=50, style='caffe'), 'groups, style, .* belong'),
    (ScaleResNet, dict(depth=50, avg_down=True), 'groups, style, .* belong'),
    (ScaleResNet, dict(depth=50, branches=[{}]), 'groups, style, .* belong'),
    (ScaleResNet, dict(depth=50, dcn=dict(type='DCNv2')), 'belong to ResNet'),
    (ScaleResNet, dict(depth=50, allocation='tiny'), "'plain', 'light' or"),
    (ScaleResNet, dict(depth=50, base_width=0),
     'base_width must be a positive integer'),
    (ScaleResNet, dict(), 'allocation has 3 entries for the 1 blocks'),
    (ScaleResNet, dict(allocation=[]), 'allocation has 0 entries for the 1'),
    (ScaleResNet, dict(allocation=[[(1, 2, 3, 4)]] * 4), 'has for each block'),
    (ScaleResNet, dict(allocation=[[()]] * 4), 'has for each block'),
    (ScaleResNet, dict(allocation=[[(0, 0, 0, 0, 7)]] * 4), 'above 0'),
    (ScaleResNet, dict(allocation=[[(1, -1, 0, 0, 7)]] * 4), 'above 0'),
    (ResNet, dict(conv2=PSA, base_channels=8),
     'PSAConv: its 5x5 convolution from 8 to 2 channels cannot have 4'),
    (ResNet, dict(conv2=dict(SMALL_PSA, ratio=8), base_channels=8),
     'ratio=8 leaves no hidden channel for in_channels=4'),
    (ResNet, dict(conv2=dict(PSA, shares=(1, 1, 1, 1))),
     'has no option shares|unexpected keyword'),
    (ResNet, dict(conv2=PSA, depth=18), 'a BasicBlock .* has none'),
    (ResNet, dict(fusion=dict(type='PSA')), "fusion has no type 'PSA'"),
])
def test_refused(build, options, words):
    with pytest.raises(ValueError, match=f'(?s){words}'):
        build(**{'depth': (1, 1, 1, 1), **options})


@pytest.mark.parametrize('cls', [Res2Net, PyConvResNet, BLResNet,
                                 ScaleResNet, LIPResNet])
def test_unknown_words_list_the_known(cls):
    with pytest.raises(TypeError, match=f"{cls.__name__} has no option 'a'.*"
                       'attention.*depth_fusion.*groups'):
        cls(50, a=1)


@pytest.mark.parametrize('options, words', [
    (dict(kernel_sizes=(3, )), 'at least two convolutions'),
    (dict(kernel_sizes=(3, 5, 7)), 'one kernel size, group count and share'),
    (dict(shares=(1, 2)), 'one kernel size, group count and share'),
    (dict(kernel_sizes=(3, 5, 7, 8)), 'kernel_sizes must be a positive odd'),
    (dict(kernel_size=4), 'kernel_size must be a positive odd'),
    (dict(branch_groups=(1, 4, 8, 0)), 'branch_groups must be a positive'),
    (dict(shares=(1, 1, 1, -1)), 'shares must be a positive'),
    (dict(shares=(1, 1, 1, 4)), 'cannot share out_channels=64'),
    (dict(groups=3), 'cannot have 3 groups'),
])
def test_pyconv_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        PyConv(64, 64, **options)


def test_configs_are_left_alone():
    before = deepcopy(PyConvResNet.archs)
    PyConvResNet((1, 1, 1, 1))
    assert PyConvResNet.archs == before
