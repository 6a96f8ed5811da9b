"""What a record collects, and that it leaves no trace."""
import io
from copy import deepcopy

import pytest
import torch
from samples import randomise
from torch import nn

import mmattn
from mmattn.attentions import CBAM, GC, SE, CoordAttention
from mmattn.backbones import MobileNetV2, ResNet
from mmattn.fusions import SelectiveFusion
from mmattn.links import DCA, BranchLink, ContextLink, MapLink

SE4 = dict(type='SE', ratio=4)
DEPTHS = dict(type='SelectiveFusion', min_channels=4)


def small(**words):
    net = ResNet(50, base_channels=8, stem_channels=8, **words)
    return randomise(net).eval()


def image(*size):
    return torch.randn(*size)


def traces(net):
    return {name: set(vars(m)) for name, m in net.named_modules()}


@pytest.mark.parametrize('link', [None, dict(type='DCA')])
def test_weights_of_each_attention_in_call_order(link):
    net = small(attention=SE4, link=link)
    with mmattn.record(net) as kept:
        net(image(2, 3, 33, 47))
    names = [f'layer{s + 1}.{b}.attention'
             for s, n in enumerate((3, 4, 6, 3)) for b in range(n)]
    assert list(kept.weights) == names
    assert [n for n in kept.calls if n in kept.weights] == names
    for name in names:
        a, = kept.weights[name]
        assert a.shape == (2, net.get_submodule(name).fc2.out_channels, 1, 1)
        assert not a.requires_grad
    assert set(kept.shares) == {
        name.replace('attention', 'link') for name in names[1:] if link}


def test_the_weights_are_those_that_attended():
    layer, x = randomise(SE(8, ratio=2)), image(2, 8, 5, 7)
    with mmattn.record(layer) as kept:
        y = layer(x)
    a, = kept.weights['']
    torch.testing.assert_close(y, x * a, rtol=0, atol=0)


def test_one_entry_for_each_call():
    layer = SE(8, ratio=2)
    with mmattn.record(layer) as kept:
        layer(image(2, 8, 5, 7))
        layer(image(3, 8, 4, 3))
    assert [len(a) for a in kept.weights['']] == [2, 3]
    kept.clear()
    assert not (kept.weights or kept.shares or kept.calls)


def test_a_chain_gives_its_parts():
    net = small(attention=dict(type='CBAM', ratio=4), link=dict(type='DCA'))
    with mmattn.record(net) as kept:
        net(image(2, 3, 65, 97))
    assert [n for n in kept.calls if n.startswith('layer1.1')] == [
        'layer1.1.link.links.0', 'layer1.1.attention.channel_gate',
        'layer1.1.link.links.1', 'layer1.1.attention.spatial_gate'
    ]
    a, = kept.weights['layer1.0.attention.spatial_gate']
    assert a.shape == (2, 1, 17, 25)


def test_a_stage_gives_the_shares_of_its_blocks():
    net = small(depth_fusion=DEPTHS)
    with mmattn.record(net) as kept:
        net(image(2, 3, 33, 47))
    assert list(kept.weights) == [
        f'layer{i}.depth_fusion' for i in (1, 2, 3, 4)]
    shares, = kept.weights['layer3.depth_fusion']
    assert [a.shape for a in shares] == [(2, 128, 1, 1)] * 6
    torch.testing.assert_close(sum(shares), torch.ones(2, 128, 1, 1))


def test_joins_give_theirs_and_addition_none():
    net = small(fusion=[dict(type='AFF'), None, None, None])
    with mmattn.record(net) as kept:
        net(image(2, 3, 33, 47))
    assert set(kept.weights) == {
        f'layer1.{i}.fusion{part}' for i in range(3) for part in ('', '.gate')}
    assert set(kept.names) == set(kept.weights)


def test_mobile_networks_and_rows_and_columns():
    net = randomise(MobileNetV2(
        0.25, attention=dict(type='CoordAttention', min_channels=4))).eval()
    with mmattn.record(net) as kept:
        net(image(1, 3, 65, 97))
    rows, columns = kept.weights['layer2.0.attention'][0]
    assert rows.shape[2:] == (17, 1) and columns.shape[2:] == (1, 25)


def test_a_branch_link_gives_a_share_for_each_branch():
    fusion = SelectiveFusion(8, 2, min_channels=4, norm_cfg=dict(type='BN'))
    link = BranchLink(fusion, 8, 8)
    net = nn.ModuleDict(dict(fusion=fusion, link=link)).eval()
    xs = [image(2, 8, 5, 7) for _ in range(2)]
    with mmattn.record(net) as kept:
        _, carry = link(fusion, xs)
        link(fusion, xs, carry)
    assert list(kept.shares) == ['link.links.0', 'link.links.1']


# -- shares ----------------------------------------------------------------


def share_of(attention, link, x, carry):
    with mmattn.record(link) as kept:
        link(attention, x, carry)
    return kept.shares[''][0]


def test_share_of_a_channel_link_by_hand():
    attention = SE(2, ratio=2)
    link = DCA(attention, 2, 2)
    with torch.no_grad():
        link.mix.weight.copy_(torch.tensor([-3., 1.]))
    x = torch.tensor([2., -4.]).view(1, 2, 1, 1).repeat(2, 1, 3, 5)
    carry = torch.tensor([[6., 12.], [0., 0.]]).view(2, 2, 1, 1)
    # own: 3 * (2 + 4) = 18; recycled: 6 + 12 = 18, and nothing
    assert share_of(attention, link, x, carry).tolist() == [0.5, 0]


def test_share_of_a_context_link_by_hand():
    attention = GC(4, ratio=2)
    link = ContextLink(attention, 4, 4)
    nn.init.constant_(link.weight, 0.5)
    x = torch.ones(1, 4, 3, 5)  # its context is 1 whatever the mask
    share = share_of(attention, link, x, torch.full((1, 4, 1, 1), -6.))
    torch.testing.assert_close(share, torch.tensor([0.75]))


@pytest.mark.parametrize('make', [CoordAttention, SE])
def test_a_new_map_link_takes_nothing(make):
    attention = make(32)
    link = MapLink(attention, 32, 32)
    x, carry = image(2, 32, 5, 7), image(2, 32, 9, 11)
    assert share_of(attention, link, x, carry).tolist() == [0, 0]
    with torch.no_grad():  # equal maps, three parts of four recycled
        link.weight.copy_(torch.tensor([1., 3.]))
    torch.testing.assert_close(
        share_of(attention, link, x, x), torch.full((2, ), 0.75))


def test_nothing_of_nothing_is_no_share():
    attention = SE(4, ratio=2)
    link = DCA(attention, 4, 4)
    share = share_of(attention, link, torch.zeros(2, 4, 3, 5),
                     torch.zeros(2, 4, 1, 1))
    assert share.tolist() == [0, 0]


# -- no trace --------------------------------------------------------------


def net_of_all():
    return small(attention=SE4, link=dict(type='DCA'), depth_fusion=DEPTHS)


def test_nothing_changes_and_nothing_stays():
    net, x = net_of_all(), image(1, 3, 33, 47)
    before, plain = traces(net), net(x)
    with mmattn.record(net):
        inside = net(x)
    for each in (inside, net(x)):
        for a, b in zip(plain, each):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert traces(net) == before


def test_nothing_stays_behind_an_error():
    net = net_of_all()
    before = traces(net)
    with pytest.raises(RuntimeError, match='mine'):
        with mmattn.record(net):
            raise RuntimeError('mine')
    with pytest.raises(RuntimeError):
        with mmattn.record(net):
            net(image(1, 5, 33, 47))  # five colours
    assert traces(net) == before


def test_records_nest():
    net, x = net_of_all(), image(1, 3, 33, 47)
    before = traces(net)
    with mmattn.record(net) as outer:
        net(x)
        once = len(outer.calls)
        with mmattn.record(net) as inner:
            net(x)
        net(x)
    assert (len(outer.calls), len(inner.calls)) == (3 * once, once)
    assert traces(net) == before


def test_copies_are_their_own():
    net, x = net_of_all(), image(1, 3, 33, 47)
    file = io.BytesIO()
    with mmattn.record(net) as kept:
        twin = deepcopy(net)
        torch.save(net, file)
        file.seek(0)
        read = torch.load(file, weights_only=False)
        for copy in (twin, read, deepcopy(twin)):
            with torch.no_grad():
                for parameter in copy.parameters():
                    parameter.zero_()
            # its own weights decide, not those of the recorded network
            assert all(not y.any() for y in copy(x))
        assert not kept.calls
    net(x)
    assert not kept.calls


def test_gradients_flow_as_without():
    net, x = net_of_all(), image(1, 3, 33, 47)

    def gradients():
        net.zero_grad()
        net(x)[-1].square().mean().backward()
        return [p.grad.clone() for p in net.parameters()
                if p.grad is not None]

    plain = gradients()
    with mmattn.record(net):
        recorded = gradients()
    torch.testing.assert_close(recorded, plain, rtol=0, atol=0)


def test_a_plain_network_has_nothing_to_record():
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    with mmattn.record(net) as kept:
        net(image(1, 3, 5, 7))
    assert kept.names == kept.calls == []


def test_names_are_those_that_can_decide():
    chain = CBAM(8, ratio=4)
    with mmattn.record(chain) as kept:
        pass
    assert kept.names == ['channel_gate', 'spatial_gate']
