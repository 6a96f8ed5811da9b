"""Mobile networks: against the stock ones, against published sizes, by words.

Behaviour that all backbones share is tested on the rows below as on the
ResNets in test_backbones.py.
"""
from copy import deepcopy

import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope
from samples import in_one_graph, randomise
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmattn.attentions import SE
from mmattn.backbones import (InvertedResidual, MNASNet, MobileNetV1,
                              MobileNetV2, MobileNetV3, MobileNeXt, SandGlass,
                              SKInvertedResidual)
from mmattn.registry import MODELS as OURS

SE8, GE = dict(type='SE', ratio=8), dict(type='GE')
CA = dict(type='CoordAttention', min_channels=4)
DCA = dict(type='DCA')
SEL = dict(type='SelectiveFusion', min_channels=8)
SK = dict(
    branches=[dict(dilation=2)],
    attention=dict(
        type='SelectiveFusion', ratio=2, min_channels=4, bias=False))
# Blocks of MobileNeXt that have a first depthwise convolution.
NEXT = [CA, CA, [None, CA, CA], [None, CA, CA], [None] + [CA] * 3,
        [None] + [CA] * 3, [None, CA, CA], CA]
# A narrow network of each kind with all its words: type, words.
ROWS = {
    'MobileNetV1': (MobileNetV1, dict(attention=CA, link=DCA)),
    'MobileNetV2': (MobileNetV2,
                    dict(
                        attention=SE8,
                        attention_at='output',
                        link=DCA,
                        fusion=dict(type='AFF'),
                        depth_fusion=[None, SEL, None, SEL, None, SEL, None],
                        stage_attention=dict(type='ECA'))),
    'SK-MobileNetV2': (MobileNetV2, dict(SK, link=DCA)),
    'MobileNetV3': (MobileNetV3, dict(fusion=dict(type='IAFF'))),
    'MNASNet-A1': (MNASNet, dict(arch='A1', link=DCA)),
    'MNASNet-B1': (MNASNet, dict(attention=GE, link=DCA)),
    'MobileNeXt': (MobileNeXt, dict(attention=NEXT, link=DCA)),
}
every_row = pytest.mark.parametrize('row', ROWS)


def build(row, **options):
    cls, words = ROWS[row]
    return cls(0.5, **{**words, **options})


def image(*size, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*size, generator=generator).to(dtype)


def count(net):
    return sum(p.numel() for p in net.parameters())


def blocks_of(net):
    return [block for name in net.stage_names for block in getattr(net, name)]


# What every backbone does


@every_row
@pytest.mark.parametrize('size', [(97, 65), (1, 1)])
def test_outputs_have_their_strides(row, size):
    every = range(len(build(row).stage_names))
    net = build(row, out_indices=tuple(every)).eval()
    outs = net(torch.randn(2, 3, *size))
    expected, height, width = [], *((n + 1) // 2 for n in size)
    for stage in (row_.stride for row_ in net.table):
        if stage == 2:
            height, width = (height + 1) // 2, (width + 1) // 2
        expected.append((height, width))
    assert [tuple(y.shape[2:]) for y in outs] == expected
    assert [y.shape[1] for y in outs] == [
        getattr(net, name)[-1].out_channels for name in net.stage_names
    ]


@every_row
@pytest.mark.parametrize('training', [True, False])
def test_every_parameter_has_a_gradient(row, training):
    net = randomise(build(row)).double().train(training)
    y, = net(image(4, 3, 97, 65, dtype=torch.float64))
    (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
    missing = [key for key, p in net.named_parameters() if p.grad is None]
    assert not missing


@every_row
@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 3])
@pytest.mark.parametrize('norm_eval', [False, True])
def test_freezing(row, frozen_stages, norm_eval):
    net = build(row, frozen_stages=frozen_stages, norm_eval=norm_eval)
    net.train()
    stages = [getattr(net, name) for name in net.stage_names]
    frozen = {
        id(p) for part in stages[:max(frozen_stages, 0)]
        for p in part.parameters()
    }
    if frozen_stages >= 0:
        frozen |= {id(p) for p in net.conv1.parameters()}
    for p in net.parameters():
        assert p.requires_grad == (id(p) not in frozen)
    still = {
        id(m) for part in stages[:max(frozen_stages, 0)]
        for m in part.modules()
    }
    for module in net.modules():
        assert module.training == (id(module) not in still and not (
            norm_eval and isinstance(module, _BatchNorm)))


@every_row
def test_deepcopy_state_dict_and_checkpointing(row):
    net = randomise(build(row)).eval()
    other = build(row).eval()
    other.load_state_dict(net.state_dict())
    x = image(2, 3, 97, 65)
    for same in (deepcopy(net), other):
        assert torch.equal(same(x)[0], net(x)[0])
    recomputing = build(row, with_cp=True).eval()
    recomputing.load_state_dict(net.state_dict())
    x.requires_grad_()
    gradients = [
        torch.autograd.grad(n(x)[0].square().sum(), x)[0]
        for n in (net, recomputing)
    ]
    assert torch.equal(*gradients)


@pytest.mark.config
@pytest.mark.parametrize('row', ['SK-MobileNetV2', 'MobileNeXt'])
def test_compiles_to_one_graph(row):
    options = {}
    if row == 'MobileNeXt':
        options = dict(out_taps=('layer6.0.expanded', ), out_indices=(6, ))
    net = randomise(build(row, **options)).eval()
    x = image(2, 3, 75, 53)
    compiled = in_one_graph(net)
    assert all(torch.equal(*pair) for pair in zip(compiled(x), net(x)))


@pytest.mark.config
@every_row
def test_can_be_traced(row):
    net = randomise(build(row)).eval()
    traced = torch.jit.trace(net, image(1, 3, 64, 97), check_trace=False)
    x = image(2, 3, 75, 53)  # another size and batch
    torch.testing.assert_close(traced(x)[0], net(x)[0])


@every_row
def test_is_registered_under_its_name(row):
    cls = ROWS[row][0]
    assert OURS.get(cls.__name__) is cls


# Against the stock networks

STOCK = [
    ('mmpretrain', dict()),
    ('mmpretrain', dict(widen_factor=0.35, out_indices=(0, 3, 7))),
    ('mmpretrain', dict(widen_factor=1.4, frozen_stages=2)),
    ('mmseg', dict(out_indices=(1, 2, 4, 6))),
    ('mmseg', dict(out_indices=(2, 6), strides=(1, 2, 2, 1, 1, 1, 1),
                   dilations=(1, 1, 1, 2, 2, 4, 4), norm_eval=True)),
    ('mmdet', dict(out_indices=(1, 2, 4, 7), frozen_stages=1)),
    ('mmdet', dict(act_cfg=dict(type='LeakyReLU', negative_slope=0.1),
                   out_indices=(4, 7), widen_factor=0.5)),
]


def our_name(key):
    """mmdet names the convolutions of a block, where others count them."""
    if '_conv.' not in key:
        return key
    stage, j, name, leaf = key.split('.', 3)
    first = stage != 'layer1'  # whether there is an expansion
    i = dict(expand_conv=0, depthwise_conv=first, linear_conv=1 + first)[name]
    return f'{stage}.{j}.conv.{int(i)}.{leaf}'


@pytest.mark.parametrize('host, options', STOCK)
def test_without_words_it_is_the_stock_network(host, options):
    stock = pytest.importorskip(f'{host}.models.backbones').MobileNetV2
    torch.manual_seed(0)
    theirs = randomise(stock(**options))
    ours = MobileNetV2(**options)
    state = {our_name(key): v for key, v in theirs.state_dict().items()}
    assert list(state) == list(ours.state_dict())
    ours.load_state_dict(state)
    x = image(2, 3, 97, 65)
    for training in (True, False):
        theirs.train(training)
        ours.train(training)
        modes = [{
            our_name(key): module.training
            for key, module in net.named_modules()
            if isinstance(module, (nn.Conv2d, _BatchNorm))
        } for net in (theirs, ours)]
        assert modes[0] == modes[1]
        for a, b in zip(theirs(x), ours(x)):
            assert torch.equal(a, b)
    assert [p.requires_grad for p in theirs.parameters()
            ] == [p.requires_grad for p in ours.parameters()]


def test_the_start_is_that_of_the_stock_network():
    stock = pytest.importorskip('mmpretrain.models.backbones').MobileNetV2()
    ours = MobileNetV2()
    for net in (stock, ours):
        net.init_weights()
    for (key, a), b in zip(stock.named_parameters(), ours.parameters()):
        if a.dim() == 4 and a.numel() > 2000:
            assert b.std().item() == pytest.approx(a.std().item(), rel=0.1)
        elif a.dim() == 1:
            assert torch.equal(a, b), key


@pytest.mark.parametrize('name, width', [('mnasnet1_0', 1.),
                                         ('mnasnet1_3', 1.3)])
def test_mnasnet_is_torchvisions(name, width):
    models = pytest.importorskip('torchvision.models')
    theirs = randomise(getattr(models, name)()).eval()
    ours = MNASNet(width).eval()
    state = [(k, v) for k, v in theirs.state_dict().items()
             if k.startswith('layers.')]
    assert [v.shape for _, v in state] == [
        v.shape for v in ours.state_dict().values()
    ]
    ours.load_state_dict(
        dict(zip(ours.state_dict(), (value for _, value in state))))
    x = image(2, 3, 97, 65)
    assert torch.equal(ours(x)[0], theirs.layers(x))
    momenta = {m.momentum for m in ours.modules() if isinstance(m, _BatchNorm)}
    assert momenta == {theirs.layers[1].momentum}


@pytest.mark.config
@pytest.mark.parametrize('base', [
    'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
    'mmdet::yolo/yolov3_mobilenetv2_8xb24-ms-416-300e_coco.py',
    'mmseg::mobilenet_v2/'
    'mobilenet-v2-d8_deeplabv3_4xb2-80k_cityscapes-512x1024.py',
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
])
def test_one_word_swaps_it_in_a_stock_config(base):
    pytest.importorskip(base.partition('::')[0])
    cfg = get_config(base)
    init_default_scope(cfg.default_scope)
    theirs = randomise(MODELS.build(cfg.model.backbone))
    theirs.eval()
    cfg.model.backbone.type = 'mmattn.MobileNetV2'
    model = MODELS.build(cfg.model).eval()
    state = {our_name(key): v for key, v in theirs.state_dict().items()}
    if 7 not in theirs.out_indices:  # mmdet builds it, and does not run it
        state = {k: v for k, v in state.items() if not k.startswith('conv2')}
    model.backbone.load_state_dict(state)
    x = image(2, 3, 96, 64)  # YOLOv3's neck needs multiples of 32
    model.extract_feat(x)  # what is behind it takes what it gives
    outs = theirs(x)
    outs = outs if isinstance(outs, tuple) else (outs, )
    for a, b in zip(model.backbone(x), outs):
        assert torch.equal(a, b)


def test_mobilenet_v3_is_mmpretrains():
    backbones = pytest.importorskip('mmpretrain.models.backbones')
    theirs = randomise(backbones.MobileNetV3('large'))
    theirs.eval()  # the stock one does not return itself
    norm_cfg = dict(type='BN', eps=0.001, momentum=0.01)
    ours = MobileNetV3(norm_cfg=norm_cfg).eval()
    renamed = {}
    layers = [f'layer{i + 1}.{j}' for i, row in enumerate(ours.table)
              for j in range(row.num_blocks)]
    steps = ('expand_conv', 'depthwise_conv', 'linear_conv')
    for key, value in theirs.state_dict().items():
        layer, rest = key.split('.', 1)
        i = int(layer[5:])
        if i == 0 or i == 16:
            renamed[f'{"conv2" if i else "conv1"}.{rest}'] = value
            continue
        if rest.startswith('se.'):
            fc = 'fc1' if 'conv1' in rest else 'fc2'
            name = f'attention.{fc}.{rest.rsplit(".", 1)[1]}'
        else:
            step, leaf = rest.split('.', 1)
            place = steps.index(step) - (i == 1)  # it has no expansion
            name = f'conv.{place}.{leaf}'
        renamed[f'{layers[i - 1]}.{name}'] = value
    ours.load_state_dict(renamed)
    x = image(2, 3, 97, 65)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-4, atol=1e-4)


# Published sizes, with a classifier of 1000 classes

CBAM = dict(type='CBAM', ratio=24)
OUT = dict(attention_at='output')
SK_PUBLISHED = dict(
    branches=[dict(dilation=2)],
    attention=dict(
        type='SelectiveFusion', ratio=8, min_channels=1, bias=False))


def se(ratio):
    return dict(type='SE', ratio=ratio)


def after_first(attention, stages=6):
    return [None] + [attention] * stages


SIZES = [
    # Coordinate attention, MobileNetV2 and MobileNeXt (widths 0.35 to 1.4)
    (MobileNetV2, {}, 3504872),
    (MobileNetV2, dict(attention=after_first(se(24))), 3888208),
    (MobileNetV2, dict(attention=after_first(CBAM)), 3889808),
    (MobileNetV2, dict(attention=after_first(dict(type='CoordAttention'))),
     3950648),
    (MobileNetV2, dict(widen_factor=0.75, attention=after_first(
        dict(type='CoordAttention'))), 2891631),
    (MobileNetV2, dict(widen_factor=0.5, attention=after_first(
        dict(type='CoordAttention'))), 2095568),
    (MobileNeXt, {}, 3535416),
    (MobileNeXt, dict(widen_factor=1.4), 6126168),
    (MobileNeXt, dict(widen_factor=0.75), 2766168),
    (MobileNeXt, dict(widen_factor=0.35), 1913976),
    # its two smaller sizes: SE and CA behind the first depthwise convolution
    (MobileNeXt, dict(attention=[[a and se(24) for a in entry] if isinstance(
        entry, list) else se(24) for entry in NEXT]), 3913557),
    (MobileNeXt, dict(attention=[[a and dict(
        type='CoordAttention', ratio=24) for a in entry] if isinstance(
            entry, list) else dict(type='CoordAttention', ratio=24)
                                 for entry in NEXT]), 4108336),
    # ECA-Net
    (MobileNetV2, dict(OUT, attention=[dict(type='ECA', kernel_size=k)
                                       for k in (1, 1, 1, 1, 3, 3, 3)]),
     3504903),
    # DCANet, less the first link's dead parameters
    (MobileNetV2, dict(OUT, attention=se(8)), 3563492),
    (MobileNetV2, dict(OUT, attention=se(8), link=dict(
        type='DCA', mix_bias=False)), 3645086 - 594),
    (MobileNetV2, dict(OUT, attention=GE, link=DCA), 3586483 - 595),
    (MobileNetV2, dict(OUT, attention=dict(type='CBAM', ratio=8)), 3565192),
    (MobileNetV2, dict(OUT, attention=dict(type='CBAM', ratio=8), link=dict(
        type='DCA', match_bias=False)), 3646176 - 584),
    (MobileNetV2, SK_PUBLISHED, 5277248),
    (MobileNetV2, dict(SK_PUBLISHED, link=dict(
        type='DCA', match_ratio=8, hand_on='weight')), 5911786 - 134),
    (MNASNet, {}, 4383312),
    (MNASNet, dict(OUT, attention=after_first(se(16))), 4421688),
    (MNASNet, dict(OUT, attention=[None] + [
        [se(8)] + [se(16)] * (k - 1) for k in (3, 3, 3, 2, 4, 1)
    ], link=dict(type='DCA', match_ratio=8)), 4478586 - 252),
    (MNASNet, dict(OUT, attention=after_first(GE), link=DCA), 4481136 - 507),
    (MNASNet, dict(OUT, attention=after_first(dict(type='CBAM', ratio=16))),
     4423288),
    (MNASNet, dict(OUT, attention=after_first(dict(type='CBAM', ratio=8)),
                   link=dict(type='DCA', match_bias=False)), 4557494 - 488),
    # timm's semnasnet_100, mobilenetv1_100, mobilenetv3_large_100 (with the
    # layer behind its pooling)
    (MNASNet, dict(arch='A1'), 3887038),
    (MobileNetV1, {}, 4231976),
    (MobileNetV3, {}, 5483032 - (960 * 1280 + 1280)),
]


@pytest.mark.config
@pytest.mark.parametrize('cls, words, parameters', SIZES)
def test_published_sizes(cls, words, parameters):
    with torch.device('meta'):
        net = cls(**words)
        y, = net.eval()(torch.empty(1, 3, 33, 65))
    features = 1280 if cls is MobileNetV3 else y.shape[1]
    assert count(net) + features * 1000 + 1000 == parameters


# The words


def test_output_stride_dilates_every_block_behind_the_cut():
    found = {}
    for output_stride in (32, 16, 8):
        net = MobileNetV2(output_stride=output_stride, out_indices=(6, ))
        y, = net.eval()(torch.randn(1, 3, 65, 97))
        assert tuple(y.shape[2:]) == (64 // output_stride + 1,
                                      96 // output_stride + 1)
        found[output_stride] = [
            [block.conv[-2].conv.dilation[0] for block in getattr(net, name)]
            for name in net.stage_names
        ]
    assert found[32] == [[1], [1] * 2, [1] * 3, [1] * 4, [1] * 3, [1] * 3, [1]]
    assert found[16] == found[32][:5] + [[2] * 3, [2]]
    assert found[8] == found[32][:3] + [[2] * 4, [2] * 3, [4] * 3, [4]]


def test_dilations_are_those_of_the_first_blocks():
    net = MobileNetV2(dilations=(1, 1, 1, 2, 2, 4, 4), out_indices=(6, ))
    assert [block.conv[-2].conv.dilation[0] for block in net.layer4
            ] == [2, 1, 1, 1]


@pytest.mark.parametrize('attention, link', [(SE8, DCA), (dict(
    type='CBAM', ratio=8), None)])
def test_the_published_start_of_mnasnet(attention, link):
    """N(0.01, 1) where a standard deviation of 0.01 was meant."""
    words = dict(attention=[None] + [attention] * 6, link=link,
                 attention_at='output')
    for published in (False, True):
        net = MNASNet(published_start=published, **words)
        net.init_weights()
        linear = {
            name: layer for name, layer in net.named_modules()
            if isinstance(layer, nn.Linear) or name.endswith(('fc1', 'fc2'))
        }
        assert len(linear) == 16 * 2 + (5 if link else 0)
        for name, layer in linear.items():
            if layer.weight.numel() > 400:
                std = layer.weight.std().item()
                assert (0.9 < std < 1.1) == published, name
                assert not published or not layer.bias.any()
        assert net.layer4[0].conv[0].conv.weight.std() < 0.3


def test_the_published_start_is_the_only_one():
    with pytest.raises(ValueError, match='published_start.*gate_init'):
        MNASNet(0.5, published_start=True,
                attention=dict(type='SE', gate_init='identity'))


def test_the_published_start_leaves_a_checkpoint_alone(tmp_path):
    words = dict(attention=[None] + [SE8] * 6, attention_at='output')
    state = randomise(MNASNet(0.5, **words)).state_dict()
    torch.save(state, tmp_path / 'net.pth')
    net = MNASNet(0.5, published_start=True, init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'net.pth')), **words)
    net.init_weights()
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_taps_are_maps_inside_blocks():
    names = ('layer6.0.expanded', 'layer3.1.hidden', 'layer5.2.output')
    net = randomise(MobileNetV2(
        0.35, attention=[None] + [SE8] * 6, out_taps=names,
        out_indices=(4, 7))).eval()
    x = image(2, 3, 97, 65)
    expanded, hidden, output, stage5, last = net(x)
    plain = MobileNetV2(0.35, attention=[None] + [SE8] * 6,
                        out_indices=(1, 2, 4, 7)).eval()
    plain.load_state_dict(net.state_dict())
    y2, _, y5, same = plain(x)
    assert torch.equal(last, same)
    assert torch.equal(output, stage5) and torch.equal(stage5, y5)
    assert torch.equal(expanded, net.layer6[0].conv[0](y5))
    z, _ = net.layer3[0](y2)
    block = net.layer3[1]
    assert torch.equal(
        hidden, block.attention(block.conv[1](block.conv[0](z))))


def test_taps_alone_and_in_training():
    taps = ('layer6.0.expanded', 'layer8.0.expanded')
    net = MobileNeXt(0.5, out_taps=taps, with_cp=True)
    outs = net(torch.randn(2, 3, 97, 65, requires_grad=True))
    assert [tuple(y.shape[2:]) for y in outs] == [(7, 5), (4, 3)]
    sum(y.square().sum() for y in outs).backward()
    assert net.layer1[0].reduce.conv.weight.grad is not None
    # Behind the last tap nothing is needed.
    assert net.layer8[0].last_depthwise.conv.weight.grad is None


def test_conv2_is_there_where_it_is_asked_for():
    assert hasattr(MobileNetV2(), 'conv2')
    assert not hasattr(MobileNetV2(out_indices=(6, )), 'conv2')
    assert not hasattr(MobileNeXt(), 'conv2')


@pytest.mark.parametrize('cls, layers', [
    (MobileNetV2, dict(fusion=[f'layer{k}.{j}' for k, n in (
        (2, 2), (3, 3), (4, 4), (5, 3), (6, 3)) for j in range(1, n)])),
    (MobileNetV1, dict(fusion=[])),
    (MobileNeXt, dict(fusion=[f'layer{k}.{j}' for k, n in (
        (3, 3), (4, 3), (5, 4), (6, 4), (7, 3)) for j in range(1, n)])),
])
def test_only_blocks_with_a_shortcut_have_a_join(cls, layers):
    net = cls(0.5)
    joined = [
        f'{name}.{i}' for name in net.stage_names
        for i, block in enumerate(getattr(net, name))
        if block.fusion is not None
    ]
    assert joined == layers['fusion']


def test_sandglass_layouts():
    net = MobileNeXt()
    there = [(b.depthwise is not None, b.last_depthwise is not None,
              b.fusion is not None) for b in blocks_of(net)]
    whole, same = (True, True, False), (True, True, True)
    b, c = (False, False, False), (False, True, False)
    assert there == [
        whole, whole, c, same, same, c, same, same, b, same, same, same, c,
        same, same, same, b, same, same, whole
    ]
    middle = [block.reduce.conv.out_channels for block in blocks_of(net)]
    assert middle == [16, 32, 32, 32, 32, 48, 48, 48, 64, 64, 64, 64, 96, 96,
                      96, 96, 160, 160, 160, 208]


def test_branches_of_an_inverted_residual():
    net = MobileNetV2(0.5, **SK)
    assert all(type(block) is SKInvertedResidual for block in blocks_of(net))
    block = randomise(net.layer4[1]).eval()
    x = image(2, block.conv[0].conv.in_channels, 7, 5)
    y = block.conv[0](x)
    further = block.branches[0].conv
    assert (further.dilation, further.padding, further.groups) == (
        (2, 2), (2, 2), y.shape[1])
    maps = (block.conv[1](y), block.branches[0](y))
    expected = x + block.conv[2](block.attention(maps))
    torch.testing.assert_close(block(x)[0], expected)


@pytest.mark.parametrize('make, words', [
    (lambda: MobileNetV2(out_indices=(8, )), 'must name stages 0 to 7'),
    (lambda: MobileNeXt(out_indices=(8, )), 'must name stages 0 to 7'),
    (lambda: MobileNetV2(frozen_stages=8), 'frozen_stages 8'),
    (lambda: MobileNetV2(strides=(1, 2)), 'strides=.* each of the 7'),
    (lambda: MobileNetV2(output_stride=8, strides=(1, ) * 7),
     'one or the other'),
    (lambda: MobileNetV2(output_stride=12), 'output_stride=12 must be'),
    (lambda: MobileNetV2(output_stride=64), 'output_stride=64 must be'),
    (lambda: MobileNetV2(out_taps=('layer6.0.expand', )),
     'layer6.0.expand are no maps .* layer6.0.expanded'),
    (lambda: MobileNetV2(out_taps=('layer1.0', )), 'layer1.0 are no maps'),
    (lambda: MobileNetV2(attention=SE8, attention_at='middle'),
     "no place 'middle'"),
    (lambda: MobileNeXt(attention=SE8), "no place 'hidden'; give None"),
    (lambda: MobileNeXt(branches=[dict(dilation=2)], attention=SEL),
     'have no place for them'),
    (lambda: MobileNetV2(branches=[dict(groups=2)], attention=SEL),
     'branches must list .* with dilation'),
    (lambda: MNASNet(arch='A2'), "'A1' or 'B1', got 'A2'"),
    (lambda: SE(16, gate='relu'), "'sigmoid' or 'hardsigmoid', got 'relu'"),
    (lambda: MobileNetV2(pretrained='a', init_cfg=dict(type='Kaiming')),
     'give one'),
])
def test_refused(make, words):
    with pytest.raises(ValueError, match=f'(?s){words}'):
        make()


def test_unknown_words_list_the_known():
    with pytest.raises(TypeError, match="MNASNet has no option 'width'.*"
                       'arch.*widen|arch.*output_stride'):
        MNASNet(width=2)


def test_blocks_by_themselves():
    assert InvertedResidual.places == SandGlass.places == ('hidden', 'output')
