"""An attention added to a trained network changes nothing at first.

``gate_init='identity'``: equal to the bit at step 0, and not stuck there.
"""
import pytest
import torch
from samples import in_one_graph, randomise
from torch import nn

from mmattn.attentions import (BAM, CBAM, ECA, GC, GE, SE, CoordAttention,
                               Fca)
from mmattn.backbones import (MNASNet, MobileNetV2, MobileNetV3, MobileNeXt,
                              ResNet, SKNet)
from mmattn.checkpoints.report import part_of
from mmattn.fusions import AFF, IAFF

CHANNELS = 16
IDENTITY = dict(gate_init='identity')
GATES = [
    (SE, dict(ratio=4)),
    (SE, dict(ratio=4, bias=False, gate='hardsigmoid')),
    (Fca, dict(ratio=4, num_frequencies=4)),
    (ECA, dict(kernel_size=3)),
    (CBAM, dict(ratio=4)),
    (CBAM, dict(ratio=4, bias=False, norm_cfg=None)),
    (CoordAttention, dict(ratio=2)),
]
every_gate = pytest.mark.parametrize(
    'cls, options', GATES,
    ids=[f'{cls.__name__}-{"-".join(options)}' for cls, options in GATES])


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Nets this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_map(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def kaiming_first(layer):
    """Initialise as inside a backbone, which has its own values for convs."""
    for module in layer.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight)
    layer.init_weights()
    return layer


# -- one attention ---------------------------------------------------------


@every_gate
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('initialised', [True, False])
def test_a_new_gate_is_the_identity(cls, options, training, initialised):
    layer = cls(CHANNELS, **options, **IDENTITY).train(training)
    if initialised:
        kaiming_first(layer)
    x = random_map(2, CHANNELS, 7, 5)
    assert torch.equal(layer(x), x)
    plain = cls(CHANNELS, **options).train(training)
    assert not torch.allclose(plain(x), x, rtol=0.1)


@every_gate
def test_names_and_shapes_are_the_published_ones(cls, options):
    new, plain = cls(CHANNELS, **options, **IDENTITY), cls(CHANNELS, **options)
    assert ({k: v.shape for k, v in new.state_dict().items()} ==
            {k: v.shape for k, v in plain.state_dict().items()})


@every_gate
def test_every_parameter_is_trained_from_the_second_step(cls, options):
    layer = kaiming_first(cls(CHANNELS, **options, **IDENTITY))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    target = random_map(3, CHANNELS, 7, 5, seed=2)
    alive = []
    for _ in range(2):
        optimizer.zero_grad()
        x = random_map(3, CHANNELS, 7, 5)
        (layer(x) - target).square().sum().backward()
        alive.append({
            name for name, p in layer.named_parameters() if p.grad.any()
        })
        optimizer.step()
    # A bias before a batch norm never has one.
    names = {name for name, _ in layer.named_parameters()}
    assert alive[0] and names - alive[1] <= {'fc1.bias'}


@every_gate
def test_the_gate_is_twice_the_published_one(cls, options):
    new = randomise(cls(CHANNELS, **options, **IDENTITY)).eval()
    plain = cls(CHANNELS, **options).eval()
    plain.load_state_dict(new.state_dict())
    x = random_map(2, CHANNELS, 7, 5)
    if cls is CBAM:  # the second gate sees what the first let through
        for name, given in (('channel_gate', x), ('spatial_gate', x)):
            torch.testing.assert_close(
                getattr(new, name)(given), 2 * getattr(plain, name)(given))
        return
    gates = 2 if cls is CoordAttention else 1
    torch.testing.assert_close(new(x), 2**gates * plain(x))


@every_gate
def test_the_factor_is_not_paid_for_on_the_map(cls, options):
    """No tensor of the map's size more than without it."""
    x = random_map(2, CHANNELS, 7, 5)

    def maps(**more):
        layer = cls(CHANNELS, **options, **more).eval()
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
                lambda t: kept.append(t.shape == x.shape) or t, lambda t: t):
            layer(x.clone().requires_grad_())
        return sum(kept)

    assert maps(**IDENTITY) == maps()


@every_gate
def test_half_precision_and_one_graph(cls, options):
    layer = cls(CHANNELS, **options, **IDENTITY).eval()
    x = random_map(2, CHANNELS, 7, 5)
    assert torch.equal(in_one_graph(layer)(x), x)
    low = x.bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = layer(low)
    assert y.dtype == torch.bfloat16 and torch.equal(y, low)


def test_gc_starts_as_the_identity_by_its_own_word():
    layer = kaiming_first(GC(CHANNELS, ratio=4))
    x = random_map(2, CHANNELS, 7, 5)
    assert torch.equal(layer(x), x)


# -- in a network ----------------------------------------------------------

SMALL = dict(depth=(1, 2, 1, 1), base_channels=8)
ATTENTIONS = [
    dict(type='SE', ratio=4, **IDENTITY),
    dict(type='ECA', **IDENTITY),
    dict(type='CBAM', ratio=4, **IDENTITY),
    dict(type='CoordAttention', **IDENTITY),
    dict(type='Fca', ratio=4, num_frequencies=4, **IDENTITY),
    dict(type='GC', ratio=4),
]
every_attention = pytest.mark.parametrize(
    'attention', ATTENTIONS, ids=[a['type'] for a in ATTENTIONS])


def trained(net, **options):
    """A trunk with weights of its own, none at a special value.

    Norms that end a branch weigh little, as in a trained network.
    """
    torch.manual_seed(0)
    net = net(**options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.8)
            nn.init.uniform_(module.bias, -0.3, 0.5)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net


def assert_added(net, options, words, training=False, loaded_only=False):
    """The network with parts answers as the one whose weights it has."""
    plain = trained(net, **options).train(training)
    more = net(**options, **words)
    if not loaded_only:
        more.init_weights()
    more.load_state_dict(plain.state_dict(), strict=False)
    more.train(training)
    assert any(part_of(n) == 'attention' for n, _ in more.named_parameters())
    x = random_map(2, 3, 75, 53)
    for y, expected in zip(more(x), plain(x)):
        assert expected.abs().max() > 1e-3
        assert torch.equal(y, expected)


@every_attention
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('link', [None, dict(type='DCA')], ids=['', 'DCA'])
def test_added_to_a_resnet(attention, training, link):
    assert_added(
        ResNet, SMALL, dict(attention=attention, link=link), training)


@pytest.mark.parametrize('attention', ATTENTIONS[:-1],
                         ids=[a['type'] for a in ATTENTIONS[:-1]])
def test_loading_is_enough(attention):
    assert_added(ResNet, SMALL, dict(attention=attention), loaded_only=True)


@every_attention
def test_added_behind_the_spatial_convolution(attention):
    assert_added(ResNet, SMALL,
                 dict(attention=attention, attention_at='hidden'))


def test_added_to_single_blocks_and_behind_stages():
    se = ATTENTIONS[0]
    assert_added(
        ResNet, SMALL,
        dict(attention=[None, [None, se], se, None],
             stage_attention=ATTENTIONS[1]))


@pytest.mark.parametrize('net', [MobileNetV2, MNASNet, MobileNeXt],
                         ids=lambda net: net.__name__)
@pytest.mark.parametrize('attention, link', [
    (ATTENTIONS[0], dict(type='DCA')), (ATTENTIONS[3], None)],
    ids=['SE-DCA', 'CoordAttention'])
def test_added_to_mobile_networks(net, attention, link):
    assert_added(net, dict(widen_factor=0.25),
                 dict(attention=attention, attention_at='output', link=link))


def test_added_to_branches_is_a_fusion_and_refused():
    with pytest.raises(ValueError, match='has no type'):
        SKNet(**SMALL, attention=ATTENTIONS[0])


def test_own_attentions_of_a_network_are_left():
    """MobileNetV3's SE is trained, and has no identity start to have."""
    gates = [
        m.gate for m in MobileNetV3(widen_factor=0.25).modules()
        if isinstance(m, SE)
    ]
    assert gates and all(isinstance(gate, nn.Hardsigmoid) for gate in gates)


@pytest.mark.parametrize('attention', ATTENTIONS[:-1],
                         ids=[a['type'] for a in ATTENTIONS[:-1]])
def test_a_linked_network_leaves_its_start(attention):
    """Gates at the first step, all the links by the third."""
    net = ResNet(**SMALL, attention=attention, link=dict(type='DCA'),
                 zero_init_residual=False)
    net.init_weights()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    alive = []
    for _ in range(3):
        optimizer.zero_grad()
        x = random_map(3, 3, 75, 53)
        sum(y.square().mean() for y in net(x)).backward()
        alive.append({n for n, p in net.named_parameters() if p.grad.any()})
        optimizer.step()
    parts = {
        n for n, _ in net.named_parameters()
        if part_of(n) in ('attention', 'link')
        # Biases whose gradient is zero by algebra.
        and not n.endswith(('mix.bias', 'attention.fc1.bias', 'conv.bias',
                            'match_conv.0.bias'))
    }
    assert {n.split('attention')[0] for n in alive[0]
            if part_of(n) == 'attention'} == {
                n.split('attention')[0] for n in parts
                if part_of(n) == 'attention'}
    assert parts - alive[2] == set()


# -- fusions ---------------------------------------------------------------


@pytest.mark.parametrize('initialised', [True, False])
def test_aff_starts_as_addition(initialised):
    layer = AFF(CHANNELS, **IDENTITY)
    if initialised:
        kaiming_first(layer)
    x, y = random_map(2, CHANNELS, 7, 5), random_map(2, CHANNELS, 7, 5, seed=3)
    torch.testing.assert_close(layer((x, y)), x + y, rtol=0, atol=1e-6)


# -- what is refused -------------------------------------------------------


@pytest.mark.parametrize('cls, reason', [
    (GE, 'theta-minus has no parameters'),
    (BAM, '1 where the sigmoid is 0|no gradient left'),
    (IAFF, 'half of addition'),
])
def test_refused_with_a_reason(cls, reason):
    assert cls(CHANNELS, gate_init=None) is not None
    with pytest.raises(ValueError, match=reason) as error:
        cls(CHANNELS, **IDENTITY)
    assert str(error.value).startswith(
        f"{cls.__name__} takes no gate_init, got 'identity': ")


@pytest.mark.parametrize('cls, options', GATES + [(AFF, {})])
def test_another_word(cls, options):
    with pytest.raises(ValueError, match="gate_init must be None or 'identity'"
                       ", got 'zero'"):
        cls(CHANNELS, **options, gate_init='zero')


@pytest.mark.parametrize('cls', [CBAM, AFF])
def test_a_norm_without_a_weight(cls):
    norm = dict(type='BN', affine=False)
    assert cls(CHANNELS, norm_cfg=norm) is not None
    with pytest.raises(ValueError, match='BatchNorm2d.*has no weight.*affine'):
        cls(CHANNELS, norm_cfg=norm, **IDENTITY)
