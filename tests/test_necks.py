"""The FPN whose joins are fusions: the stock one without, AFF by hand."""
import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from samples import SIZE, randomise
from torch import nn

from mmattn.fusions import AFF, Add, Fusion
from mmattn.necks import FPN

CHANNELS = [6, 8, 10, 12]
SIZES = [(25, 19), (13, 10), (7, 5), (4, 3)]
EVEN = [(24, 40), (12, 20), (6, 10), (3, 5)]
BN = dict(type='BN', requires_grad=True)
GN = dict(type='GN', num_groups=2)
SELECT = dict(type='SelectiveFusion', min_channels=4)
BILINEAR = dict(mode='bilinear', align_corners=False)


def pyramid(channels=CHANNELS, sizes=SIZES, batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, c, *size, generator=generator, dtype=dtype)
        for c, size in zip(channels, sizes)
    ]


def build(fusion=None, seed=0, **options):
    torch.manual_seed(seed)
    options = {**dict(in_channels=CHANNELS, out_channels=8, num_outs=4),
               **options}
    return FPN(fusion=fusion, **options)


# -- without fusion: the stock one -----------------------------------------

CASES = {
    'plain': dict(num_outs=4),
    'pooled': dict(num_outs=6),
    'true': dict(num_outs=5, start_level=1, add_extra_convs=True),
    'on_input': dict(num_outs=6, add_extra_convs='on_input'),
    'on_lateral': dict(num_outs=6, add_extra_convs='on_lateral'),
    'on_output': dict(num_outs=5, start_level=1, add_extra_convs='on_output'),
    'on_input_relu': dict(
        num_outs=7, add_extra_convs='on_input', relu_before_extra_convs=True),
    'on_lateral_relu': dict(
        num_outs=6, add_extra_convs='on_lateral',
        relu_before_extra_convs=True),
    'on_output_relu': dict(
        num_outs=6, add_extra_convs='on_output',
        relu_before_extra_convs=True),
    'idle_extra': dict(num_outs=4, add_extra_convs='on_input'),  # QueryInst
    'one_level': dict(num_outs=2, start_level=3),
    'end_level': dict(num_outs=2, start_level=1, end_level=2),
    'one_of_them': dict(num_outs=1, start_level=1, end_level=1),
    'last_end_level': dict(num_outs=5, end_level=3),
    'norm': dict(num_outs=5, norm_cfg=BN, act_cfg=dict(type='ReLU')),
    'no_norm_on_lateral': dict(
        num_outs=5,
        norm_cfg=BN,
        no_norm_on_lateral=True,
        add_extra_convs=True),
    'gn_ws': dict(num_outs=4, norm_cfg=GN, conv_cfg=dict(type='ConvWS')),
    'bilinear': dict(num_outs=4, upsample_cfg=BILINEAR),
    'scale_factor': dict(
        num_outs=5, upsample_cfg=dict(scale_factor=2, mode='nearest')),
    'own_start': dict(
        num_outs=4,
        norm_cfg=BN,
        init_cfg=[
            dict(type='Normal', layer='Conv2d', std=0.1),
            dict(type='Constant', layer='BatchNorm2d', val=0.3)
        ]),
}
every_case = pytest.mark.parametrize(
    'options', CASES.values(), ids=CASES.keys())
every_host = pytest.mark.parametrize('host', ['mmdet', 'mmseg'])


def stock(host, options):
    necks = pytest.importorskip(f'{host}.models.necks')
    options = dict(options)
    if host == 'mmseg':  # which says two things in other words
        if options.get('add_extra_convs') is True:
            options['add_extra_convs'] = 'on_input'
        if options.get('end_level', -1) == 3:
            options['end_level'] = -1
        elif 'end_level' in options:
            options['end_level'] += 1
    torch.manual_seed(0)
    return necks.FPN(in_channels=CHANNELS, out_channels=8, **options)


@every_host
@every_case
def test_same_names_and_same_start(host, options):
    theirs, ours = stock(host, options), build(**options)
    for initialise in (False, True):
        if initialise:
            for net in (theirs, ours):
                torch.manual_seed(3)
                net.init_weights()
        expected, got = theirs.state_dict(), ours.state_dict()
        assert list(got) == list(expected)
        assert not [k for k in got if not torch.equal(got[k], expected[k])]


@every_host
@every_case
@pytest.mark.parametrize('training', [True, False])
def test_same_outputs_and_gradients(host, options, training):
    theirs = randomise(stock(host, options)).train(training)
    ours = build(seed=1, **options).train(training)
    ours.load_state_dict(theirs.state_dict())
    sizes = EVEN if 'scale_factor' in str(options) else SIZES
    results = []
    for net in (theirs, ours):
        inputs = [x.requires_grad_() for x in pyramid(sizes=sizes)]
        outs = net(tuple(inputs))
        assert isinstance(outs, tuple)
        sum(out.square().sum() for out in outs).backward()
        results.append([
            *outs, *(x.grad for x in inputs),
            *(p.grad for p in net.parameters()), *net.buffers()
        ])
    expected, got = results
    assert len(got) == len(expected)
    for a, b in zip(expected, got):
        assert a is b is None or torch.equal(a, b)


def test_input_lists_are_left_alone():
    upsample_cfg, inputs = dict(mode='nearest'), pyramid()
    copies = [x.clone() for x in inputs]
    net = build(in_channels=tuple(CHANNELS), upsample_cfg=upsample_cfg)
    net(inputs)
    assert upsample_cfg == dict(mode='nearest')
    assert all(map(torch.equal, inputs, copies))


# -- AFF by hand -----------------------------------------------------------


def norm(x, p, name, training):
    mean, var = p[f'{name}.running_mean'], p[f'{name}.running_var']
    if training:
        mean = x.mean((0, 2, 3))
        var = x.var((0, 2, 3), unbiased=False)
    mean, var, weight, bias = (
        v[:, None, None]
        for v in (mean, var, p[f'{name}.weight'], p[f'{name}.bias']))
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def gate(x, p, name, training):
    """sigmoid(L(x) + g(x)), both conv, norm, ReLU, conv, norm."""

    def conv(y, name):
        y = torch.einsum('oi,bihw->bohw', p[f'{name}.weight'][..., 0, 0], y)
        return y + p[f'{name}.bias'][:, None, None]

    branches = []
    for branch, y in (('local', x), ('global', x.mean((2, 3), True))):
        at = f'{name}.{branch}_branch'
        y = norm(conv(y, f'{at}.0'), p, f'{at}.1', training).clamp(min=0)
        branches.append(norm(conv(y, f'{at}.3'), p, f'{at}.4', training))
    return torch.sigmoid(branches[0] + branches[1])


def aff(x, y, p, training):
    w = gate(x + y, p, 'fusions.0.gate', training)
    return 2 * (w * x + (1 - w) * y)


def iaff(x, y, p, training):
    v = gate(x + y, p, 'fusions.0.first_gate', training)
    w = gate(v * x + (1 - v) * y, p, 'fusions.0.gate', training)
    return w * x + (1 - w) * y


@pytest.mark.parametrize('name, formula', [('AFF', aff), ('IAFF', iaff)])
@pytest.mark.parametrize('upsample_cfg', [dict(mode='nearest'), BILINEAR],
                         ids=['nearest', 'bilinear'])
@pytest.mark.parametrize('training', [True, False])
def test_long_skip_by_hand(name, formula, upsample_cfg, training):
    """The map from above has the weight w, the lateral one 1 - w."""
    net = build(
        dict(type=name, ratio=2),
        in_channels=[6, 8],
        num_outs=2,
        upsample_cfg=upsample_cfg)
    net = randomise(net).double().train(training)
    p = dict(net.named_parameters())
    p.update((k, v.clone()) for k, v in net.named_buffers())
    mine = pyramid(CHANNELS[:2], batch=3, dtype=torch.float64)
    theirs = [x.clone() for x in mine]
    for x in mine + theirs:
        x.requires_grad_()

    def conv(x, name):
        weight = p[f'{name}.conv.weight']
        return F.conv2d(x, weight, p[f'{name}.conv.bias'],
                        padding=weight.shape[-1] // 2)

    low, high = (conv(x, f'lateral_convs.{i}') for i, x in enumerate(theirs))
    up = F.interpolate(high, size=(25, 19), **upsample_cfg)
    expected = (conv(formula(up, low, p, training), 'fpn_convs.0'),
                conv(high, 'fpn_convs.1'))
    got = net(mine)
    for outs in (got, expected):
        sum(out.square().sum() for out in outs).backward(retain_graph=True)
    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
    for a, b in zip(got, expected):
        close(a, b)
    for a, b in zip(mine, theirs):
        assert a.grad.abs().max() > 1e-3
        close(a.grad, b.grad)


# -- joins -----------------------------------------------------------------


class First(Fusion):
    """The first map alone."""

    def forward(self, xs):
        return xs[0]


def test_the_map_from_above_comes_first():
    net = randomise(build(dict(type=First))).eval()
    inputs = pyramid()
    x = net.lateral_convs[3](inputs[3])
    for i, out in reversed(list(enumerate(net(inputs)))):
        x = x if i == 3 else F.interpolate(x, size=SIZES[i])
        assert torch.equal(out, net.fpn_convs[i](x))


def test_one_entry_for_each_join_the_finest_first():
    plain = randomise(build())
    mixed = build([SELECT, None, dict(type='Add')])
    names = {
        k.split('.')[1]
        for k in mixed.state_dict() if k.startswith('fusions.')
    }
    assert names == {'0'}
    mixed.load_state_dict(plain.state_dict(), strict=False)
    inputs = pyramid()
    same = [torch.equal(*outs) for outs in zip(plain(inputs), mixed(inputs))]
    assert same == [False, True, True, True]


def test_without_fusion_nothing_is_stored_for_the_joins():
    for fusion in (None, dict(type='Add'), dict(type=Add), [None] * 3):
        net = build(fusion)
        assert [type(join) for join in net.fusions] == [Add] * 3
        assert {k.split('.')[0] for k in net.state_dict()} == {
            'lateral_convs', 'fpn_convs'
        }


@pytest.mark.parametrize('fusion', [
    SELECT, dict(type='AFF'), dict(type='IAFF', ratio=2), dict(type=AFF)
], ids=['SelectiveFusion', 'AFF', 'IAFF', 'class'])
def test_every_parameter_gets_a_gradient(fusion):
    net = randomise(build(fusion, num_outs=6, add_extra_convs=True)).double()
    for training in (True, False):
        net.zero_grad()
        outs = net.train(training)(pyramid(dtype=torch.float64))
        sum(out.square().sum() for out in outs).backward()
        dead = [
            name for name, p in net.named_parameters()
            if p.grad is None or p.grad.abs().max() < 1e-9
        ]
        # In training a norm takes away what the convolution before it adds.
        assert all(training and name.endswith(('_branch.0.bias',
                                               '_branch.3.bias'))
                   for name in dead), dead


def test_norm_of_the_fusions():
    aff_cfg = dict(type='AFF', ratio=2)
    own = {**aff_cfg, 'norm_cfg': dict(type='IN', affine=True)}
    for norm_cfg, fusion, kind in [(None, aff_cfg, nn.BatchNorm2d),
                                   (GN, aff_cfg, nn.GroupNorm),
                                   (GN, own, nn.InstanceNorm2d),
                                   (None, own, nn.InstanceNorm2d)]:
        net = build(fusion, norm_cfg=norm_cfg)
        for join in net.fusions:
            assert type(join.gate.local_branch[1]) is kind
        assert net.fpn_convs[0].with_norm is (norm_cfg is not None)


def test_mixed_precision():
    net = build(dict(type='AFF'), num_outs=5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = net(pyramid())
    assert {out.dtype for out in outs} == {torch.bfloat16}
    sum(out.float().square().sum() for out in outs).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


# -- how it starts ---------------------------------------------------------


def started(fusion):
    net = build(fusion, num_outs=5)
    torch.manual_seed(2)
    net.init_weights()
    return net


@pytest.mark.parametrize('training', [True, False])
def test_identity_start_is_addition(training):
    plain = started(None).train(training)
    fused = started(dict(type='AFF', gate_init='identity')).train(training)
    random = started(dict(type='AFF')).train(training)
    expected = plain(pyramid())
    for a, b in zip(fused(pyramid()), expected):
        torch.testing.assert_close(a, b)
    assert not torch.allclose(random(pyramid())[0], expected[0], rtol=1e-2)


def test_a_fusion_keeps_its_own_start():
    net = started(dict(SELECT, last_share=0.75))
    for join in net.fusions:
        assert (join.project.weight == 0).all()
        torch.testing.assert_close(
            join.project.bias.exp(), torch.tensor([1.] * 8 + [3.] * 8))
    for conv in (net.lateral_convs[0].conv, started(
            dict(type='AFF')).fusions[0].gate.local_branch[0]):
        out, into = conv.weight.shape[:2]
        bound = (6 / (into + out))**0.5  # Xavier, as the neck says
        assert 0.8 * bound < conv.weight.abs().max() <= bound


# -- what is refused -------------------------------------------------------


@pytest.mark.parametrize('options, words', [
    (dict(in_channels=8), 'in_channels must list .* got 8'),
    (dict(in_channels=[8, 0, 8, 8]), 'in_channels must be a positive .* 0'),
    (dict(out_channels=-1), 'out_channels must be a positive integer'),
    (dict(num_outs=0), 'num_outs must be a positive integer'),
    (dict(num_outs=3), 'num_outs=3 must be 4, .* inputs 0 to 3, or more'),
    (dict(num_outs=3, end_level=1), 'num_outs=3 must be 2, .* 0 to 1$'),
    (dict(num_outs=1, end_level=1), 'num_outs=1 must be 2, .* 0 to 1$'),
    (dict(start_level=4), 'start_level=4 and end_level=-1 .* 0 to 3'),
    (dict(start_level=-1), 'start_level=-1'),
    (dict(end_level=4), 'end_level=4'),
    (dict(end_level=-2), 'end_level=-2'),
    (dict(start_level=2, end_level=1), 'start_level=2 and end_level=1'),
    (dict(in_channels=[]), r'in_channels must list .* got \[\]'),
    (dict(add_extra_convs='on_inputs', num_outs=5),
     "on_input, on_lateral, on_output, got 'on_inputs'"),
    (dict(add_extra_convs=2, num_outs=5), 'add_extra_convs must .* got 2'),
    (dict(relu_before_extra_convs=True), 'needs add_extra_convs'),
    (dict(upsample_cfg='nearest'), "upsample_cfg must .* got 'nearest'"),
    (dict(upsample_cfg=dict(size=(3, 3))), 'the size is that of the finer'),
    (dict(fusion=[SELECT]), 'fusion lists 1 entries for 3 joins'),
    (dict(fusion=SELECT, start_level=3, num_outs=1), 'nothing to join'),
    (dict(fusion=dict(type='SE')), "fusion has no type 'SE'"),
    (dict(fusion=dict(type='AFF', ratios=4)), 'AFF has no option ratios'),
    (dict(fusion=dict(type='AFF', ratio=9)), 'ratio=9 leaves no hidden'),
])
def test_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


@pytest.mark.parametrize('options, words', [
    (dict(fusion='AFF'), "fusion must be None or a dict .* 'AFF'"),
    (dict(extra_convs_on_inputs=True), 'extra_convs_on_inputs'),
])
def test_refuses_by_type(options, words):
    with pytest.raises(TypeError, match=words):
        build(**options)


def test_refuses_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match='built for 4 inputs, got 3'):
        build()(pyramid()[:3])
    net = build(upsample_cfg=dict(scale_factor=2))
    with pytest.raises(ValueError, match=r'\(4, 3\) one of \(8, 6\), but the '
                       r'finer map is \(7, 5\); without scale_factor'):
        net(pyramid())
    one = pyramid(batch=1, sizes=[(8, 8), (4, 4), (2, 2), (1, 1)])
    with pytest.raises(ValueError, match='AFF|MSCAM'):
        build(dict(type='AFF', ratio=2))(one)


# -- one word in a stock config --------------------------------------------


@pytest.mark.parametrize('base', [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mmseg::sem_fpn/fpn_r50_4xb2-80k_cityscapes-512x1024.py',
], ids=['retinanet', 'faster_rcnn', 'sem_fpn'])
@pytest.mark.parametrize('words', [
    {}, dict(fusion=dict(type='AFF', ratio=4, gate_init='identity'))
], ids=['Add', 'AFF'])
def test_swaps_in_a_stock_config(base, words, tmp_path):
    pytest.importorskip(base.partition('::')[0])
    path = tmp_path / 'config.py'
    neck = dict(type='mmattn.FPN', **words)
    path.write_text(f'_base_ = {base!r}\nmodel = dict(neck={neck!r})')
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.update(depth=18, norm_cfg=BN, init_cfg=None)
    cfg.model.pop('pretrained', None)
    cfg.model.neck.update(in_channels=[64, 128, 256, 512])
    stock_neck = copy.deepcopy(cfg.model.neck)
    stock_neck.update(type='FPN')
    stock_neck.pop('fusion', None)
    theirs = MODELS.build(stock_neck)
    theirs.init_weights()
    model = MODELS.build(cfg.model).eval()
    model.neck.init_weights()
    assert type(model.neck) is FPN
    left = model.neck.load_state_dict(theirs.state_dict(), strict=False)
    assert not left.unexpected_keys
    assert all(k.startswith('fusions.') for k in left.missing_keys)
    assert bool(left.missing_keys) is bool(words)
    image = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        expected = theirs(model.backbone(image))
        for a, b in zip(model.extract_feat(image), expected):
            torch.testing.assert_close(a, b)
