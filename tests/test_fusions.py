"""Every registered fusion under one contract, then the algebra of each."""
import inspect
import math
from copy import deepcopy

import pytest
import torch
from samples import in_one_graph, randomise
from torch.autograd import gradcheck
from torch.func import functional_call

from mmattn.fusions import AFF, IAFF, Add, Fusion, SelectiveFusion
from mmattn.registry import MODELS

MODELS.import_from_location()
FUSIONS = sorted(name for name, cls in MODELS.module_dict.items()
                 if inspect.isclass(cls) and issubclass(cls, Fusion))
CHANNELS = 32

# Biases whose gradient is zero by algebra, because a batch norm follows; the
# published networks hold them.
BEFORE_A_NORM = {
    f'{branch}_branch.{i}.bias'
    for branch in ('local', 'global') for i in (0, 3)
}
ZERO_GRADIENT = {
    'AFF': {f'gate.{key}' for key in BEFORE_A_NORM},
    'IAFF': {
        f'{gate}.{key}'
        for gate in ('gate', 'first_gate') for key in BEFORE_A_NORM
    },
}

every_fusion = pytest.mark.parametrize('name', FUSIONS)


def build(name, channels=CHANNELS, num_maps=2, dtype=torch.float64):
    return randomise(MODELS.get(name)(channels, num_maps=num_maps)).to(dtype)


def random_maps(num_maps, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(*shape, generator=generator, dtype=dtype)
        for _ in range(num_maps)
    ]


# The matrix


def test_the_matrix_sees_the_registry():
    assert {'AFF', 'Add', 'IAFF', 'SelectiveFusion'} <= set(FUSIONS)


@every_fusion
def test_signature(name):
    parameters = inspect.signature(MODELS.get(name)).parameters.values()
    first, second, *rest = parameters
    assert (first.name, second.name) == ('in_channels', 'num_maps')
    assert second.default == 2
    assert all(p.kind is p.KEYWORD_ONLY for p in rest)


@every_fusion
@pytest.mark.parametrize('size', [(7, 5), (1, 1), (32, 19)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_shape_and_dtype(name, size, dtype):
    xs = random_maps(2, 3, CHANNELS, *size, dtype=dtype)
    y = build(name, dtype=dtype)(xs)
    assert y.shape == xs[0].shape
    assert y.dtype == dtype
    assert y.isfinite().all()


@every_fusion
def test_every_parameter_and_map_has_a_gradient(name):
    layer = build(name)
    xs = random_maps(2, 3, CHANNELS, 7, 5)
    for x in xs:
        x.requires_grad_()
    layer(xs).square().sum().backward()
    tensors = dict(layer.named_parameters(), x0=xs[0], x1=xs[1])
    assert {
        key
        for key, value in tensors.items()
        if value.grad is None or value.grad.abs().max() < 1e-9
    } == ZERO_GRADIENT.get(name, set())


@every_fusion
def test_gradients_are_right(name):
    layer = build(name, channels=16).eval()
    xs = random_maps(2, 2, 16, 3, 2)
    for x in xs:
        x.requires_grad_()
    parameters = dict(layer.named_parameters())

    def run(x1, x2, *values):
        return functional_call(layer, dict(zip(parameters, values)),
                               ((x1, x2), ))

    assert gradcheck(run, (*xs, *parameters.values()), fast_mode=True)


@every_fusion
def test_eval_output_is_independent_of_batch_mates(name):
    layer = build(name).eval()
    xs = random_maps(2, 3, CHANNELS, 7, 5)
    together = layer(xs)
    alone = [layer([x[i:i + 1] for x in xs]) for i in range(3)]
    torch.testing.assert_close(
        torch.cat(alone), together, rtol=1e-12, atol=1e-12)


@every_fusion
def test_deepcopy_and_state_dict(name):
    layer = build(name).eval()
    xs = random_maps(2, 2, CHANNELS, 7, 5)
    y = layer(xs)
    assert torch.equal(deepcopy(layer)(xs), y)
    other = randomise(build(name).eval(), seed=2)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(xs), y)


@every_fusion
@pytest.mark.parametrize('training', [True, False])
def test_compiles_to_one_graph(name, training):
    layer = build(name).train(training)
    xs = random_maps(2, 2, CHANNELS, 7, 5)
    compiled = in_one_graph(layer)
    assert torch.equal(compiled(xs), layer(xs))


@every_fusion
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
def test_autocast_keeps_the_dtype_of_the_maps(name, training, dtype):
    layer = build(name, dtype=torch.float32).train(training)
    xs = random_maps(2, 2, CHANNELS, 7, 5, dtype=torch.float32)
    xs = [x.to(dtype).requires_grad_() for x in xs]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = layer(xs)
    assert y.dtype == dtype
    y.float().square().sum().backward()
    assert all(x.grad.dtype == dtype for x in xs)


@every_fusion
def test_memory_layout_does_not_matter(name):
    layer = build(name).eval()
    xs = random_maps(2, 2, CHANNELS, 7, 5)
    y = layer(xs)
    strided = [torch.stack((x, -x), -1)[..., 0] for x in xs]
    channels_last = [
        x.contiguous(memory_format=torch.channels_last) for x in xs
    ]
    mixed = (strided[0], channels_last[1])
    for same in (strided, channels_last, mixed, tuple(xs)):
        torch.testing.assert_close(
            layer(same), y, rtol=1e-12, atol=1e-12)


@every_fusion
@pytest.mark.parametrize('grad', [True, False])
def test_maps_are_not_modified(name, grad):
    layer = build(name)
    xs = random_maps(2, 2, CHANNELS, 7, 5)
    before = [x.clone() for x in xs]
    with torch.set_grad_enabled(grad):
        y = layer(xs)
    y.detach().zero_()  # nor is the result one of them
    assert all(torch.equal(*pair) for pair in zip(xs, before))


@every_fusion
def test_forward_keeps_nothing_on_the_module(name):
    layer = build(name).eval()
    before = {key: vars(m).copy() for key, m in layer.named_modules()}
    layer(random_maps(2, 2, CHANNELS, 7, 5))
    after = {key: vars(m).copy() for key, m in layer.named_modules()}
    assert before.keys() == after.keys()
    for key in before:
        assert before[key].keys() == after[key].keys()
        assert all(before[key][attribute] is after[key][attribute]
                   for attribute in before[key])


@every_fusion
def test_another_number_of_maps_is_refused(name):
    layer = build(name)
    for count in (1, 3):
        with pytest.raises(ValueError, match=f'{name}.* 2 maps, got {count}'):
            layer(random_maps(count, 2, CHANNELS, 7, 5))


@every_fusion
@pytest.mark.parametrize('num_maps', [1, 0])
def test_one_map_is_nothing_to_fuse(name, num_maps):
    with pytest.raises(ValueError, match='at least two maps, got num_maps='):
        MODELS.get(name)(CHANNELS, num_maps=num_maps)


# Add


def test_add():
    a, b, c = random_maps(3, 2, 3, 7, 5)
    assert torch.equal(Add(3)((a, b)), a + b)
    assert torch.equal(Add(3, num_maps=3)((a, b, c)), a + b + c)
    assert not list(Add(3).parameters())


# SelectiveFusion


def by_hand(num_maps, project_weight, project_bias):
    """Two channels, one hidden: v = relu(sum of the four or six means)."""
    layer = SelectiveFusion(
        2, num_maps=num_maps, ratio=2, min_channels=1).eval()
    layer.norm.eps = 0.
    with torch.no_grad():
        layer.squeeze.weight.fill_(1.)
        layer.project.weight.copy_(
            torch.tensor(project_weight)[:, None, None, None])
        layer.project.bias.copy_(torch.tensor(project_bias))
    return layer


def maps_with_means(*means):
    """One map of size 1x2 for each row of means, equal to no other."""
    return [
        torch.tensor(row)[None, :, None, None] +
        torch.tensor([[-1. - i, 1. + i]]) for i, row in enumerate(means)
    ]


def test_two_maps_by_hand():
    # v = 0.5 + 1 - 0.25 + 0.75 = 2. Logits by map and channel:
    # (2 * 0 + 0, 2 * 0 + log 2), (2 * log(3) / 2 + 0, 2 * 0 + 0).
    layer = by_hand(2, [0., 0., math.log(3) / 2, 0.],
                    [0., math.log(2), 0., 0.])
    xs = maps_with_means([0.5, 1.], [-0.25, 0.75])
    a = torch.tensor([[1 / 4, 2 / 3], [3 / 4, 1 / 3]])[..., None, None]
    torch.testing.assert_close(layer(xs), xs[0] * a[0] + xs[1] * a[1])


def test_three_maps_by_hand():
    # v = relu(-2) = 0, so the biases decide: log (1, 2, 5) for the first
    # channel and log (6, 1, 1) for the second.
    layer = by_hand(3, [9., 9., -9., 9., 9., -9.],
                    [math.log(odds) for odds in (1, 6, 2, 1, 5, 1)])
    xs = maps_with_means([0.5, 1.], [-5., 0.75], [0., 0.75])
    a = torch.tensor([[1., 6.], [2., 1.], [5., 1.]])[..., None, None] / 8
    torch.testing.assert_close(
        layer(xs), xs[0] * a[0] + xs[1] * a[1] + xs[2] * a[2])


@pytest.mark.parametrize('num_maps', [2, 3])
def test_choosing_among_equal_maps_changes_nothing(num_maps):
    x, = random_maps(1, 2, CHANNELS, 7, 5)
    layer = build('SelectiveFusion', num_maps=num_maps)
    torch.testing.assert_close(
        layer([x] * num_maps), x, rtol=1e-12, atol=1e-12)


def test_maps_may_come_in_any_order_with_their_weights():
    layer = build('SelectiveFusion', num_maps=3)
    xs = random_maps(3, 2, CHANNELS, 7, 5)
    order = [2, 0, 1]
    other = deepcopy(layer)
    with torch.no_grad():
        for parameter in other.project.parameters():
            rows = parameter.unflatten(0, (3, CHANNELS))
            parameter.copy_(rows[order].flatten(0, 1))
    torch.testing.assert_close(
        other([xs[i] for i in order]), layer(xs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('training', [True, False])
def test_pooling_map_by_map_is_the_same(training):
    """What a stage does: pool each map as it comes, transform at the end."""
    layer = build('SelectiveFusion', num_maps=3).train(training)
    xs = random_maps(3, 2, CHANNELS, 7, 5)
    pooled = tuple(layer.pool(x) for x in xs)
    y = deepcopy(layer).attend(xs, layer.transform(pooled))
    assert torch.equal(y, layer(xs))


def test_weights_have_the_dtype_of_the_maps():
    """On a GPU, autocast runs the softmax in single precision."""

    class Single(torch.nn.Module):

        def forward(self, x):
            return x.float()

    layer = build('SelectiveFusion', dtype=torch.float32)
    layer.project = torch.nn.Sequential(layer.project, Single())
    xs = random_maps(2, 2, CHANNELS, 7, 5, dtype=torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        weights = layer.transform(layer.extract(xs))
    assert {a.dtype for a in weights} == {torch.bfloat16}


def test_weights_are_shares():
    layer = build('SelectiveFusion', num_maps=3).eval()
    xs = random_maps(3, 2, CHANNELS, 7, 5)
    a = torch.stack(layer.transform(layer.extract(xs)))
    assert a.shape == (3, 2, CHANNELS, 1, 1)
    torch.testing.assert_close(a.sum(0), torch.ones_like(a[0]))


@pytest.mark.parametrize('in_channels,hidden', [
    (64, 64), (256, 64), (1024, 64), (2048, 128), (2056, 128)
])
def test_hidden_width(in_channels, hidden):
    layer = SelectiveFusion(in_channels)
    assert layer.squeeze.out_channels == hidden
    assert layer.norm.num_features == hidden


@pytest.mark.parametrize('num_maps,share', [(2, 0.95), (6, 0.95), (3, 0.5)])
def test_last_share(num_maps, share):
    layer = SelectiveFusion(
        CHANNELS, num_maps=num_maps, last_share=share).double()
    layer.init_weights()
    xs = random_maps(num_maps, 2, CHANNELS, 7, 5)
    rest = (1 - share) / (num_maps - 1)
    expected = share * xs[-1] + rest * sum(xs[:-1])
    # The bias is written in single precision at the most.
    torch.testing.assert_close(layer(xs), expected, rtol=1e-6, atol=1e-6)


def test_last_share_can_be_learned():
    layer = SelectiveFusion(CHANNELS, num_maps=3, last_share=0.95).double()
    layer.init_weights()
    xs = random_maps(3, 2, CHANNELS, 7, 5)

    def step():
        layer.zero_grad()
        layer(xs).square().sum().backward()
        largest = {
            key: p.grad.abs().max().item()
            for key, p in layer.named_parameters()
        }
        with torch.no_grad():
            for p in layer.parameters():
                p -= 0.1 * p.grad
        return largest

    first, second = step(), step()
    assert first['project.weight'] > 1e-6
    assert first['project.bias'] > 1e-6
    assert first['squeeze.weight'] == 0  # behind weights of zero
    assert second['squeeze.weight'] > 1e-6


def test_without_last_share_the_start_is_random():
    torch.manual_seed(0)
    layer = SelectiveFusion(128, num_maps=3)
    layer.init_weights()
    # Kaiming over the fan-out of one map's projection, as published.
    assert layer.project.weight.std().item() == pytest.approx(
        math.sqrt(2 / 128), rel=0.05)
    assert layer.squeeze.weight.std().item() == pytest.approx(
        math.sqrt(2 / 64), rel=0.05)
    assert 0 < layer.project.bias.abs().max() <= 64**-0.5


def test_sk_has_no_bias():
    layer = SelectiveFusion(CHANNELS, bias=False, min_channels=8)
    layer.init_weights()
    assert layer.project.bias is None
    assert layer(random_maps(2, 2, CHANNELS, 7, 5, dtype=torch.float32)
                 ).isfinite().all()


@pytest.mark.parametrize('options,words', [
    (dict(ratio=0), 'must be a positive integer'),
    (dict(min_channels=-1), 'must be a positive integer'),
    (dict(ratio=2.5), 'must be a positive integer'),
    (dict(last_share=0), 'between 0 and 1'),
    (dict(last_share=1), 'between 0 and 1'),
    (dict(last_share=95), 'between 0 and 1'),
    (dict(last_share=0.95, bias=False), 'needs bias=True'),
])
def test_selective_fusion_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        SelectiveFusion(CHANNELS, **options)


# AFF and iAFF

every_share = pytest.mark.parametrize('cls,size', [(AFF, 2), (IAFF, 1)])


def plain_gate(gate, x):
    """MS-CAM's gate in eval mode, as plain tensor code."""

    def branch(layers, x):
        for conv, norm, activate in ((layers[0], layers[1], True),
                                     (layers[3], layers[4], False)):
            x = torch.einsum('oi,bihw->bohw', conv.weight[..., 0, 0], x)
            x = x + conv.bias[:, None, None]
            x = (x - norm.running_mean[:, None, None]) / (
                norm.running_var[:, None, None] + norm.eps).sqrt()
            x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
            x = x.clamp(min=0) if activate else x
        return x

    mean = x.mean((2, 3), keepdim=True)
    return 1 / (1 + (-branch(gate.local_branch, x) -
                     branch(gate.global_branch, mean)).exp())


def test_aff_is_its_formula():
    layer = build('AFF').eval()
    x, y = random_maps(2, 2, CHANNELS, 7, 5)
    w = plain_gate(layer.gate, x + y)
    torch.testing.assert_close(layer((x, y)), 2 * x * w + 2 * y * (1 - w))


def test_iaff_is_its_formula():
    layer = build('IAFF').eval()
    x, y = random_maps(2, 2, CHANNELS, 7, 5)
    v = plain_gate(layer.first_gate, x + y)
    w = plain_gate(layer.gate, x * v + y * (1 - v))
    torch.testing.assert_close(layer((x, y)), x * w + y * (1 - w))


@every_share
@pytest.mark.parametrize('training', [True, False])
def test_sharing_between_equal_maps(cls, size, training):
    layer = build(cls.__name__).train(training)
    x, = random_maps(1, 2, CHANNELS, 7, 5)
    torch.testing.assert_close(layer((x, x)), size * x)


@every_share
def test_exchanged_maps_sum_to_a_constant(cls, size):
    """w x + (1 - w) y and w y + (1 - w) x, where the gate sees no order."""
    layer = build(cls.__name__).eval()
    if cls is IAFF:  # its first gate must not see one either
        with torch.no_grad():
            for layers in layer.first_gate.children():
                layers[4].weight.zero_()
                layers[4].bias.zero_()
    x, y = random_maps(2, 2, CHANNELS, 7, 5)
    torch.testing.assert_close(
        layer((x, y)) + layer((y, x)), size * (x + y))


def test_the_first_map_has_the_weight():
    layer = build('AFF').eval()
    with torch.no_grad():
        layer.gate.local_branch[4].bias.fill_(1e3)
    x, y = random_maps(2, 2, CHANNELS, 7, 5)
    torch.testing.assert_close(layer((x, y)), 2 * x)


def test_aff_can_start_as_addition():
    layer = AFF(CHANNELS, gate_init='identity').double()
    layer.init_weights()
    x, y = random_maps(2, 2, CHANNELS, 7, 5)
    torch.testing.assert_close(layer((x, y)), x + y)
    layer((x, y)).square().sum().backward()
    for branch in (layer.gate.local_branch, layer.gate.global_branch):
        assert branch[4].weight.grad.abs().max() > 1e-6  # and can leave it
    other = AFF(CHANNELS).double()
    other.init_weights()
    assert (other((x, y)) - x - y).abs().max() > 0.01


@every_share
@pytest.mark.parametrize('channels,ratio,hidden', [(64, 4, 16), (30, 4, 7),
                                                   (1024, 16, 64)])
def test_parameters_of_the_gates(cls, size, channels, ratio, hidden):
    gates = 1 if cls is AFF else 2
    branch = 2 * channels * hidden + 3 * hidden + 3 * channels
    count = sum(p.numel() for p in cls(channels, ratio=ratio).parameters())
    assert count == gates * 2 * branch


@every_share
def test_two_maps_only(cls, size):
    with pytest.raises(ValueError, match='between two maps, got num_maps=3'):
        cls(CHANNELS, num_maps=3)
    with pytest.raises(ValueError, match='ratio=64 leaves no hidden channel'):
        cls(CHANNELS, ratio=64)
    if cls is AFF:
        with pytest.raises(ValueError, match="gate_init must be None or 'id"):
            AFF(CHANNELS, gate_init='zero')


@pytest.mark.parametrize('cls', [SelectiveFusion, AFF, IAFF])
@pytest.mark.parametrize('size', [(7, 5), (1, 1)])
def test_one_image_is_too_few_to_train_a_batch_norm(cls, size):
    layer = cls(CHANNELS)
    xs = random_maps(2, 1, CHANNELS, *size, dtype=torch.float32)
    with pytest.raises(
            ValueError,
            match=r'one image and a 1x1 map, \(1, \d+, 1, 1\).*two images or '
            'more.*norm_eval=True.*norm_cfg='):
        layer(xs)
    assert layer.eval()(xs).isfinite().all()
    other = cls(CHANNELS, norm_cfg=dict(type='GN', num_groups=1))
    assert other(xs).isfinite().all()
