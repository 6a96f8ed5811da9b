"""One tester for every backbone, a row for each; then options and refusals.

Behaviour is tested on tiny networks, sizes on the real ones.
"""
from copy import deepcopy
from functools import partial

import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from samples import in_one_graph, randomise
from test_mobile import ROWS as MOBILE_ROWS
from test_peer_networks import ROWS as PEER_ROWS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmattn.attentions import ECA, GC, SE
from mmattn.backbones import (Backbone, BasicBlock, Bottleneck,
                              PreActResNet_CIFAR, PyConvResNet, Res2Net,
                              ResNet, ResNet_CIFAR, ResNetV1c, ResNetV1d,
                              ResNeXt, SKNet)
from mmattn.registry import MODELS

MODELS.import_from_location()

# A tiny network of each kind: type, options, output channels.
ROWS = {
    'ResNet basic': (ResNet, dict(depth=18, base_channels=8),
                     (8, 16, 32, 64)),
    'ResNet': (ResNet, dict(depth=(2, 1, 2, 1), base_channels=8),
               (32, 64, 128, 256)),
    'ResNetV1c': (ResNetV1c, dict(depth=(2, 1, 2, 1), base_channels=8),
                  (32, 64, 128, 256)),
    'ResNetV1d': (ResNetV1d, dict(depth=(2, 1, 2, 1), base_channels=8),
                  (32, 64, 128, 256)),
    'ResNeXt': (ResNeXt, dict(depth=(2, 1, 2, 1), base_channels=8, groups=4),
                (32, 64, 128, 256)),
    'Res2Net': (Res2Net,
                dict(depth=(2, 1, 2, 1), base_channels=8, base_width=6),
                (32, 64, 128, 256)),
    'PyConvResNet': (PyConvResNet,
                     dict(
                         depth=(2, 1, 2, 1),
                         base_channels=8,
                         arch='HG',
                         groups=2,
                         base_width=8), (32, 64, 128, 256)),
    'EPSANet': (ResNet,
                dict(
                    depth=(2, 1, 2, 1),
                    base_channels=8,
                    conv2=dict(
                        type='PSAConv',
                        kernel_sizes=(3, 5),
                        branch_groups=(1, 2),
                        ratio=2)), (32, 64, 128, 256)),
    'SKNet': (SKNet,
              dict(
                  depth=(2, 1, 2, 1),
                  base_channels=16,
                  attention=dict(
                      type='SelectiveFusion', ratio=2, bias=False)),
              (64, 128, 256, 512)),
    'ResNet_CIFAR': (ResNet_CIFAR, dict(depth=(2, 1, 2, 1), base_channels=8),
                     (32, 64, 128, 256)),
    'PreActResNet_CIFAR':
    (PreActResNet_CIFAR,
     dict(
         depth=(2, 1, 2, 1),
         base_channels=16,
         num_stages=4,
         strides=(1, 2, 2, 2),
         dilations=(1, 1, 1, 1),
         out_indices=(0, 1, 2, 3)), (16, 32, 64, 128)),
}
every_row = pytest.mark.parametrize('row', ROWS)

SEL = dict(type='SelectiveFusion', ratio=16, min_channels=8)
# Everything a config can say at once.
WORDS = dict(
    attention=dict(type='SE', ratio=4),
    link=dict(type='DCA'),
    depth_fusion=[SEL, None, SEL, None],
    stage_attention=dict(type='ECA'))


def build(row, **options):
    cls, defaults, _ = ROWS[row]
    return cls(**{**defaults, **options})


def words_for(row):
    """All words that its blocks can take."""
    if row == 'ResNet basic':
        return {}
    words = dict(WORDS)
    if row == 'SKNet':  # its attention is a fusion, linked as well
        del words['attention']
    return words


def build_short(row):
    """Two stages with all words; enough to see every line of forward."""
    words = words_for(row)
    if words:
        words['depth_fusion'] = [SEL, None]
    net = build(
        row,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(0, 1),
        **words)
    return randomise(net).eval()


def tiny(depth=(2, 1, 2, 1), **options):
    return ResNet(depth, base_channels=8, **options)


def blocks_of(net):
    return [block for name in net.stage_names for block in getattr(net, name)]


def stages_of(net):
    return [getattr(net, name) for name in net.stage_names]


def sizes(outs):
    return [tuple(y.shape[2:]) for y in outs]


def count(net):
    return sum(p.numel() for p in net.parameters())


# The matrix


@every_row
@pytest.mark.parametrize('size,expected', [
    ((75, 53), [(19, 14), (10, 7), (5, 4), (3, 2)]),
    ((64, 97), [(16, 25), (8, 13), (4, 7), (2, 4)]),
    ((1, 1), [(1, 1)] * 4),
])
def test_outputs(row, size, expected):
    net = build(row).eval()
    if row.endswith('CIFAR') and size != (1, 1):
        size = expected[0]  # no stride in the stem
    outs = net(torch.randn(2, 3, *size))
    assert isinstance(outs, tuple)
    assert sizes(outs) == expected
    assert tuple(y.shape[1] for y in outs) == ROWS[row][2]


@every_row
@pytest.mark.parametrize('out_indices', [(0, ), (3, ), (1, 3), [0, 2]])
def test_out_indices(row, out_indices):
    net = randomise(build(row)).eval()
    x = torch.randn(2, 3, 75, 53)
    everything = net(x)
    chosen = build(row, out_indices=out_indices).eval()
    chosen.load_state_dict(net.state_dict())
    outs = chosen(x)
    assert len(outs) == len(out_indices)
    for i, y in zip(out_indices, outs):
        assert torch.equal(y, everything[i])


@every_row
@pytest.mark.parametrize('num_stages', [1, 2, 3])
def test_fewer_stages(row, num_stages):
    whole = build(row).eval()
    net = build(
        row,
        num_stages=num_stages,
        strides=(1, 2, 2)[:num_stages],
        dilations=(1, ) * num_stages,
        out_indices=tuple(range(num_stages))).eval()
    assert not hasattr(net, f'layer{num_stages + 1}')
    # Behind the last stage, pre-activation networks have a norm of its width.
    tail = (net.last_norm_name, ) if row.startswith('PreAct') else ()
    state = dict(net.state_dict(), **{
        key: value for key, value in whole.state_dict().items()
        if key in net.state_dict() and key.split('.')[0] not in tail
    })
    net.load_state_dict(state)
    x = torch.randn(2, 3, 75, 53)
    same = num_stages - len(tail)
    for a, b in zip(net(x)[:same], whole(x)):
        assert torch.equal(a, b)


def check_modes(net, frozen_stages, norm_eval):
    """Frozen parts and norms are where they should be after ``train()``."""
    frozen = [] if frozen_stages < 0 else net.stem_modules() + [
        getattr(net, name) for name in net.stage_names[:frozen_stages]
    ]
    inside = {id(m) for part in frozen for m in part.modules()}
    parameters = {id(p) for part in frozen for p in part.parameters()}
    for p in net.parameters():
        assert p.requires_grad == (id(p) not in parameters)
    stem_convs = [m for m in net.stem_modules() if isinstance(m, nn.Conv2d)]
    for module in net.modules():
        if module in stem_convs:  # has no mode; the stock networks leave it
            continue
        still = id(module) in inside or (
            norm_eval and isinstance(module, _BatchNorm))
        assert module.training == (not still)


@every_row
@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 3, 4])
@pytest.mark.parametrize('norm_eval', [False, True])
def test_freezing(row, frozen_stages, norm_eval):
    net = build(
        row,
        frozen_stages=frozen_stages,
        norm_eval=norm_eval,
        **words_for(row))
    assert net.train() is net
    check_modes(net, frozen_stages, norm_eval)
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.train()
    check_modes(net, frozen_stages, norm_eval)


@every_row
def test_a_step_leaves_what_is_frozen(row):
    net = build(row, frozen_stages=1)
    net.train()
    before = deepcopy(net.state_dict())
    outs = net(torch.randn(2, 3, 75, 53))
    assert [y.requires_grad for y in outs] == [False, True, True, True]
    sum(y.square().sum() for y in outs).backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    frozen = {'layer1'} | {
        name for name, module in net.named_children()
        if any(module is part for part in net.stem_modules())
    }
    for key, value in net.state_dict().items():
        still = key.split('.')[0] in frozen
        assert torch.equal(value, before[key]) == still


@every_row
@pytest.mark.parametrize('zero_init_residual', [True, False])
def test_initial_weights(row, zero_init_residual):
    last = set()
    if row.startswith('PreAct'):  # no norm ends a branch
        if zero_init_residual:
            with pytest.raises(ValueError, match='no norm at the end'):
                build(row, zero_init_residual=True)
            return
        net = build(row)
    else:
        net = build(row, zero_init_residual=zero_init_residual)
        last = {id(block.last_norm) for block in blocks_of(net)}
        assert len(last) == len(blocks_of(net))
    net.init_weights()
    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            value = 0. if zero_init_residual and id(module) in last else 1.
            assert (module.weight == value).all()
            assert (module.bias == 0).all()
    # Kaiming, by fan-out, on a layer that is wide enough to see it.
    conv = net.layer4[0].conv1
    out = conv.out_channels * conv.kernel_size[0]**2
    assert conv.weight.std().item() == pytest.approx(
        (2 / out)**0.5, rel=0.1)


@every_row
@pytest.mark.parametrize('training', [True, False])
def test_every_parameter_has_a_gradient(row, training):
    words = words_for(row)
    if words:
        words['fusion'] = SEL
    net = randomise(build(row, **words)).double().train(training)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 3, 75, 53, generator=generator).double()
    sum(y.square().sum() for y in net(x)).backward()
    zero = {
        key for key, p in net.named_parameters()
        if p.grad is None or p.grad.abs().max() < 1e-8
    }
    # By algebra: a layer norm follows (see test_links.py).
    assert zero == {
        key for key, _ in net.named_parameters() if key.endswith('mix.bias')
    }


@every_row
def test_deepcopy_and_state_dict(row):
    words = words_for(row)
    net = randomise(build(row, **words)).eval()
    other = build(row, **words).eval()
    other.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 75, 53)
    for same in (deepcopy(net), other):
        assert all(torch.equal(*pair) for pair in zip(same(x), net(x)))


@pytest.mark.config
@every_row
def test_compiles_to_one_graph(row):
    net = build_short(row)
    x = torch.randn(2, 3, 75, 53)
    compiled = in_one_graph(net)
    assert all(torch.equal(*pair) for pair in zip(compiled(x), net(x)))


@every_row
def test_can_be_traced(row):
    net = build_short(row)
    traced = torch.jit.trace(
        net, torch.randn(1, 3, 64, 97), check_trace=False)
    x = torch.randn(2, 3, 75, 53)  # another size and batch
    for a, b in zip(traced(x), net(x)):
        torch.testing.assert_close(a, b)


@every_row
def test_is_registered_under_its_name(row):
    cls = ROWS[row][0]
    assert issubclass(cls, Backbone)
    assert MODELS.get(cls.__name__) is cls
    built = ROOT_MODELS.build(
        dict(type=f'mmattn.{cls.__name__}', **ROWS[row][1]))
    assert type(built) is cls


def test_every_registered_backbone_has_a_row():
    registered = {
        cls for cls in MODELS.module_dict.values()
        if isinstance(cls, type) and issubclass(cls, Backbone)
    }
    mobile = {cls for cls, _ in MOBILE_ROWS.values()}
    peers = {make.func for make in PEER_ROWS.values()}
    assert registered == {cls for cls, _, _ in ROWS.values()} | mobile | peers


# Sizes of the real networks

# torchvision's ResNets (and timm's resnet50d, resnext{50,101}_32x4d) less
# their classifier; ResNet-86 is SDA-xNet's baseline.
PLAIN = [
    (ResNet, 18, 11_689_512 - 513_000),
    (ResNet, 34, 21_797_672 - 513_000),
    (ResNet, 50, 25_557_032 - 2_049_000),
    (ResNet, 86, 41_886_248 - 2_049_000),
    (ResNet, 101, 44_549_160 - 2_049_000),
    (ResNet, 152, 60_192_808 - 2_049_000),
    (ResNetV1c, 50, 25_576_264 - 2_049_000),
    (ResNetV1d, 50, 25_576_264 - 2_049_000),
    (ResNeXt, 50, 25_028_904 - 2_049_000),
    (ResNeXt, 101, 44_177_704 - 2_049_000),
]


@pytest.mark.parametrize('cls,depth,parameters', PLAIN)
def test_parameters_of_plain_networks(cls, depth, parameters):
    assert count(cls(depth)) == parameters


SDA = dict(type='SelectiveFusion', ratio=16, min_channels=64)
SE16 = dict(type='SE', ratio=16)
GROUPS8 = dict(groups=8, base_width=8)


# SDA-xNet's detection backbones SdaNet (groups of 8 in the bottlenecks) and
# Sda_SENet; the last row is its classifier with groups 1, less the
# classifier (2,049,000) and the norm before it (4,096).
@pytest.mark.parametrize('depth,options,parameters', [
    (18, {}, 11_363_264),
    (34, {}, 21_592_064),
    (50, GROUPS8, 15_357_888),
    (86, GROUPS8, 25_166_784),
    (101, GROUPS8, 26_707_904),
    (152, GROUPS8, 36_124_608),
    (18, dict(attention=SE16), 11_452_344),
    (50, dict(attention=SE16), 27_791_472),
    (86, dict(attention=SE16), 47_077_712),
    (50, {}, 27_313_576 - 2_049_000 - 4_096),
])
def test_parameters_with_depth_fusion(depth, options, parameters):
    assert count(ResNet(depth, depth_fusion=SDA, **options)) == parameters


# DCANet's backbones without a link (for those with one see test_links.py),
# ECA-Net's ResNet-50 with its published kernels.
@pytest.mark.parametrize('attention,parameters', [
    (SE16, 26_039_024),
    (dict(type='GC', ratio=16), 26_056_032),
    (dict(type='GE'), 23_508_032),
    (dict(type='CBAM', ratio=16), 28_089_624 - 2_049_000),
    ([dict(type='ECA', kernel_size=k) for k in (3, 5, 5, 7)],
     23_508_032 + 3 * 3 + 4 * 5 + 6 * 5 + 3 * 7),
])
def test_parameters_with_attention(attention, parameters):
    assert count(ResNet(50, attention=attention)) == parameters


def test_one_full_network_runs():
    net = ResNet(50, depth_fusion=SDA, attention=SE16).eval()
    with torch.no_grad():
        outs = net(torch.randn(1, 3, 97, 65))
    assert sizes(outs) == [(25, 17), (13, 9), (7, 5), (4, 3)]
    assert [y.shape[1] for y in outs] == [256, 512, 1024, 2048]


# Options of the trunk


@pytest.mark.parametrize('depth', [18, (2, 2, 2, 2)])
def test_dilation(depth):
    net = tiny(depth, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    assert sizes(net(torch.randn(2, 3, 75, 53))) == [
        (19, 14), (10, 7), (10, 7), (10, 7)]
    for stage, dilation in zip(stages_of(net), (1, 1, 2, 4)):
        for block in stage:
            conv = block.conv1 if depth == 18 else block.conv2
            assert conv.dilation == (dilation, dilation)
            assert conv.padding == (dilation, dilation)


def grid(stage):
    return [block.conv2.dilation[0] for block in stage]


def test_contract_dilation():
    net = tiny((2, 2, 2, 3),
               strides=(1, 2, 1, 1),
               dilations=(1, 1, 2, 4),
               contract_dilation=True)
    assert [grid(stage) for stage in stages_of(net)] == [
        [1, 1], [1, 1], [1, 2], [2, 4, 4]]
    assert sizes(net(torch.randn(2, 3, 75, 53)))[2:] == [(10, 7)] * 2


@pytest.mark.parametrize('num_stages', [4, 3])
def test_multi_grid(num_stages):
    net = tiny((2, 2, 3, 3),
               num_stages=num_stages,
               strides=(1, 2, 1, 1)[:num_stages],
               dilations=(1, 1, 2, 4)[:num_stages],
               out_indices=(0, 1, 2),
               multi_grid=(1, 2, 4))
    *others, last = stages_of(net)
    assert grid(last) == [1, 2, 4]
    assert [grid(stage) for stage in others
            ] == [[1, 1], [1, 1], [2, 2, 2]][:len(others)]
    assert net(torch.randn(2, 3, 75, 53))[2].shape[2:] == (10, 7)


def test_deep_stem():
    net = tiny(deep_stem=True, stem_channels=12, in_channels=5)
    convs = [m for m in net.stem if isinstance(m, nn.Conv2d)]
    assert [m.weight.shape[:2] for m in convs] == [(6, 5), (6, 6), (12, 6)]
    assert [m.stride[0] for m in convs] == [2, 1, 1]
    assert not hasattr(net, 'conv1')
    # The names of mmdet and mmsegmentation.
    assert {key.rsplit('.', 1)[0] for key in net.state_dict()
            if key.startswith('stem')
            } == {f'stem.{i}' for i in (0, 1, 3, 4, 6, 7)}
    assert sizes(net(torch.randn(2, 5, 75, 53)))[0] == (19, 14)


def test_stem_channels():
    net = tiny(stem_channels=12)
    assert net.conv1.out_channels == net.layer1[0].conv1.in_channels == 12
    assert tiny().conv1.out_channels == 8


def test_a_stem_for_small_images():
    net = ResNet_CIFAR((1, 1, 1, 1), base_channels=8)
    assert (net.conv1.kernel_size, net.conv1.stride) == ((3, 3), (1, 1))
    assert not hasattr(net, 'maxpool')
    with pytest.raises(ValueError, match='deep_stem'):
        ResNet_CIFAR(18, deep_stem=True)


def test_a_pre_activation_network_norms_the_image_and_the_end():
    net = randomise(PreActResNet_CIFAR((1, 1, 1), base_channels=8))
    net.double().eval()
    assert net.num_stages == 3
    assert not list(net.bn0.parameters())
    x = torch.randn(2, 3, 13, 9).double()
    *_, y = net(x)
    z = net.conv1((x - net.bn0.running_mean[:, None, None]) /
                  (net.bn0.running_var[:, None, None] + 1e-5).sqrt())
    for stage in stages_of(net):
        z, _ = stage[0](z)
    torch.testing.assert_close(y, net.bn1(z).relu())
    # Without the last stage among the outputs, its norm is not run.
    inner = PreActResNet_CIFAR((1, 1, 1), base_channels=8, out_indices=(1, ))
    inner.load_state_dict(net.state_dict())
    assert torch.equal(inner.double().eval()(x)[0], net(x)[1])


@pytest.mark.parametrize('depth,blocks', [(20, 3), (32, 5), (110, 18)])
def test_depths_of_pre_activation_networks(depth, blocks):
    net = PreActResNet_CIFAR(depth, base_channels=4)
    assert [len(stage) for stage in stages_of(net)] == [blocks] * 3


@pytest.mark.parametrize('cls,words', [
    (ResNetV1c, dict(deep_stem=True)),
    (ResNetV1d, dict(deep_stem=True, avg_down=True)),
    (ResNeXt, dict(groups=32, base_width=4)),
    (SKNet,
     dict(
         branches=[dict(dilation=2)],
         attention=dict(
             type='SelectiveFusion', ratio=16, min_channels=1, bias=False))),
])
def test_a_preset_is_its_words(cls, words):
    preset = cls((1, 1, 1, 1), base_channels=8)
    plain = ResNet((1, 1, 1, 1), base_channels=8, **words)
    plain.load_state_dict(preset.state_dict())
    x = torch.randn(2, 3, 75, 53)
    for a, b in zip(preset(x), plain(x)):
        assert torch.equal(a, b)


def test_width_per_group_is_base_width():
    a = tiny(groups=4, width_per_group=6)
    b = tiny(groups=4, base_width=6)
    assert a.layer1[0].conv2.weight.shape == (24, 6, 3, 3)
    assert a.layer3[0].conv2.weight.shape == (96, 24, 3, 3)
    b.load_state_dict(a.state_dict())
    assert ResNeXt(
        (1, 1, 1, 1), base_channels=8, groups=4,
        width_per_group=6).layer1[0].conv2.weight.shape == (24, 6, 3, 3)


@pytest.mark.parametrize('style,strides', [('pytorch', (1, 2)),
                                           ('caffe', (2, 1))])
def test_style(style, strides):
    block = tiny(style=style).layer2[0]
    assert (block.conv1.stride[0], block.conv2.stride[0]) == strides


def test_blocks_of_each_depth():
    for depth, cls in ((18, BasicBlock), ((1, 1, 1, 1), Bottleneck)):
        assert {type(b) for b in blocks_of(tiny(depth))} == {cls}
    for depth in ResNet.arch_settings:
        cls, depths = ResNet.arch_settings[depth]
        layers = 2 if cls is BasicBlock else 3
        assert layers * sum(depths) + 2 == depth


def test_checkpointing_changes_no_number():
    nets = [
        randomise(tiny(with_cp=with_cp, **WORDS)).double()
        for with_cp in (False, True)
    ]
    x = torch.randn(2, 3, 75, 53).double()
    for net in nets:
        sum(y.square().sum() for y in net(x)).backward()
    plain, recomputed = [dict(net.named_parameters()) for net in nets]
    for key, p in plain.items():
        torch.testing.assert_close(
            recomputed[key].grad, p.grad, rtol=1e-10, atol=1e-10)


def test_drop_path_is_really_used():
    net = tiny(drop_path_rate=0.5)
    x = torch.randn(2, 3, 75, 53)
    outs = [net(x)[-1] for _ in range(4)]
    assert any(not torch.equal(outs[0], y) for y in outs[1:])
    net.eval()
    assert torch.equal(net(x)[-1], net(x)[-1])


# Deformable convolutions

DCN = dict(type='DCNv2', deform_groups=1, fallback_on_stride=False)


def test_dcn():
    pytest.importorskip('mmcv.ops')
    net = tiny(dcn=dict(DCN), stage_with_dcn=(False, True, False, True))
    for stage, deformed in zip(stages_of(net), (False, True, False, True)):
        for block in stage:
            assert hasattr(block.conv2, 'conv_offset') == deformed
    net.init_weights()
    offset = net.layer2[0].conv2.conv_offset
    assert (offset.weight == 0).all()
    assert (offset.bias == 0).all()
    assert net.layer2[0].conv2.stride[0] == 2
    assert sizes(net(torch.randn(2, 3, 75, 53)))[1] == (10, 7)


def test_dcn_leaves_the_config_alone():
    pytest.importorskip('mmcv.ops')
    cfg = dict(DCN)
    tiny(dcn=cfg, stage_with_dcn=(True, ) * 4)
    assert cfg == DCN


@pytest.mark.parametrize('options,words', [
    (dict(), 'stage_with_dcn'),
    (dict(stage_with_dcn=(True, )), 'one entry for each of 4 stages'),
    (dict(stage_with_dcn=(False, ) * 4), 'one of them True'),
    (dict(stage_with_dcn=(True, ) * 4, conv2=dict(type='Conv2d')), 'give one'),
    (dict(stage_with_dcn=(True, ) * 4, depth=18), 'BasicBlock'),
])
def test_dcn_refuses(options, words):
    pytest.importorskip('mmcv.ops')
    with pytest.raises(ValueError, match=words):
        tiny(dcn=dict(DCN), **options)


def test_dcn_cannot_fall_back_to_plain_convolutions():
    with pytest.raises(ValueError, match='fallback_on_stride'):
        tiny(dcn=dict(DCN, fallback_on_stride=True),
             stage_with_dcn=(True, ) * 4)


def test_stage_with_dcn_alone_is_not_ignored():
    with pytest.raises(ValueError, match='dcn'):
        tiny(stage_with_dcn=(False, True, True, True))


# Words


@pytest.mark.parametrize('attention,found', [
    (SE16, 'SSSSSS'),
    ([SE16, None, dict(type='ECA'), None], 'SS-EE-'),
    ([[SE16, None], None, [None, dict(type='GC', ratio=4)], SE16], 'S---GS'),
    ([None] * 4, '------'),
])
def test_words_for_each_stage_and_block(attention, found):
    net = tiny(attention=attention)
    letter = {SE: 'S', ECA: 'E', GC: 'G', type(None): '-'}
    assert ''.join(letter[type(b.attention)] for b in blocks_of(net)) == found


def test_attention_at_for_each_stage_and_block():
    net = tiny(
        attention=dict(type='SE', ratio=4),
        attention_at=['hidden', None, ['output', 'hidden'], 'output'])
    assert [b.attention_at for b in blocks_of(net)] == [
        'hidden', 'hidden', 'output', 'output', 'hidden', 'output']
    assert [b.attention.fc1.in_channels for b in blocks_of(net)] == [
        8, 8, 64, 128, 32, 256]


def test_stage_words_go_to_stages():
    net = tiny(
        depth_fusion=[SEL, None, SEL, None],
        stage_attention=[None, dict(type='ECA'), None, dict(type='SE')])
    assert [s.depth_fusion is None for s in stages_of(net)
            ] == [False, True, False, True]
    assert [type(s.stage_attention) for s in stages_of(net)
            ] == [type(None), ECA, type(None), SE]
    assert net.layer1.depth_fusion.num_maps == 2


@pytest.mark.parametrize('kind', ['SE', 'mmattn.SE', SE])
def test_a_type_is_a_name_or_a_class(kind):
    net = tiny(attention=dict(type=kind, ratio=4))
    assert type(net.layer1[0].attention) is SE
    assert net.layer1[0].attention.fc1.out_channels == 8


@pytest.mark.parametrize('kind', ['Conv2d', nn.Conv2d])
def test_conv2_is_a_word(kind):
    net = tiny(conv2=[None, dict(type=kind, padding_mode='reflect')] * 2)
    assert [b.conv2.padding_mode for b in blocks_of(net)] == [
        'zeros', 'zeros', 'reflect', 'zeros', 'zeros', 'reflect']
    assert net.layer2[0].conv2.bias is None


def test_the_config_is_left_alone():
    words = deepcopy(WORDS)
    tiny(**words)
    assert words == WORDS


def test_keys_of_parts():
    """A stability promise: published weights are converted to these."""
    plain = set(tiny().state_dict())
    net = tiny(**WORDS, fusion=SEL)
    prefixes = {
        '.'.join(part for part in key.split('.')[1:] if not part.isdigit()
                 ).split('.')[0]
        for key in set(net.state_dict()) - plain
    }
    assert plain <= set(net.state_dict())
    assert prefixes == {
        'attention', 'link', 'fusion', 'depth_fusion', 'stage_attention'
    }
    names = dict(net.named_modules())
    for name in ('layer1.0.attention', 'layer1.0.link', 'layer1.0.fusion',
                 'layer1.depth_fusion', 'layer1.stage_attention'):
        assert name in names


def test_the_norm_reaches_every_part():
    net = tiny(
        norm_cfg=dict(type='GN', num_groups=1),
        attention=dict(type='CBAM', ratio=4),
        link=dict(type='DCA'),
        depth_fusion=[SEL, None, SEL, None],
        stage_attention=dict(type='CoordAttention'))
    assert not any(isinstance(m, _BatchNorm) for m in net.modules())
    assert isinstance(net.layer1.depth_fusion.norm, nn.GroupNorm)
    kept = tiny(
        norm_cfg=dict(type='GN', num_groups=1),
        attention=dict(type='CBAM', ratio=4, norm_cfg=dict(type='BN')))
    assert isinstance(kept.layer1[0].attention.spatial_gate.norm, _BatchNorm)


def test_norms_without_a_gradient():
    net = tiny(norm_cfg=dict(type='BN', requires_grad=False))
    assert not net.bn1.weight.requires_grad
    assert net.conv1.weight.requires_grad


# How it starts


def start_of_parts(net):
    """What the backbone's Kaiming pass must not have touched."""
    assert (net.layer1[0].attention.fc2.weight == 0).all()  # GC adds nothing
    assert (net.layer1.depth_fusion.project.weight == 0).all()
    weight = net.layer4.stage_attention.fc1.weight  # SE, PyTorch's start
    bound = weight.shape[1]**-0.5
    assert 0.9 * bound < weight.abs().max() <= bound


PARTS = dict(
    attention=dict(type='GC', ratio=4),
    depth_fusion=[dict(SEL, last_share=0.95), None, None, None],
    stage_attention=[None, None, None, dict(type='SE', ratio=4)])


def test_parts_keep_their_own_start():
    net = tiny(**PARTS)
    net.init_weights()
    start_of_parts(net)
    weight = net.layer1[1].conv2.weight
    assert weight.std().item() == pytest.approx((2 / 72)**0.5, rel=0.15)


@pytest.mark.parametrize('spelling', ['pretrained', 'init_cfg'])
def test_pretrained(tmp_path, spelling):
    plain = randomise(tiny())
    path = str(tmp_path / 'trunk.pth')
    torch.save(plain.state_dict(), path)
    start = dict(pretrained=path) if spelling == 'pretrained' else dict(
        init_cfg=dict(type='Pretrained', checkpoint=path))
    net = tiny(**start, **PARTS)
    net.init_weights()
    state = net.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key
    start_of_parts(net)


def test_pretrained_of_a_whole_network(tmp_path):
    saved = randomise(tiny(**WORDS))
    path = str(tmp_path / 'whole.pth')
    torch.save(saved.state_dict(), path)
    net = tiny(pretrained=path, **WORDS)
    net.init_weights()
    for key, value in saved.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key


def test_a_missing_checkpoint_says_what_it_was_for(tmp_path):
    net = tiny(pretrained=str(tmp_path / 'nowhere.pth'))
    with pytest.raises(FileNotFoundError, match='starting checkpoint of the '
                       'ResNet backbone'):
        net.init_weights()


def test_init_cfg_of_the_user_wins():
    net = tiny(
        zero_init_residual=False,
        init_cfg=dict(type='Constant', val=0.25, layer='Conv2d'))
    net.init_weights()
    assert (net.layer2[0].conv1.weight == 0.25).all()


# Whose scope it is built in


@pytest.mark.parametrize('scope', [None, 'mmdet', 'mmseg', 'mmpretrain'])
def test_any_default_scope(scope):
    if scope is not None:
        pytest.importorskip(f'{scope}.models')
        DefaultScope.get_instance('test', scope_name=scope)
    cfg = dict(
        type='mmattn.ResNet',
        depth=(2, 1, 1, 1),
        base_channels=8,
        depth_fusion=[SEL, None, None, None],
        attention=dict(type='CBAM', ratio=4),
        link=dict(type='DCA'),
        conv2=dict(type='Conv2d'))
    net = ROOT_MODELS.build(cfg)
    assert type(net) is ResNet
    assert type(net.layer1[1].link).__name__ == 'ChainLink'
    assert net(torch.randn(2, 3, 75, 53))[3].shape == (2, 256, 3, 2)


# What is refused


@pytest.mark.parametrize('cls', [ResNet, ResNetV1c, ResNetV1d, ResNeXt])
def test_unknown_words_list_the_known(cls):
    with pytest.raises(TypeError) as error:
        cls((1, 1, 1, 1), atention=SE16)
    words = str(error.value)
    assert f"{cls.__name__} has no option 'atention'" in words
    for known in ('attention', 'depth_fusion', 'drop_path_rate', 'dcn',
                  'frozen_stages', 'deep_stem', 'groups'):
        assert known in words
    for own in ('kwargs', 'unknown', 'self'):
        assert own not in words.split('it has')[1]


def refuse(words, kind=ValueError, depth=(2, 1, 2, 1), **options):
    name = next(iter(options), 'depth')
    return pytest.param(kind, words, dict(options, depth=depth),
                        id=f'{name}-{words[:30]}')


@pytest.mark.parametrize('kind,words,options', [
    # depth and stages
    refuse('depth 51 is none of .*18, 34, 50, 86, 101, 152', depth=51),
    refuse("depth '50' is none of", depth='50'),
    refuse('num_stages=4 does not fit', depth=(2, 1)),
    refuse('depth must be a positive integer, got 0', depth=(2, 1, 0, 1)),
    refuse('num_stages=5', num_stages=5, strides=(1, ) * 5,
           dilations=(1, ) * 5),
    refuse('num_stages=0', num_stages=0),
    refuse('strides=.* one entry for each of num_stages=4', strides=(1, 2)),
    refuse('dilations=.* num_stages=4', dilations=(1, ) * 5),
    refuse(r'out_indices \(4,\) must name stages 0 to 3', out_indices=(4, )),
    refuse('out_indices', out_indices=()),
    refuse('out_indices', out_indices=(-1, )),
    refuse('frozen_stages 5 must lie between', frozen_stages=5),
    refuse('frozen_stages -2', frozen_stages=-2),
    refuse('multi_grid=.* the 1 blocks of the last stage',
           multi_grid=(1, 2)),
    # the blocks
    refuse("style must be 'pytorch' or 'caffe', got 'tensorflow'",
           style='tensorflow'),
    refuse('groups=8.* depth 18 has basic blocks', groups=8, depth=18),
    refuse("style='caffe'.* depth 18", style='caffe', depth=18),
    refuse('base_width=4', base_width=4, depth=34),
    refuse('branches=.* depth 18 has basic', branches=[{}], depth=18),
    refuse('branches must list one dict.*dilation', branches=[],
           attention=SEL),
    refuse('branches must list one dict.*dilation', attention=SEL,
           branches=[dict(kernel_size=5)]),
    refuse('branches must list one dict.*dilation', attention=SEL,
           branches=dict(dilation=2)),
    refuse('branches need a fusion', branches=[dict(dilation=2)]),
    refuse("attention of branches has no type 'SE'; known are AFF, Add, ",
           attention=SE16, branches=[dict(dilation=2)]),
    refuse("attention has no type 'SelectiveFusion'; known are ",
           attention=SEL),
    refuse('groups=64 leave no channel', groups=64),
    refuse('base_width=4 and width_per_group=8', base_width=4,
           width_per_group=8),
    refuse('expansion=2: the blocks of depth .* have 4', expansion=2),
    refuse('expansion=4: the blocks of depth 18 have 1', expansion=4,
           depth=18),
    refuse('drop_path_rate', drop_path_rate=1.),
    refuse('drop_path_rate', drop_path_rate=-0.1),
    refuse("ResNet takes no plugins.*attention=dict.*attention_at='output'",
           plugins=[dict(cfg=dict(type='ContextBlock'),
                         position='after_conv3')]),
    # how it starts
    refuse('pretrained and init_cfg', pretrained='a.pth',
           init_cfg=dict(type='Kaiming')),
    refuse("on_partial_load must be 'error' or 'warn', got 'maybe'",
           on_partial_load='maybe'),
    # lengths of lists
    refuse('attention lists 3 entries for 4 stages', attention=[SE16] * 3),
    refuse('attention of layer1 lists 3 entries for 2 blocks',
           attention=[[SE16] * 3, None, None, None]),
    refuse('depth_fusion lists 2 entries', depth_fusion=[SEL, None]),
    refuse('stage_attention lists 1 entries', stage_attention=[SE16]),
    refuse('attention_at lists 2 entries', attention=SE16,
           attention_at=['output', 'output']),
    refuse('link lists 5 entries', attention=SE16,
           link=[dict(type='DCA')] * 5),
    # what words say
    refuse('layer2 has one; give None', depth_fusion=SEL),
    refuse("no place 'branch'", attention=SE16, attention_at='branch'),
    refuse("BasicBlock has no place 'hidden'", attention=SE16,
           attention_at='hidden', depth=18),
    refuse('conv2 .* BasicBlock', conv2=dict(type='Conv2d'), depth=18),
    refuse('link=.* needs an attention', link=dict(type='DCA')),
    refuse('attention_at=.* needs an attention', attention_at='hidden'),
    refuse("attention must be None or a dict with a 'type'.*ECA.*SE.*got 3",
           TypeError, attention=3),
    refuse('attention must be None or a dict', TypeError,
           attention=dict(ratio=4)),
    refuse('attention must be None or a dict', TypeError, attention='SE'),
    refuse("attention has no type 'SEE'; known are .*ECA.*SE",
           attention=dict(type='SEE')),
    refuse("fusion has no type 'Sum'; known are .*Add.*SelectiveFusion",
           fusion=dict(type='Sum')),
    refuse("depth_fusion has no type 'SDA'; known are .*SelectiveFusion",
           depth_fusion=dict(type='SDA')),
    refuse("link has no type 'Dca'; known are .*DCA.*MapLink",
           attention=SE16, link=dict(type='Dca')),
    refuse("conv2 has no type 'Conv5d'; known are .*Conv2d",
           conv2=dict(type='Conv5d')),
    refuse('attention: SE has no option ration; it has ratio.*_delete_',
           attention=dict(type='SE', ration=4)),
    refuse('attention: GE has no option ration; it has size, ratio',
           attention=dict(type='GE', ration=4)),
    refuse('ratio=4 is theta-plus, which needs the size',
           attention=dict(type='GE', ratio=4)),
    refuse('depth_fusion: SelectiveFusion has no option rat',
           depth_fusion=[dict(SEL, rat=4), None, None, None]),
    refuse('ratio=64.*in_channels=32', attention=dict(type='SE', ratio=64)),
])
def test_refused(kind, words, options):
    with pytest.raises(kind, match=f'(?s){words}'):
        tiny(**options)


# A part of another kind would be built and fail far from its cause.
@pytest.mark.parametrize('word,name', [
    ('attention', 'Add'), ('attention', 'SelectiveFusion'),
    ('attention', 'DCA'), ('attention', 'MapLink'), ('attention', 'ReLU'),
    ('attention', 'ResNet'), ('stage_attention', 'Add'), ('fusion', 'SE'),
    ('fusion', 'ReLU'), ('depth_fusion', 'SE'), ('link', 'SE'),
    ('link', 'Add'), ('conv2', 'SE'), ('conv2', 'ReLU')
])
def test_a_part_of_another_kind_is_refused(word, name):
    options = dict({word: dict(type=name)})
    if word == 'link':
        options['attention'] = SE16
    with pytest.raises((TypeError, ValueError), match=f'{word}.*{name}'):
        tiny((2, 2, 2, 2), **options)


# The slot decides these.
@pytest.mark.parametrize('word,cfg', [
    ('attention', dict(type='SE', in_channels=8)),
    ('fusion', dict(type='SelectiveFusion', num_maps=3)),
    ('depth_fusion', dict(type='SelectiveFusion', num_maps=9)),
    ('depth_fusion', dict(type='SelectiveFusion', in_channels=9)),
    ('link', dict(type='MapLink', carry_channels=9)),
    ('link', dict(type='DCA', carry_channels=9)),
])
def test_what_the_slot_decides_is_no_option(word, cfg):
    options = {word: cfg}
    if word == 'link':
        options['attention'] = SE16
    option = [key for key in cfg if key != 'type'][0]
    with pytest.raises(ValueError, match=f'{word}: .* has no option {option}'):
        tiny((2, 2, 2, 2), **options)


def test_it_can_be_built_on_the_meta_device():
    """Where complexity is counted: no memory, no time."""
    with torch.device('meta'):
        net = ResNet(50, drop_path_rate=0.1)
        y = net.eval()(torch.empty(1, 3, 75, 53))[-1]
    assert y.shape == (1, 2048, 3, 2)


def test_options_are_keywords():
    with pytest.raises(TypeError, match='positional'):
        ResNet(50, SE16)


@pytest.mark.parametrize('words', [{}, WORDS])
def test_autocast_keeps_bfloat16(words):
    net = tiny(**words).eval()
    x = torch.randn(2, 3, 75, 53, dtype=torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = net(x)
    assert {y.dtype for y in outs} == {torch.bfloat16}


tiny_basic = partial(tiny, 18)


def test_parts_fit_basic_blocks():
    net = randomise(
        tiny_basic(
            attention=dict(type='SE', ratio=4),
            link=dict(type='DCA'),
            depth_fusion=SEL)).double()
    x = torch.randn(3, 3, 75, 53).double()
    sum(y.square().sum() for y in net(x)).backward()
    assert all(p.grad is not None for p in net.parameters())
    # Equal widths need no projection, and no match.
    assert net.layer1[1].link.match_fc is None
    assert net.layer2[0].link.match_fc is not None
