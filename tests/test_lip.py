"""LIP's networks: what is theirs alone.

Their operators are tested in test_peer_attentions.py; what holds for every
network in test_peer_networks.py.
"""
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as ROOT_MODELS
from samples import randomise
from test_peer_networks import blocks_of, count, parts, random_image, sizes

from mmattn.backbones import Bottleneck, LIPBottleneck, LIPResNet, ResNet

TINY = dict(depth=(2, 1, 2, 1), base_channels=8)
SEL = dict(type='SelectiveFusion', ratio=16, min_channels=8)


def close(x, y):
    torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


# sebgao/LIP, less the classifier
@pytest.mark.parametrize('depth, parameters', [
    (50, 23_864_232), (101, 42_856_360)])
def test_parameters(depth, parameters):
    with torch.device('meta'):
        net = LIPResNet(depth)
        outs = net.eval()(torch.empty(1, 3, 75, 53))
    assert count(net) == parameters - 2_049_000
    assert [y.shape[1] for y in outs] == [256, 512, 1024, 2048]
    assert sizes(outs) == [(19, 14), (10, 7), (5, 4), (3, 2)]


# The formula, on our names


class Published:
    """The network in plain tensors, by its own form of the gate."""

    def __init__(self, net):
        self.state = net.state_dict()

    def batch_norm(self, x, name):
        return F.batch_norm(x, *(
            self.state[f'{name}.{leaf}']
            for leaf in ('running_mean', 'running_var', 'weight', 'bias')))

    def instance_norm(self, x, name):
        x = x - x.mean((2, 3), keepdim=True)
        x = x / (x.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        weight, bias = (
            self.state[f'{name}.{leaf}'] for leaf in ('weight', 'bias'))
        return x * weight[:, None, None] + bias[:, None, None]

    def conv(self, x, name, stride=1, groups=1):
        weight = self.state[f'{name}.weight']
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1,
                        groups)

    def lip(self, x, source, name):
        logits = self.conv(source, f'{name}.gate.conv')
        logits = self.instance_norm(logits, f'{name}.gate.norm')
        # Each window's weights, zero beyond the border.
        w = (12 * logits.sigmoid()).exp()
        h, v = (-(-n // 2) for n in x.shape[2:])
        total, weights = (
            F.unfold(y, 3, padding=1, stride=2).view(*x.shape[:2], 9, h, v)
            .sum(2) for y in (x * w, w))
        return total / weights

    def block(self, x, name, pools, groups=1):
        y = self.batch_norm(self.conv(x, f'{name}.conv1'), f'{name}.bn1')
        y = y.relu()
        if pools:
            t = x
            for i in (0, 3):
                t = self.conv(t, f'{name}.lip_trunk.{i}')
                t = self.instance_norm(t, f'{name}.lip_trunk.{i + 1}').relu()
            y = self.lip(y, t, f'{name}.lip')
            x = self.lip(x, t, f'{name}.downsample_lip')
        y = self.conv(y, f'{name}.conv2', groups=groups)
        y = self.batch_norm(y, f'{name}.bn2').relu()
        y = self.batch_norm(self.conv(y, f'{name}.conv3'), f'{name}.bn3')
        if f'{name}.downsample.0.weight' in self.state:
            x = self.conv(x, f'{name}.downsample.0')
            x = self.batch_norm(x, f'{name}.downsample.1')
        return x + y


@pytest.mark.parametrize('groups', [1, 2])
def test_formula_of_a_block(groups):
    block = randomise(
        LIPBottleneck(12, 8, 2, 1, parts(), groups=groups)).double().eval()
    x = random_image(2, 12, 9, 14, dtype=torch.float64)
    holder = torch.nn.ModuleDict(dict(b=block))
    close(block(x)[0], Published(holder).block(x, 'b', True, groups))


@pytest.mark.parametrize('size', [(75, 53), (64, 34)])
def test_formula_of_a_network(size):
    net = randomise(LIPResNet(**TINY)).double().eval()
    x = random_image(2, 3, *size, dtype=torch.float64)
    by = Published(net)
    y = by.batch_norm(by.conv(x, 'conv1', 2), 'bn1').relu()
    y = by.lip(y, y, 'maxpool')
    for stage, (depth, z) in enumerate(zip(TINY['depth'], net(x)), 1):
        for i in range(depth):
            y = by.block(y, f'layer{stage}.{i}', i == 0 and stage > 1).relu()
        close(z, y)


def test_which_blocks_pool():
    net = LIPResNet(**TINY, strides=(1, 2, 1, 2), dilations=(1, 1, 2, 1))
    pools = [type(block) is LIPBottleneck for block in blocks_of(net)]
    assert pools == [False, False, True, False, False, True]
    assert net.layer3[0].conv2.dilation == (2, 2)
    assert net.layer4[0].lip.window == net.layer4[0].downsample_lip.window
    assert LIPResNet(**TINY, groups=2).layer2[0].conv2.groups == 2


# Start and training


def test_it_starts_as_a_network_that_averages():
    net = LIPResNet(**TINY)
    net.init_weights()
    net.double().eval()
    x = random_image(2, 3, 75, 53, dtype=torch.float64)
    y = net.relu(net.bn1(net.conv1(x)))
    average = dict(kernel_size=3, stride=2, padding=1, count_include_pad=False)
    close(net.forward_stem(x), F.avg_pool2d(y, **average))
    block = net.layer2[0]
    x = random_image(2, 32, 9, 7, dtype=torch.float64)
    # The branch's last norm is zero.
    close(block(x)[0], block.downsample(F.avg_pool2d(x, **average)))


def test_training_reaches_every_parameter():
    """From the start it has, where gates and last norms are zero."""
    torch.manual_seed(1)
    net = LIPResNet(**TINY)
    net.init_weights()
    net.double()
    before = deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    x, losses = random_image(4, 3, 65, 49, dtype=torch.float64), []
    # The branch's end moves first, then its gates, then what those read.
    for _ in range(5):
        loss = sum((y.mean((2, 3)) - 1).square().mean() for y in net(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not [key for key, p in net.named_parameters()
                if torch.equal(p, before[key])]


@pytest.mark.parametrize('attention', [
    dict(type='SE', ratio=4), dict(type='CoordAttention')])
@pytest.mark.parametrize('fusion', ['AFF', 'IAFF', 'Add'])
def test_composes(attention, fusion):
    net = randomise(
        LIPResNet(
            **TINY,
            attention=attention,
            link=dict(type='DCA'),
            fusion=dict(type=fusion),
            depth_fusion=[SEL, None, SEL, None])).double()
    outs = net(random_image(3, 3, 75, 53, dtype=torch.float64))
    sum(y.square().sum() for y in outs).backward()
    assert all(p.grad is not None for p in net.parameters())
    for key, p in net.named_parameters():
        if 'lip' in key or 'maxpool' in key:
            assert p.grad.abs().max() > 0, key


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
def test_large_logits_do_not_overflow(dtype):
    net = randomise(LIPResNet(**TINY)).eval()
    with torch.no_grad():
        for key, p in net.named_parameters():
            if 'gate.norm' in key:
                p.fill_(100.)
    x = random_image(2, 3, 75, 53)
    with torch.autocast('cpu', torch.bfloat16,
                        enabled=dtype is torch.bfloat16):
        outs = net(x)
    assert {y.dtype for y in outs} == {dtype}
    assert all(y.isfinite().all() for y in outs)


def test_a_frozen_stem_keeps_its_pooling():
    net = LIPResNet(**TINY, frozen_stages=0).train()
    assert not any(p.requires_grad for p in net.maxpool.parameters())
    assert net.layer2[0].lip.gate.conv.weight.requires_grad


def test_what_a_config_builds():
    net = ROOT_MODELS.build(dict(type='mmattn.LIPResNet', **TINY))
    assert type(net) is LIPResNet
    assert type(net.layer1[0]) is Bottleneck


# Checkpoints


def test_weights_of_a_resnet_are_part_of_a_trunk():
    net, state = LIPResNet(**TINY), ResNet(**TINY).state_dict()
    with pytest.raises(RuntimeError) as error:
        net.load_state_dict(state)
    for words in (
            'LIPResNet loads trunk ', 'Only some of the trunk',
            'The file lacks maxpool.gate.conv.weight, ',
            'layer2.0.conv2.weight (16, 16, 3, 3) for (16, 16, 1, 1)'):
        assert words in str(error.value)
    with pytest.raises(RuntimeError, match='The file has more of a trunk: '
                       'layer2.0.lip_trunk.0.weight'):
        ResNet(**TINY).load_state_dict(net.state_dict())


def test_weights_for_other_strides_are_part_of_a_trunk():
    dilated = LIPResNet(
        **TINY, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    with pytest.raises(RuntimeError, match='layer3.0.conv2.weight .32, 32, 1, '
                       '1. for .32, 32, 3, 3.'):
        dilated.load_state_dict(LIPResNet(**TINY).state_dict())


def test_added_parts_may_be_missing():
    words = dict(attention=dict(type='SE', ratio=4), link=dict(type='DCA'))
    state = LIPResNet(**TINY).state_dict()
    found = LIPResNet(**TINY, **words).load_state_dict(state, strict=False)
    assert not found.unexpected_keys
    assert {key.split('.')[2] for key in found.missing_keys} == {
        'attention', 'link'}


# What is refused

CONV = dict(type='Conv2d')


@pytest.mark.parametrize('options, words', [
    (dict(depth=18), r'depth 18 is none of \[50, 86, 101, 152\]'),
    (dict(style='caffe'), 'style, avg_down and branches belong to ResNet'),
    (dict(avg_down=True), 'style, avg_down and branches belong to ResNet'),
    (dict(branches=[dict(dilation=2)]), 'branches belong to ResNet'),
    (dict(conv2=CONV), r'pools instead; give None for it, conv2=\[X, \[None'),
    (dict(dcn=CONV, stage_with_dcn=(False, True, True, True)), 'dcn replace'),
    (dict(dilations=(1, 1, 1, 2)), 'dilation=2 is for a 3x3 .* the stride 1'),
])
def test_refused(options, words):
    with pytest.raises(ValueError, match=words):
        LIPResNet(**{**TINY, **options})


def test_what_is_not_refused_of_it():
    net = LIPResNet(
        **TINY, conv2=[CONV, None, [None, CONV], None],
        dilations=(1, 1, 2, 1), contract_dilation=True)
    assert net.layer3[1].conv2.dilation == (2, 2)
    assert sizes(net(random_image(2, 3, 33, 17))) == [
        (9, 5), (5, 3), (3, 2), (2, 1)]


def test_an_image_that_is_too_small():
    net = LIPResNet(**TINY).eval()
    assert sizes(net(random_image(1, 3, 16, 17)))[-1] == (1, 1)
    with pytest.raises(ValueError, match='its instance norm needs more than '
                       'one position and got a 1x1 map'):
        net(random_image(1, 3, 16, 16))
