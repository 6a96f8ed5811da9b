"""What holds for every part and every backbone on any map.

hypothesis draws sizes, batches, layouts and values; the draws are the same in
each run. The formulas are tested elsewhere.
"""
import inspect
from functools import lru_cache, partial

import pytest
import test_fuse
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import randomise
from torch import nn

from mmattn.attentions import Attention
from mmattn.backbones.blocks import ResidualBlock
from mmattn.fusions import Fusion
from mmattn.links import ChainLink
from mmattn.necks import FPN
from mmattn.registry import MODELS

MODELS.import_from_location()
CHANNELS = 64
PARTS, NETS = {}, test_fuse.NETS


def drawn(max_examples, **strategies):
    """Run a test on drawn arguments."""

    def decorate(test):
        return settings(
            max_examples=max_examples,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck))(
                given(**strategies)(test))

    return decorate


# What is tested: modules that map one tensor to a tuple of tensors


class Maps(nn.Module):
    """A part on the map, or on the two halves of its channels."""

    channels = CHANNELS

    def __init__(self, part):
        super().__init__()
        self.part = part
        if isinstance(part, Fusion):
            self.channels = 2 * CHANNELS

    def forward(self, x):
        if isinstance(self.part, Fusion):
            return self.part(x.chunk(2, 1)),
        return self.part(x),


class Linked(nn.Module):
    """Two attentions in a row, of which the second is linked."""

    channels = CHANNELS

    def __init__(self, name, link):
        super().__init__()
        self.first, self.second = (MODELS.get(name)(CHANNELS)
                                   for _ in range(2))
        self.start = MODELS.get(link)(self.first, CHANNELS, None)
        self.link = MODELS.get(link)(self.second, CHANNELS, CHANNELS)

    def forward(self, x):
        y, carry = self.start(self.first, x)
        # Of another size, as at the start of a stage.
        y = nn.functional.max_pool2d(y, 2, ceil_mode=True)
        return self.link(self.second, y, carry)[0],


class Pyramid(nn.Module):
    """A neck on a map and one of half the size."""

    channels = CHANNELS

    def __init__(self):
        super().__init__()
        self.neck = FPN([CHANNELS] * 2, 16, 2, norm_cfg=dict(type='BN'),
                        fusion=dict(type='AFF', ratio=4))

    def forward(self, x):
        half = nn.functional.max_pool2d(x, 2, ceil_mode=True)
        return self.neck((x, half))


for key, cls in sorted(MODELS.module_dict.items()):
    if inspect.isclass(cls) and issubclass(cls, Attention):
        PARTS[key] = partial(lambda c: Maps(c(CHANNELS)), cls)
        if not issubclass(cls, Fusion):
            PARTS[f'{key}, DCA'] = partial(Linked, key, 'DCA')
            if cls.link_type is not ChainLink:
                PARTS[f'{key}, MapLink'] = partial(Linked, key, 'MapLink')
for key, options in dict(
        PyConv={}, PSAConv={},
        AAConv=dict(map_size=(3, 4), num_heads=2,
                    min_key_channels=3)).items():
    PARTS[key] = partial(lambda c, o: Maps(c(CHANNELS, CHANNELS, **o)),
                         MODELS.get(key), options)
PARTS['FPN'] = Pyramid

every_part = pytest.mark.parametrize('name', PARTS)
every_net = pytest.mark.parametrize('row', NETS)
# One position has no standard deviation.
SMALLEST = {'SGE': 2, 'SGE, DCA': 5, 'SGE, MapLink': 5}
# Sides from which on a network is defined.
SMALLEST_SIDE = {'ScaleResNet': 29, 'LIPResNet': 17}


def scaled(module):
    """Random, with features of order 1, so that roundings stay small."""
    randomise(module)
    with torch.no_grad():
        for p in module.parameters():
            if p.dim() > 1:
                p *= 2 * p[0].numel()**-0.5
    return module.eval()


@lru_cache(maxsize=None)
def part(name, dtype=torch.float64):
    return scaled(PARTS[name]()).to(dtype)


@lru_cache(maxsize=None)
def net(row, dtype=torch.float64):
    return scaled(test_fuse.build(row)).to(dtype)


def values(seed, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def assert_near(ys, expected, tolerance=1e-9):
    """The largest difference over the largest value."""
    for y, e in zip(ys, expected, strict=True):
        assert y.shape == e.shape
        error = (y - e).abs().max() / e.abs().max()
        assert error < tolerance, f'{error:.1e}'


# The same values, laid out in other ways.
LAYOUTS = dict(
    channels_last=lambda x: x.contiguous(memory_format=torch.channels_last),
    transposed=lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    every_second=lambda x: torch.stack((x, -x), -1)[..., 0],
    cropped=lambda x: nn.functional.pad(x, (1, 2, 3, 1))[..., 3:-1, 1:-2],
    channels_of_more=lambda x: torch.cat((x, x), 1)[:, :x.shape[1]],
    expanded=lambda x: x[:1].expand(x.shape),
    expanded_rows=lambda x: x[:, :, :1].expand(x.shape),
    batch_last=lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
)


def check(module, x, layout, odd, place):
    """All that must hold for the result of a map.

    Args:
        layout: Another layout of the same values.
        odd: A value that an image may have.
        place: Which of its values has it, as a share of all.
    """
    before = x.clone()
    with torch.no_grad():
        ys = module(x)
        assert all(y.isfinite().all() for y in ys)
        assert all(y.dtype == x.dtype for y in ys)
        # It is a function of its input, which it leaves alone.
        assert torch.equal(x, before)
        for y, again in zip(ys, module(x)):
            assert torch.equal(y, again)
        # Of the values, however they lie in memory.
        other = LAYOUTS[layout](x)
        expected = module(other.contiguous())
        assert_near(module(other), expected)
        assert torch.equal(other, LAYOUTS[layout](before))
        # Of each image by itself.
        alone = [module(image[None]) for image in x]
        assert_near([torch.cat(each) for each in zip(*alone)], ys)
        # What an image has is its own affair.
        broken = x.clone()
        broken[-1].view(-1)[int(place * broken[-1].numel())] = odd
        outs = module(broken)
        for out, y in zip(outs, ys):
            assert torch.equal(out[:-1], y[:-1])
            if odd != odd:
                assert out[-1].isnan().any()
    # As well where a gradient is asked for.
    x.requires_grad_()
    ys = module(x)
    for y, e in zip(ys, module(before)):
        torch.testing.assert_close(y, e, rtol=1e-9, atol=1e-9)
    sum(y.square().sum() for y in ys).backward()
    assert x.grad.isfinite().all()
    assert torch.equal(x.detach(), before)


part_values = dict(
    seed=st.integers(0, 9),
    batch=st.integers(1, 3),
    height=st.integers(1, 11),
    width=st.integers(1, 11),
    layout=st.sampled_from(sorted(LAYOUTS)),
    odd=st.sampled_from([float('nan'), float('inf'), -float('inf')]),
    place=st.floats(0, 1, exclude_max=True))
net_values = dict(
    part_values, batch=st.integers(1, 2), height=st.integers(1, 41),
    width=st.integers(1, 41))


def check_part(name, seed, batch, height, width, **options):
    if height * width < SMALLEST.get(name, 1):
        height = width = 5
    module = part(name)
    check(module, values(seed, batch, module.channels, height, width),
          **options)


def check_net(row, seed, batch, height, width, **options):
    least = SMALLEST_SIDE.get(row, 1)
    x = values(seed, batch, 3, max(height, least), max(width, least))
    check(net(row), x, **options)


@every_part
@drawn(3, **part_values)
def test_every_part(name, **options):
    check_part(name, **options)


@pytest.mark.config
@every_part
@drawn(40, **part_values)
def test_every_part_on_many_maps(name, **options):
    check_part(name, **options)


@every_net
@drawn(2, **net_values)
def test_every_backbone(row, **options):
    check_net(row, **options)


@pytest.mark.config
@every_net
@drawn(15, **net_values)
def test_every_backbone_on_many_images(row, **options):
    check_net(row, **options)


# Sizes for which a formula has no value: the size and the reason.


@pytest.mark.parametrize('name', SMALLEST)
@pytest.mark.parametrize('size', [(1, 1), (2, 1)])
def test_a_map_too_small_for_a_part(name, size):
    if size[0] * size[1] >= SMALLEST[name]:
        return
    with pytest.raises(ValueError, match='1x1 map has no standard deviation'):
        part(name)(values(0, 2, CHANNELS, *size))


@pytest.mark.parametrize('side, row, words', [
    (16, 'LIPResNet', 'instance norm needs more than one.*1x1 map'),
    (28, 'ScaleResNet', 'pools a map of 3x3 by 4'),
    (24, 'ScaleResNet', 'pools a map of 6x6 by 7'),
])
def test_an_image_too_small_for_a_network(side, row, words):
    with pytest.raises(ValueError, match=words):
        net(row)(values(0, 1, 3, side, side))


@pytest.mark.parametrize('size', [(7, 4), (1, 1), (5, 7)])
def test_a_kernel_of_another_size_says_so(size):
    """The kernels of theta have one size."""
    layer = MODELS.get('GE')(8, size=(7, 5))
    with pytest.raises(ValueError) as error:
        layer(torch.randn(2, 8, *size))
    assert str(size) in str(error.value) and '(7, 5)' in str(error.value)


def test_oblong_maps_and_the_published_order_of_attention():
    layer = MODELS.get('AAConv')(16, 16, map_size=(3, 3), num_heads=1,
                                 published_order=True)
    with pytest.raises(ValueError, match='square maps, got 3x4'):
        layer(torch.randn(1, 16, 3, 4))


# An empty batch has an empty result


def check_empty(module, channels, height, width):
    x = torch.zeros(1, channels, height, width, dtype=torch.float64)
    with torch.no_grad():
        for y, one in zip(module(x[:0]), module(x)):
            assert y.shape == (0, *one.shape[1:])
            assert y.dtype == one.dtype


@every_part
@pytest.mark.parametrize('size', [(5, 7), (6, 3)])
def test_an_empty_batch_of_maps(name, size):
    check_empty(part(name), part(name).channels, *size)


@every_net
def test_an_empty_batch_of_images(row):
    if row == 'LIPResNet':
        with pytest.raises(ValueError, match='no instance norm of an empty'):
            net(row)(values(0, 0, 3, 37, 26))
        return
    check_empty(net(row), 3, max(37, SMALLEST_SIDE.get(row, 0)),
                max(26, SMALLEST_SIDE.get(row, 0)))


# Precisions


DTYPES = {
    torch.float32: 1e-4,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
}


def check_dtype(make, x, dtype, autocast=False):
    """In a precision the result is the same to that precision."""
    # autocast: parameters stay in single precision.
    module = make(dtype=torch.float32 if autocast else dtype)
    with torch.no_grad(), torch.autocast(
            'cpu', torch.bfloat16, enabled=autocast):  # torch 2.1: no other
        try:
            ys = module(x.to(dtype))
        except RuntimeError as error:
            if 'not implemented for' in str(error):  # torch 2.1
                pytest.skip(f'torch {torch.__version__}: {error}')
            raise
    if not autocast:
        assert all(y.dtype == dtype for y in ys)
    with torch.no_grad():
        expected = make(dtype=torch.float64)(x)
    assert_near([y.double() for y in ys], expected, DTYPES[dtype])


@every_part
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_every_part_in_every_precision(name, dtype):
    x = values(1, 2, part(name).channels, 7, 5)
    check_dtype(partial(part, name), x, dtype)
    if dtype == torch.bfloat16:
        check_dtype(partial(part, name), x, dtype, autocast=True)


@every_net
@pytest.mark.parametrize('dtype', [
    pytest.param(torch.float32, marks=pytest.mark.config),
    pytest.param(torch.float16, marks=pytest.mark.config), torch.bfloat16
], ids=str)
def test_every_backbone_in_every_precision(row, dtype):
    least = SMALLEST_SIDE.get(row, 0)
    x = values(1, 2, 3, max(least, 33), max(least, 17))
    check_dtype(partial(net, row), x, dtype)
    if dtype == torch.bfloat16:
        check_dtype(partial(net, row), x, dtype, autocast=True)


# Sums are made in place


@every_net
@pytest.mark.parametrize(
    'grad', [False, pytest.param(True, marks=pytest.mark.config)])
def test_no_block_writes_to_what_it_is_given(row, grad):
    given = {}

    def keep(block, args):
        given[block] = args[0], args[0].clone()

    def compare(block, args, result):
        x, before = given.pop(block)
        assert torch.equal(x, before)

    network = test_fuse.build(row)
    blocks = [m for m in network.modules() if isinstance(m, ResidualBlock)]
    for block in blocks:
        block.register_forward_pre_hook(keep)
        block.register_forward_hook(compare)
    least = SMALLEST_SIDE.get(row, 0)
    with torch.set_grad_enabled(grad):
        network(torch.randn(2, 3, max(least, 37), max(least, 26)))
    assert blocks and not given
