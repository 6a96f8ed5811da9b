"""Attention x link: what is carried, that it starts harmless, that it learns.

The networks have two stages of two blocks with different widths, so that
every link of theirs is one of: the first, one inside a stage, one that
matches another width and size.
"""
import inspect
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from samples import randomise
from torch import nn

from mmattn.attentions import (CBAM, ECA, GC, GE, MSCAM, SE, Attention,
                               CoordAttention)
from mmattn.backbones import ResNet, SKNet
from mmattn.fusions import AFF, Fusion, SelectiveFusion
from mmattn.links import (DCA, BranchLink, ChainLink, ChannelLink,
                          ContextLink, Link, MapLink, PooledMapLink,
                          SpatialLink)
from mmattn.registry import MODELS

MODELS.import_from_location()
ATTENTIONS = sorted(
    name for name, cls in MODELS.module_dict.items() if inspect.isclass(cls)
    and issubclass(cls, Attention) and not issubclass(cls, Fusion))
# A chain is connected part by part; the universal link has no step for it.
PAIRS = [(name, 'DCA') for name in ATTENTIONS]
PAIRS += [(name, 'MapLink') for name in ATTENTIONS
          if MODELS.get(name).link_type is not ChainLink]
# Those whose new links change nothing: z = 1 * d + 0 * p.
HARMLESS = [(name, link) for name, link in PAIRS
            if link == 'MapLink' or MODELS.get(name).link_type in
            (MapLink, ContextLink)]

# Parameters whose gradient is zero by algebra; published files hold all but
# the last. The bias of a mix sits before a layer norm, that of CBAM's
# matching convolution before a batch norm, for the attentions' own see
# test_attentions.py. What MapLink adds to all positions, coordinate
# attention's batch norm removes.
ZERO_GRADIENT = {
    'SE': ('link.mix.bias', ),
    'GE': ('link.mix.bias', ),
    'GC': ('attention.mask.bias', ),
    'CBAM': ('match_conv.0.bias', ),
    'CoordAttention': ('attention.fc1.bias', 'link.conv.bias'),
    'MSCAM': ('branch.0.bias', 'branch.3.bias', 'link.conv.bias'),
    'BAM': ('channel_branch.0.bias', 'spatial_branch.0.bias',
            'spatial_branch.3.bias', 'spatial_branch.6.bias',
            'link.conv.bias'),
    'GSoP': ('attention.reduce.bias', ),
}

every_pair = pytest.mark.parametrize('name,link', PAIRS)


def random_map(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def tiny(name='SE', link='DCA', depth=(2, 2), **options):
    """Widths 64 and 128: two hidden channels or more at any ratio."""
    stages = len(depth)
    options.setdefault('attention', dict(type=name))
    return ResNet(
        depth,
        link=dict(type=link) if isinstance(link, str) else link,
        base_channels=16,
        num_stages=stages,
        strides=(1, 2, 2, 2)[:stages],
        dilations=(1, ) * stages,
        out_indices=tuple(range(stages)),
        **options)


def vector(*values):
    return torch.tensor(values).reshape(1, -1, 1, 1)


def map_with_means(*means):
    return vector(*means) + torch.tensor([[-1., 0., 1.]])


def calls_of_links(net, x):
    """``(name, carry in, carry out)`` of every link, in order."""
    calls = []

    def note(name):
        return lambda link, args, out: calls.append((name, args[2], out[1]))

    handles = [
        module.register_forward_hook(note(name))
        for name, module in net.named_modules()
        if name.endswith('link') and isinstance(module, Link)
    ]
    net(x)
    for handle in handles:
        handle.remove()
    return calls


# The matrix


def test_the_matrix_sees_the_registry():
    assert len(PAIRS) >= 11
    assert {name for name, _ in HARMLESS} >= {
        'CoordAttention', 'ECA', 'GC', 'GE', 'SE'
    }


@pytest.mark.parametrize('cls,kind', [
    (SE, ChannelLink), (GE, ChannelLink), (GC, ContextLink),
    (CBAM, ChainLink), (ECA, MapLink), (CoordAttention, MapLink),
    (MSCAM, MapLink), (SelectiveFusion, BranchLink)
])
def test_dca_picks_the_kind(cls, kind):
    attention = cls(32)
    assert type(DCA(attention, 32, None)) is kind
    if cls is CBAM:
        link = DCA(attention, 32, 16)
        assert [type(part) for part in link.links
                ] == [PooledMapLink, SpatialLink]


@every_pair
@pytest.mark.parametrize('training', [True, False])
def test_first_link_only_hands_on(name, link, training):
    net = tiny(name, link)
    first = net.layer1[0]
    assert not list(first.link.parameters())
    assert not list(first.link.buffers())
    assert list(net.layer1[1].link.parameters())
    attention = randomise(first.attention).train(training)
    x = random_map(2, 64, 7, 5, dtype=torch.float32)
    y, carry = first.link(deepcopy(attention), x, None)
    assert torch.equal(y, attention(x))
    assert carry is not None


@every_pair
def test_every_parameter_has_a_gradient(name, link):
    net = randomise(tiny(name, link)).double()
    outs = net(random_map(3, 3, 43, 29))
    sum(y.square().sum() for y in outs).backward()
    largest = {
        key: 0. if p.grad is None else p.grad.abs().max().item()
        for key, p in net.named_parameters()
    }
    for key, value in largest.items():
        assert (value < 1e-8) == key.endswith(ZERO_GRADIENT.get(name, ())), (
            f'{key}: {value}')


@pytest.mark.parametrize('name,link', HARMLESS)
@pytest.mark.parametrize('training', [True, False])
def test_a_new_link_changes_nothing(name, link, training):
    plain = tiny(name, link=None)
    randomise(plain)
    linked = tiny(name, link)
    linked.init_weights()
    linked.load_state_dict(plain.state_dict(), strict=False)
    x = random_map(2, 3, 43, 29)
    linked.double().train(training)
    plain.double().train(training)
    for a, b in zip(linked(x), plain(x)):
        # Not equal to the bit: only the plain one adds while it multiplies.
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@every_pair
def test_unlinked_weights_load(name, link):
    plain, linked = tiny(name, link=None), tiny(name, link)
    missing, unexpected = linked.load_state_dict(
        plain.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all('.link.' in key for key in missing)


@every_pair
def test_forward_keeps_nothing_on_the_modules(name, link):
    net = randomise(tiny(name, link)).eval()
    held = '_parameters', '_buffers', '_modules'

    def snapshot():
        return {
            (key, attribute): dict(value) if attribute in held else value
            for key, module in net.named_modules()
            for attribute, value in vars(module).items()
        }

    before = snapshot()
    state = deepcopy(net.state_dict())
    x = random_map(2, 3, 43, 29, dtype=torch.float32)
    first, again = net(x), net(x)
    after = snapshot()
    assert before.keys() == after.keys()
    for key, value in before.items():
        if key[1] in held:
            assert value.keys() == after[key].keys()
            assert all(value[k] is after[key][k] for k in value)
        else:
            assert value is after[key]
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert all(torch.equal(*pair) for pair in zip(first, again))


@every_pair
def test_autocast_keeps_bfloat16(name, link):
    """A link gives the next convolution no wider map than it got."""
    net = randomise(tiny(name, link))
    x = random_map(2, 3, 43, 29, dtype=torch.bfloat16)
    for training in (True, False):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            outs = net.train(training)(x)
        assert {y.dtype for y in outs} == {torch.bfloat16}


@every_pair
def test_deepcopy_and_state_dict(name, link):
    net = randomise(tiny(name, link)).eval()
    other = tiny(name, link).eval()
    other.load_state_dict(net.state_dict())
    x = random_map(2, 3, 43, 29, dtype=torch.float32)
    for same in (deepcopy(net), other):
        assert all(torch.equal(*pair) for pair in zip(same(x), net(x)))


# What is carried


@every_pair
def test_the_carry_goes_from_link_to_link_across_stages(name, link):
    net = randomise(tiny(name, link)).eval()
    calls = calls_of_links(net, random_map(2, 3, 43, 29, dtype=torch.float32))
    assert [call[0] for call in calls] == [
        'layer1.0.link', 'layer1.1.link', 'layer2.0.link', 'layer2.1.link'
    ]
    assert calls[0][1] is None
    for (_, _, handed), (_, got, _) in zip(calls, calls[1:]):
        assert got is handed


@every_pair
def test_an_early_block_changes_a_later_descriptor(name, link):
    net = randomise(tiny(name, link)).eval()
    x = random_map(2, 3, 43, 29, dtype=torch.float32)
    calls = calls_of_links(net, x)
    attended = random_map(2, 128, 7, 5, dtype=torch.float32)
    block = net.layer2[0]
    with_it, _ = block.link(block.attention, attended, calls[1][2])
    # The same block after another first stage.
    randomise(net.layer1, seed=5)
    other, _ = block.link(block.attention, attended,
                          calls_of_links(net, x)[1][2])
    assert not torch.allclose(with_it, other)


SE8 = dict(type='SE', ratio=8)


@pytest.mark.parametrize('attention,linked', [
    ([SE8, None, SE8, None], ['layer1.0', 'layer1.1', 'layer3.0']),
    ([None, SE8, None, SE8], ['layer2.0', 'layer4.0']),
    ([[SE8, None], None, None, SE8], ['layer1.0', 'layer4.0']),
    ([[None, SE8], SE8, SE8, SE8],
     ['layer1.1', 'layer2.0', 'layer3.0', 'layer4.0']),
])
def test_the_carry_passes_through_what_has_no_attention(attention, linked):
    net = tiny(depth=(2, 1, 1, 1), attention=attention)
    randomise(net).eval()
    calls = calls_of_links(net, random_map(2, 3, 43, 29, dtype=torch.float32))
    assert [name for name, *_ in calls] == [f'{name}.link' for name in linked]
    assert calls[0][1] is None
    for (_, _, handed), (_, got, _) in zip(calls, calls[1:]):
        assert got is handed
    widths = dict(layer1=64, layer2=128, layer3=256, layer4=512)
    for before, name in zip([None] + linked, linked):
        link = net.get_submodule(name).link
        assert bool(list(link.parameters())) == (before is not None)
        if before is not None:
            changes = widths[before[:6]] != widths[name[:6]]
            assert (link.match_fc is not None) == changes
            if changes:
                assert link.match_fc[0].in_features == widths[before[:6]]


def test_an_unlinked_attention_passes_the_carry_through():
    dca = dict(type='DCA')
    net = tiny(depth=(1, 1, 1), link=[dca, None, dca])
    assert net.layer2[0].link is None
    assert net.layer2[0].attention is not None
    calls = calls_of_links(
        net.eval(), random_map(2, 3, 43, 29, dtype=torch.float32))
    assert [call[0] for call in calls] == ['layer1.0.link', 'layer3.0.link']
    assert calls[1][1] is calls[0][2]


def test_the_carry_never_leaves_the_backbone():
    outs = tiny()(random_map(2, 3, 43, 29, dtype=torch.float32))
    assert isinstance(outs, tuple)
    assert all(isinstance(y, torch.Tensor) for y in outs)


def test_links_work_at_the_hidden_place():
    net = randomise(tiny(attention_at='hidden')).double()
    assert net.layer1[0].attention.fc1.in_channels == 16
    assert net.layer2[0].link.match_fc[0].in_features == 16
    assert net.layer2[0].link.match_fc[0].out_features == 32
    outs = net(random_map(3, 3, 43, 29))
    sum(y.square().sum() for y in outs).backward()
    assert all(p.grad is not None for p in net.parameters())


# Each kind by hand


def set_mix(mix, weight, bias, norm_weight, norm_bias):
    mix.norm.eps = 0.
    with torch.no_grad():
        mix.weight.copy_(torch.tensor(weight))
        if bias is not None:
            mix.bias.fill_(bias)
        mix.norm.weight.copy_(torch.tensor(norm_weight))
        mix.norm.bias.copy_(torch.tensor(norm_bias))


def test_channel_link_by_hand():
    attention = GE(2)
    link = ChannelLink(attention, 2, 2)
    set_mix(link.mix, [1., 2.], 3., [2., 3.], [0.5, 1.])
    x = map_with_means(3., 1.)
    y, carry = link(attention, x, vector(0., 1.5))
    # (3, 1) + 2 * (0, 1.5) + 3 = (6, 7), normed (-1, 1),
    # times (2, 3) plus (0.5, 1) is (-1.5, 4), relu (0, 4).
    a = vector(0., 4.).sigmoid()
    torch.testing.assert_close(y, x * a)
    # Handed on is the mean of the attended map: the own descriptor (not the
    # mixed one) times the weight.
    torch.testing.assert_close(carry, vector(3., 1.) * a)
    torch.testing.assert_close(carry, y.mean((2, 3), keepdim=True))


def test_channel_link_weighs_each_of_the_two():
    """A norm over two channels keeps only their order; this one has five."""
    link = randomise(ChannelLink(GE(5), 5, 5)).double()
    d, p = random_map(2, 3, 5, 1, 1)
    first, second = link.mix.weight
    z = (first * d + second * p + link.mix.bias).flatten(1)
    expected = F.relu(
        F.layer_norm(z, (5, ), link.mix.norm.weight, link.mix.norm.bias))
    torch.testing.assert_close(
        link.merge(None, d, p).flatten(1), expected)


def test_channel_link_matches_widths_by_hand():
    link = ChannelLink(GE(2), 2, 3)
    with torch.no_grad():
        link.match_fc[0].weight.copy_(
            torch.tensor([[1., 0., 0.], [0., 2., 1.]]))
        link.match_fc[0].bias.copy_(torch.tensor([1., 0.]))
    link.match_fc[1].eps = 0.
    # (1 + 1, 2 * 2 + 4) = (2, 8), normed (-1, 1), relu (0, 1).
    p = link.match(vector(1., 2., 4.), map_with_means(0., 0.))
    torch.testing.assert_close(p, vector(0., 1.))


def test_channel_link_can_match_through_a_bottleneck():
    link = ChannelLink(GE(12), 12, 7, match_ratio=4)
    first, norm1, relu1, second, norm2, relu2 = link.match_fc
    assert (first.in_features, first.out_features) == (7, 3)
    assert (second.in_features, second.out_features) == (3, 12)
    carry = torch.randn(2, 7)
    expected = norm2(second(norm1(first(carry)).relu())).relu()
    assert torch.equal(
        link.match(carry[..., None, None], None).flatten(1), expected)


def test_mix_bias_changes_nothing_but_the_keys():
    with_bias = ChannelLink(GE(8), 8, 8)
    without = ChannelLink(GE(8), 8, 8, mix_bias=False)
    missing, unexpected = without.load_state_dict(
        with_bias.state_dict(), strict=False)
    assert (missing, unexpected) == ([], ['mix.bias'])
    d, p = torch.randn(2, 3, 8, 1, 1)
    torch.testing.assert_close(
        with_bias.merge(None, d, p), without.merge(None, d, p))


def test_context_link_by_hand():
    attention = GC(2, ratio=1)
    link = ContextLink(attention, 2, 2)
    assert torch.equal(link.weight, torch.zeros(1))
    with torch.no_grad():
        link.weight.fill_(2.)
    d, p = vector(1., 3.), vector(10., -1.)
    torch.testing.assert_close(link.merge(attention, d, p), vector(21., 1.))
    x = map_with_means(1., 3.)
    y, carry = link(attention, x, p)
    # Handed on is the term that was added.
    torch.testing.assert_close(y, x + carry)


def test_context_link_matches_through_a_bottleneck():
    link = ContextLink(GC(32), 32, 64, match_ratio=8)
    shapes = [tuple(p.shape) for p in link.match_fc.parameters()]
    assert shapes == [(4, 64, 1, 1), (4, ), (4, 1, 1), (4, 1, 1),
                      (32, 4, 1, 1), (32, )]
    assert link.match(torch.randn(2, 64, 1, 1), None).shape == (2, 32, 1, 1)


def test_map_link_by_hand():
    attention = GE(2)
    link = MapLink(attention, 2, 2)
    assert torch.equal(link.weight, torch.tensor([1., 0.]))
    with torch.no_grad():
        link.weight.copy_(torch.tensor([2., -1.]))
    x = map_with_means(1., 3.)
    y, carry = link(attention, x, map_with_means(5., 0.))
    torch.testing.assert_close(y, x * vector(2. - 5., 6.).sigmoid())
    assert carry is y


def test_map_link_matches_size_and_width():
    attention = CoordAttention(4, min_channels=2)
    link = MapLink(attention, 4, 3)
    carried = torch.randn(2, 3, 13, 10)
    x = torch.randn(2, 4, 7, 5)
    expected = F.conv2d(
        F.adaptive_avg_pool2d(carried, (7, 5)), link.conv.weight,
        link.conv.bias)
    torch.testing.assert_close(link.match(carried, x), expected)
    # One descriptor per strip, each mixed with its own kind.
    d = link.merge(attention, attention.extract(x), expected)
    assert [tuple(t.shape) for t in d] == [(2, 4, 7, 1), (2, 4, 1, 5)]
    assert MapLink(attention, 4, 4).conv is None


def test_pooled_map_link_by_hand():
    gate = CBAM(2, ratio=1).channel_gate
    link = PooledMapLink(gate, 2, 2)
    set_mix(link.mix, [1., 1.], None, [1., 1.], [0., 2.])
    assert link.mix.bias is None
    d = gate.extract(map_with_means(1., 4.))  # maxima 2, 5
    mean, maximum = link.merge(gate, d, map_with_means(3., -1.))
    # Means (1, 4) + (3, -1) = (4, 3), maxima (2, 5) + (4, 0) = (6, 5):
    # both normed (1, -1), plus (0, 2).
    torch.testing.assert_close(mean, vector(1., 1.))
    torch.testing.assert_close(maximum, vector(1., 1.))


def test_pooled_map_link_matches_at_the_older_size():
    """Convolution, norm and relu come before the pooling."""
    gate = CBAM(4, ratio=1).channel_gate
    link = PooledMapLink(gate, 4, 3).eval()
    carried = torch.randn(2, 3, 13, 10)
    conv, norm, _ = link.match_conv
    expected = F.relu(norm(conv(carried)))
    matched = link.match(carried, torch.randn(2, 4, 7, 5))
    assert torch.equal(matched, expected)
    without = PooledMapLink(gate, 4, 3, match_bias=False)
    assert without.match_conv[0].bias is None


def test_spatial_link_by_hand():
    gate = CBAM(2, ratio=1).spatial_gate
    link = SpatialLink(gate, 2, 5).eval()  # the widths do not matter
    link.norm.eps = 0.
    assert torch.equal(link.weight, torch.tensor([1., 0.]))
    with torch.no_grad():
        link.weight.copy_(torch.tensor([2., -1.]))
        link.norm.bias.copy_(torch.tensor([0., 1.]))
    d = torch.tensor([3., -1.]).reshape(1, 2, 1, 1)
    p = torch.tensor([4., 0.]).reshape(1, 2, 1, 1)  # max 4, mean 2
    # 2 * (3, -1) - (4, 2) + (0, 1) = (2, -3), relu.
    torch.testing.assert_close(link.merge(gate, d, p), vector(2., 0.))


def test_spatial_link_pools_the_map_before_it_looks():
    gate = CBAM(2, ratio=1).spatial_gate
    link = SpatialLink(gate, 2, 3)
    carried = torch.randn(2, 3, 14, 10)
    matched = link.match(carried, torch.randn(2, 2, 7, 5))
    torch.testing.assert_close(matched, F.avg_pool2d(carried, 2))
    # Sizes that do not divide are pooled as well.
    assert link.match(carried, torch.randn(2, 2, 5, 3)).shape[2:] == (5, 3)
    same = torch.randn(2, 3, 7, 5)
    assert link.match(same, torch.randn(2, 2, 7, 5)) is same


def test_chain_link_connects_each_part_to_its_own_kind():
    attention = randomise(CBAM(32)).eval()
    link = randomise(ChainLink(attention, 32, 32)).eval()
    x, before = torch.randn(2, 2, 32, 7, 5)
    carries = (before, before.flip(0))
    y, handed = link(attention, x, carries)
    gate, link0 = attention.channel_gate, link.links[0]
    u = x * gate.transform(
        link0.merge(gate, gate.extract(x), carries[0]))
    gate, link1 = attention.spatial_gate, link.links[1]
    v = u * gate.transform(
        link1.merge(gate, gate.extract(u), carries[1]))
    torch.testing.assert_close(y, v)
    torch.testing.assert_close(handed[0], u)
    assert handed[1] is y


# The branches of SK


def tiny_sk(link=dict(type='DCA'), **options):
    return SKNet((2, 2),
                 link=link,
                 base_channels=16,
                 num_stages=2,
                 strides=(1, 2),
                 dilations=(1, 1),
                 out_indices=(0, 1),
                 attention=dict(type='SelectiveFusion', ratio=2, bias=False),
                 **options)


def test_branch_link_by_hand():
    fusion = randomise(SelectiveFusion(5, min_channels=3)).double().eval()
    link = randomise(BranchLink(fusion, 5, 5)).double()
    xs = random_map(2, 3, 5, 7, 4)
    carries = random_map(2, 3, 5, 1, 1) + 1
    y, handed = link(fusion, xs.unbind(), carries.unbind())
    mixed = []
    for x, p, part in zip(xs, carries, link.links):
        mix = part.mix
        z = mix.weight[0] * x.mean((2, 3)) + mix.weight[1] * p.flatten(1)
        mixed.append(F.relu(F.layer_norm(
            z + mix.bias, (5, ), mix.norm.weight, mix.norm.bias)))
    a = fusion.transform([z[..., None, None] for z in mixed])
    torch.testing.assert_close(y, a[0] * xs[0] + a[1] * xs[1])
    for i in range(2):  # handed on is the mean of each weighted map
        torch.testing.assert_close(
            handed[i], (a[i] * xs[i]).mean((2, 3), keepdim=True))


def test_branches_can_hand_on_the_weights_alone():
    fusion = randomise(SelectiveFusion(5, min_channels=3)).double().eval()
    link = BranchLink(fusion, 5, None, hand_on='weight')
    xs = random_map(2, 3, 5, 7, 4).unbind()
    y, handed = link(fusion, xs, None)
    torch.testing.assert_close(y, handed[0] * xs[0] + handed[1] * xs[1])
    torch.testing.assert_close(sum(handed), torch.ones_like(handed[0]))
    with pytest.raises(ValueError, match="'mean' or 'weight', got 'map'"):
        BranchLink(fusion, 5, None, hand_on='map')


def test_options_of_a_chain_reach_the_part_they_are_for():
    link = DCA(CBAM(32), 32, 16, match_bias=False, published_start=True)
    assert link.links[0].match_conv[0].bias is None
    assert link.links[1].published_start


def test_each_branch_is_matched_by_itself():
    link = BranchLink(SelectiveFusion(4, min_channels=3), 4, 3)
    carries = torch.randn(2, 2, 3, 1, 1).unbind()
    for part, carry, p in zip(link.links, carries, link.match(carries, None)):
        linear, norm, _ = part.match_fc
        assert torch.equal(p.flatten(1), norm(linear(carry.flatten(1))).relu())
    keys = {key for key, _ in link.named_parameters()}
    assert {key.split('.', 2)[2] for key in keys} == {
        'match_fc.0.weight', 'match_fc.0.bias', 'match_fc.1.weight',
        'match_fc.1.bias', 'mix.weight', 'mix.bias', 'mix.norm.weight',
        'mix.norm.bias'
    }


def test_linked_branches_of_a_network():
    net = tiny_sk()
    assert not list(net.layer1[0].link.parameters())
    assert net.layer1[1].link.links[1].match_fc is None
    assert net.layer2[0].link.links[1].match_fc[0].weight.shape == (32, 16)
    x = random_map(3, 3, 43, 29)
    # In training the batch norm removes what shifts all images alike.
    calls = calls_of_links(randomise(net).double().eval(), x)
    assert [name for name, *_ in calls] == [
        f'layer{i}.{j}.link' for i in (1, 2) for j in (0, 1)
    ]
    assert calls[0][1] is None
    for (_, _, handed), (_, got, _) in zip(calls, calls[1:]):
        assert got is handed and len(got) == 2
    sum(y.square().sum() for y in net(x)).backward()
    for key, p in net.named_parameters():
        zero = p.grad is None or p.grad.abs().max() < 1e-8
        assert zero == key.endswith('mix.bias'), key


def test_unlinked_branches_load_into_linked_ones():
    missing, unexpected = tiny_sk().load_state_dict(
        tiny_sk(link=None).state_dict(), strict=False)
    assert not unexpected
    assert missing and all('.link.' in key for key in missing)


@pytest.mark.parametrize('make,words', [
    (lambda: BranchLink(SE(16), 16, None), 'SE cannot have a BranchLink'),
    (lambda: MapLink(AFF(16), 16, None), 'AFF cannot have a MapLink'),
    (lambda: tiny_sk(link=dict(type='MapLink')), 'SelectiveFusion cannot'),
])
def test_branches_need_their_own_link(make, words):
    with pytest.raises(TypeError, match=words):
        make()


# The published start of DCA-CBAM


@pytest.mark.parametrize('published', [False, True])
def test_the_published_start_kills_the_spatial_gate(published):
    net = tiny('CBAM', dict(type='DCA', published_start=published),
               zero_init_residual=False)
    net.init_weights()
    net.double()
    outs = net(random_map(3, 3, 43, 29))
    sum(y.square().sum() for y in outs).backward()
    dead = {
        key.split('.', 2)[2]
        for key, p in net.named_parameters()
        if p.grad.abs().max() == 0 and not key.startswith('layer1.0')
    }
    assert ('link.links.1.norm.weight' in dead) == published
    assert ('attention.spatial_gate.conv.weight' in dead) == published


@pytest.mark.parametrize('name', ['PooledMapLink', 'SpatialLink'])
def test_one_image_is_too_few_to_train_a_norm(name):
    attention = CBAM(4, ratio=1)
    gate = attention.channel_gate if 'Pooled' in name else (
        attention.spatial_gate)
    link = MODELS.get(name)(gate, 4, 3)
    x = torch.randn(1, 4, 1, 1)
    with pytest.raises(ValueError, match=f'{name}: one image and a 1x1 map'):
        link(gate.eval(), x, torch.randn(1, 3, 1, 1))
    link.eval()(gate, x, torch.randn(1, 3, 1, 1))


# What is refused


def test_map_link_cannot_step_into_a_chain():
    with pytest.raises(TypeError, match='CBAM cannot be linked: it has no '
                       'extract, transform'):
        tiny('CBAM', 'MapLink')


def test_an_attention_without_phases_cannot_be_linked():
    with pytest.raises(TypeError, match='Conv2d cannot be linked'):
        MapLink(nn.Conv2d(8, 8, 1), 8, None)


@pytest.mark.parametrize('attention', [
    [dict(type='SE'), dict(type='GC')],
    [[dict(type='SE'), dict(type='GE')], None],
    [dict(type='GC'), [None, dict(type='SE')]],
])
def test_kinds_do_not_mix(attention):
    with pytest.raises(ValueError, match='cannot link .* one kind'):
        tiny(attention=attention)


def test_kinds_of_links_do_not_mix():
    """A map that one hands on is not the vector the other takes."""
    with pytest.raises(ValueError, match='cannot link ChannelLink to MapLink'):
        tiny(attention=dict(type='SE'),
             link=[dict(type='MapLink'), dict(type='DCA')])


def test_kinds_may_mix_without_a_link_between_them():
    net = tiny(
        attention=[dict(type='SE'), dict(type='GC')],
        link=[dict(type='DCA'), None])
    assert net.layer2[0].link is None


@pytest.mark.parametrize('link', [dict(type='DCA'), [dict(type='DCA'), None]])
@pytest.mark.parametrize('attention', [None, [None, None], [[None, None],
                                                           None]])
def test_a_link_needs_an_attention(attention, link):
    with pytest.raises(ValueError, match='link=.* needs an attention'):
        tiny(attention=attention, link=link)


def test_a_stage_with_a_link_of_its_own_needs_an_attention():
    with pytest.raises(ValueError, match='link.* needs an attention'):
        tiny(attention=[dict(type='SE'), None],
             link=[None, dict(type='DCA')])


def test_unknown_options_of_a_link_are_refused():
    with pytest.raises(ValueError, match='MapLink has no option ratio'):
        tiny(link=dict(type='MapLink', ratio=2))
    with pytest.raises((TypeError, ValueError), match='ratio'):
        tiny(link=dict(type='DCA', ratio=2))


def test_a_match_ratio_must_leave_a_hidden_channel():
    with pytest.raises(ValueError, match='match_ratio=16.*in_channels=8'):
        ContextLink(GC(8, ratio=1), 8, 4)
    for ratio, words in ((9, 'match_ratio=9.*in_channels=8'),
                         (0, 'match_ratio must be a positive')):
        with pytest.raises(ValueError, match=words):
            ChannelLink(GE(8), 8, 4, match_ratio=ratio)


# The published networks

# DCANet's ResNet-50 classifiers (13952522076/DCANet, models/resnet/
# resnet_{se,getheta,gc,cbam}_dca.py): all parameters, less the classifier
# (2048 * 1000 + 1000), less what their first block holds and cannot use.
CLASSIFIER = 2_049_000
PUBLISHED = dict(
    SE=30_898_696 - CLASSIFIER - 17_667,
    GE=28_367_704 - CLASSIFIER - 17_667,
    GC=28_630_824 - CLASSIFIER - 5_425,
    CBAM=30_900_376 - CLASSIFIER - 17_672)
SK = 37_482_720 - CLASSIFIER - 262


@pytest.mark.parametrize('name', PUBLISHED)
def test_parameters_of_the_published_networks(name):
    net = ResNet(50, attention=dict(type=name), link=dict(type='DCA'))
    count = sum(p.numel() for p in net.parameters())
    assert count == PUBLISHED[name]


def test_parameters_of_the_published_sk():
    for link, parameters in ((None, 37_118_080 - CLASSIFIER),
                             (dict(type='DCA'), SK)):
        net = SKNet(50, link=link)
        assert sum(p.numel() for p in net.parameters()) == parameters
