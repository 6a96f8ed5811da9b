"""Attention-augmented convolution and the networks that have it."""
import re

import pytest
import torch
import torch.nn.functional as F
from samples import in_one_graph, randomise
from torch import nn

import mmattn.convs.attention_augmented as module
from mmattn.backbones import ResNet
from mmattn.checkpoints.convert import find_table, map_keys
from mmattn.convs import AAConv

SMALL = dict(num_heads=2, min_key_channels=3, value_share=0.3)


def conv_of(*size, **options):
    """From 6 to 14 channels: 4 of them two heads', 3 channels of keys."""
    options = dict(SMALL, map_size=size, **options)
    return randomise(AAConv(6, 14, **options)).double()


def random_map(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64)


def attended(q, k, v, height_table, width_table, heads=2):
    """Pair by pair: of maps (channels, H, W), and a row for each offset."""
    height, width = q.shape[1:]
    places = [(y, x) for y in range(height) for x in range(width)]
    results = []
    for qs, ks, vs in zip(*(t.chunk(heads) for t in (q, k, v))):
        columns = []
        for y, x in places:
            logits = torch.stack([
                qs[:, y, x] @ (ks[:, j, i] + height_table[j - y + height - 1] +
                               width_table[i - x + width - 1])
                for j, i in places
            ])
            a = (logits / len(qs)**0.5).softmax(0)
            columns.append(
                sum(weight * vs[:, j, i]
                    for weight, (j, i) in zip(a, places)))
        results.append(torch.stack(columns, 1).reshape(-1, height, width))
    return torch.cat(results)


def by_hand(conv, x, stride=1):
    """What an image's attention gives, its map (C, H, W) being pooled."""
    keys = conv.num_heads * conv.key_channels
    qkv = torch.einsum('oc,chw->ohw', conv.qkv.weight[..., 0, 0],
                       x[:, ::stride, ::stride])
    y = attended(qkv[:keys], qkv[keys:2 * keys], qkv[2 * keys:],
                 conv.height_table, conv.width_table)
    return torch.einsum('oc,chw->ohw', conv.project.weight[..., 0, 0], y)


@pytest.mark.parametrize('stride, dilation', [(1, 1), (2, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize('batch', [1, 2])
def test_formula(stride, dilation, batch):
    x = random_map(batch, 6, 5, 7)
    conv = conv_of(
        *((5, 7) if stride == 1 else (3, 4)),
        stride=stride, padding=dilation, dilation=dilation)
    y = conv(x)
    plain = F.conv2d(x, conv.conv.weight, None, stride, dilation, dilation)
    assert y.shape[1] == 14 and plain.shape[1] == 10
    assert torch.equal(y[:, :10], plain)
    expected = torch.stack([by_hand(conv, image, stride) for image in x])
    torch.testing.assert_close(y[:, 10:], expected)


def test_the_published_order():
    """Of queries at (x, y), and with the tables swapped."""
    conv = conv_of(3, 3, published_order=True)
    x = random_map(1, 6, 3, 3)
    n, d, size = 2, conv.key_channels, 3
    q, k, v = (
        part.reshape(n, -1, size, size) for part in torch.einsum(
            'oc,chw->ohw', conv.qkv.weight[..., 0, 0], x[0]).split(
                [n * d, n * d, conv.value_channels * n]))
    y = torch.zeros_like(v)
    for head in range(n):
        for a in range(size):
            for b in range(size):
                logits = torch.stack([
                    q[head, :, a, b] @ k[head, :, i, j] + q[head, :, b, a] @ (
                        conv.width_table[i - a + 2] +
                        conv.height_table[j - b + 2])
                    for i in range(size) for j in range(size)
                ]) / d**0.5
                y[head, :, a, b] = v[head].flatten(1) @ logits.softmax(0)
    expected = torch.einsum('oc,chw->ohw', conv.project.weight[..., 0, 0],
                            y.flatten(0, 1))
    torch.testing.assert_close(conv(x)[0, 10:], expected)
    with pytest.raises(ValueError, match='square maps, got 3x5'):
        conv(random_map(1, 6, 3, 5))


@pytest.mark.parametrize('kernel_size, padding', [(1, 0), (5, 2)])
def test_of_other_kernels(kernel_size, padding):
    conv = conv_of(3, 2, kernel_size=kernel_size, padding=padding)
    x = random_map(2, 6, 3, 2)
    y = conv(x)
    assert torch.equal(
        y[:, :10], F.conv2d(x, conv.conv.weight, None, 1, padding))
    torch.testing.assert_close(y[1, 10:], by_hand(conv, x[1]))


@pytest.mark.parametrize('stride, pooled, attended_size', [
    (1, 2, (3, 4)), (2, 2, (2, 2)), (1, 3, (2, 3))])
def test_attention_over_a_pooled_map(stride, pooled, attended_size):
    conv = conv_of(*attended_size, stride=stride, pool_stride=pooled)
    x = random_map(1, 6, 5, 7)
    reach = pooled - 1
    small = torch.stack([
        torch.stack([
            x[0, :, max(j - reach, 0):j + pooled,
              max(i - reach, 0):i + pooled].mean((1, 2))
            for i in range(0, 7, pooled)
        ], 1) for j in range(0, 5, pooled)
    ], 1)
    y = conv(x)
    a = by_hand(conv, small, stride)
    assert a.shape[1:] == attended_size
    torch.testing.assert_close(
        y[:, 10:],
        F.interpolate(a[None], y.shape[2:], mode='bilinear'))
    torch.testing.assert_close(
        y[:, :10], F.conv2d(x, conv.conv.weight, None, stride, 1))


def test_tables_of_another_size_by_hand():
    table = torch.tensor([[0., 5], [1, 6], [2, 7]])  # offsets -1, 0, 1
    rows = module._relative(table, 3)
    # Offsets -2, ..., 2 are 3/5 of theirs; the last stays the last.
    values = torch.tensor([0, 0.4, 1, 1.6, 2])
    for query in range(3):
        for key in range(3):
            offset = values[key - query + 2]
            torch.testing.assert_close(
                rows[query, key], torch.stack([offset, offset + 5]))
    assert module._relative(table, 1).tolist() == [[[1, 6]]]


def test_tables_of_the_same_size_are_not_touched():
    table = torch.randn(9, 4)
    rows = module._relative(table, 5)
    for offset in range(-4, 5):
        for query in range(max(0, -offset), min(5, 5 - offset)):
            assert torch.equal(rows[query, query + offset], table[offset + 4])


@pytest.mark.parametrize('size', [(5, 7), (3, 11), (2, 4)])
def test_a_map_of_another_size(size):
    conv = conv_of(3, 4)
    x = random_map(2, 6, *size)
    y = conv(x)
    other = conv_of(*size)
    state = conv.state_dict()
    for key, length in (('height_table', size[0]), ('width_table', size[1])):
        state[key] = F.interpolate(
            state[key].T[None], 2 * length - 1, mode='linear')[0].T
    other.load_state_dict(state)
    torch.testing.assert_close(other(x), y)
    torch.testing.assert_close(y[0, 10:], by_hand(other, x[0]))


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (8, 1), (13, 6)])
@pytest.mark.parametrize('pool_stride', [1, 2, 4])
@pytest.mark.parametrize('stride', [1, 2])
def test_any_size(size, pool_stride, stride):
    x = random_map(1, 6, *size)
    conv = conv_of(4, 3, stride=stride, pool_stride=pool_stride)
    plain = nn.Conv2d(6, 14, 3, stride, 1).double()
    y = conv(x)
    assert y.shape == plain(x).shape and y.isfinite().all()


# Algebra


def test_without_queries_attention_is_the_mean():
    conv = conv_of(5, 3)
    conv.qkv.weight.data[:6] = 0
    x = random_map(2, 6, 5, 3)
    values = F.conv2d(x.mean((2, 3), keepdim=True), conv.qkv.weight[12:])
    torch.testing.assert_close(
        conv(x)[:, 10:], F.conv2d(values, conv.project.weight).expand(
            -1, -1, 5, 3))


def test_what_all_offsets_share_says_nothing():
    conv, x = conv_of(5, 3), random_map(2, 6, 5, 3)
    before = conv(x)
    conv.height_table.data += torch.tensor([3., -1, 2])
    torch.testing.assert_close(conv(x), before)


def test_a_table_can_look_one_to_the_right():
    conv = AAConv(1, 3, map_size=(2, 4), num_heads=1, value_share=0.34,
                  min_key_channels=1)
    nn.init.ones_(conv.qkv.weight)
    nn.init.ones_(conv.project.weight)
    nn.init.zeros_(conv.height_table)
    nn.init.zeros_(conv.width_table)
    conv.width_table.data[3 + 1] = 1e4
    conv.height_table.data[1] = 1e4  # offset 0
    x = torch.tensor([[1., 2, 3, 4], [5, 6, 7, 8]])[None, None]
    y = conv(x)[0, 2]
    assert y[:, :3].tolist() == [[2, 3, 4], [6, 7, 8]]


def test_a_transposed_map_and_tables_give_the_transpose():
    conv, x = conv_of(5, 3), random_map(2, 6, 5, 3)
    turned = conv_of(3, 5)
    state = conv.state_dict()
    state['conv.weight'] = state['conv.weight'].transpose(2, 3)
    state['height_table'], state['width_table'] = (
        state['width_table'], state['height_table'])
    turned.load_state_dict(state)
    torch.testing.assert_close(
        turned(x.transpose(2, 3)),
        conv(x).transpose(2, 3))


def test_images_do_not_see_each_other():
    conv, x = conv_of(5, 3), random_map(3, 6, 5, 3)
    torch.testing.assert_close(conv(x)[1:2], conv(x[1:2]))


# Training


@pytest.mark.parametrize('size, pool_stride', [
    ((5, 3), 1), ((7, 4), 1), ((9, 5), 2)])
def test_every_parameter_has_a_gradient(size, pool_stride):
    conv = conv_of(5, 3, pool_stride=pool_stride)
    conv(random_map(2, 6, *size)).square().sum().backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    if size == (5, 3):  # every offset was there
        assert (conv.height_table.grad != 0).all()
        assert (conv.width_table.grad != 0).all()


def test_gradients_are_the_functions():
    conv = AAConv(2, 4, map_size=(2, 3), num_heads=1, value_share=0.5,
                  min_key_channels=2).double()
    x = random_map(2, 2, 3, 2).requires_grad_()
    names, values = zip(*conv.named_parameters())

    def call(x, *values):
        return torch.func.functional_call(
            conv, dict(zip(names, values)), (x, ))

    assert torch.autograd.gradcheck(call, (x, *values))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('scale', [1, 300])
def test_half_precision(dtype, scale):
    """Also with logits far beyond what exp can take."""
    conv = conv_of(5, 7).float()
    x = random_map(2, 6, 5, 7).float() * scale
    conv.qkv.weight.data[12:] /= scale
    exact = conv(x)[:, 10:]
    try:
        y = conv.to(dtype)(x.to(dtype))[:, 10:]
    except RuntimeError as error:  # on CPU, older PyTorch has no float16
        if "not implemented for 'Half'" not in str(error):
            raise
        pytest.skip(str(error))
    assert y.dtype == dtype and y.isfinite().all()
    if scale == 1:
        torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.1)


def test_autocast():
    conv = conv_of(3, 4).float()
    x = random_map(2, 6, 5, 7).float()
    with torch.autocast('cpu', torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), conv(x), rtol=0.05, atol=0.1)
    y.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in conv.parameters())


@pytest.mark.parametrize('options', [{}, dict(pool_stride=2, stride=2)])
def test_one_graph(options):
    conv, x = conv_of(5, 4, **options), random_map(2, 6, 7, 9)
    torch.testing.assert_close(in_one_graph(conv)(x), conv(x))


def test_nothing_is_kept_but_parameters():
    conv = conv_of(5, 4)
    before = conv.state_dict().keys()
    conv(random_map(1, 6, 7, 9))
    assert conv.state_dict().keys() == before == {
        'conv.weight', 'qkv.weight', 'project.weight', 'height_table',
        'width_table'}
    assert not list(conv.buffers())


def test_start_of_the_tables():
    torch.manual_seed(0)
    conv = AAConv(512, 512, map_size=(50, 70), min_key_channels=64)
    conv.init_weights()
    for table, rows in ((conv.height_table, 99), (conv.width_table, 139)):
        assert table.shape == (rows, 64)
        assert table.mean().item() == pytest.approx(0, abs=0.01)
        assert table.std().item() == pytest.approx(1 / 8, rel=0.05)


# Widths and what is refused


@pytest.mark.parametrize('channels, keys, values', [
    (128, 160, 8), (256, 160, 24), (512, 160, 48), (1024, 200, 96)])
def test_published_widths(channels, keys, values):
    conv = AAConv(channels, channels, map_size=(7, 7))
    assert conv.qkv.weight.shape == (2 * keys + values, channels, 1, 1)
    assert conv.conv.weight.shape == (channels - values, channels, 3, 3)
    assert conv.project.weight.shape == (values, values, 1, 1)
    assert conv.width_table.shape == (13, keys // 8)


def test_a_share_is_rounded_down_only_where_it_has_a_rest():
    assert int(0.29 * 100) == 28
    conv = AAConv(8, 100, map_size=(7, 7), num_heads=1, value_share=0.29)
    assert conv.value_channels == 29


@pytest.mark.parametrize('options, words', [
    (dict(groups=2), 'one group and no bias, got groups=2 and bias=False'),
    (dict(bias=True), 'one group and no bias, got groups=1 and bias=True'),
    (dict(padding=0), 'padding=0 with kernel_size=3 and dilation=1 changes '
     'the size of the map, which attention keeps; give padding=1'),
    (dict(dilation=2), 'give padding=2'),
    (dict(kernel_size=2), 'kernel_size must be a positive odd integer'),
    (dict(map_size=7), 'map_size must be height and width .* got 7'),
    (dict(map_size=(7, )), 'map_size must be height and width'),
    (dict(map_size=(0, 7)), 'height of map_size must be a positive integer'),
    (dict(map_size=(7, 2.5)), 'width of map_size must be a positive integer'),
    (dict(num_heads=0), 'num_heads must be a positive integer, got 0'),
    (dict(stride=0), 'stride must be a positive integer'),
    (dict(pool_stride=0), 'pool_stride must be a positive integer'),
    (dict(min_key_channels=0), 'min_key_channels must be a positive integer'),
    (dict(key_share=0), 'key_share must be above 0, got 0'),
    (dict(value_share=0), 'gives 8 heads 0 channels'),
    (dict(value_share=-0.5), 'gives 8 heads -24 channels'),
    (dict(value_share=1.), 'gives 8 heads 64 channels; .* one to the conv'),
    (dict(), 'value_share=0.1 of out_channels=64 gives 8 heads 0 channels'),
])
def test_refused(options, words):
    with pytest.raises(ValueError, match=f'(?s){words}'):
        AAConv(64, 64, **{'map_size': (7, 7), **options})


def test_a_map_size_must_be_given():
    with pytest.raises(TypeError, match='map_size'):
        ResNet((1, 1, 1, 1), conv2=dict(type='AAConv'))


# Networks


def words(**options):
    """conv2 of an AA-ResNet for images of 75 x 53, tiny."""
    sizes = [(10, 7), (5, 4), (3, 2)]
    return [None] + [
        dict(type='AAConv', map_size=size, **dict(SMALL, **options))
        for size in sizes
    ]


TINY = dict(depth=(1, 2, 1, 2), base_channels=8)
SEL = dict(type='SelectiveFusion', ratio=4, min_channels=4)
SE = dict(type='SE', ratio=4)
IMAGE = (75, 53)


@pytest.mark.parametrize('options', [
    dict(),
    dict(style='caffe', deep_stem=True, avg_down=True),
    dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    dict(with_cp=True, drop_path_rate=0.1),
    dict(depth_fusion=[None, SEL, None, SEL], attention=SE,
         link=dict(type='DCA'), fusion=dict(type='AFF', ratio=4)),
    dict(attention=SE, attention_at='hidden',
         stage_attention=dict(type='ECA')),
], ids=lambda options: ' '.join(options) or 'plain')
def test_a_network_trains_a_step(options):
    torch.manual_seed(0)
    net = randomise(ResNet(**TINY, conv2=words(), **options))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    x = torch.randn(3, 3, *IMAGE)
    maps = net(x)
    plain = ResNet(**TINY, **{
        key: options[key]
        for key in {'style', 'deep_stem', 'avg_down', 'strides',
                    'dilations'} & options.keys()
    })
    assert [y.shape for y in maps] == [y.shape for y in plain(x)]
    # Batch norms make sums of maps constant.
    sum(y.square().mul(torch.rand_like(y)).mean() for y in maps).backward()
    for name, parameter in net.named_parameters():
        if not name.endswith('link.mix.bias'):  # of the mean: no gradient
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    for name, parameter in net.named_parameters():
        if 'conv2' in name:
            assert parameter.grad.abs().sum() > 0, name
    optimizer.step()
    assert not torch.equal(before['layer2.1.conv2.width_table'],
                           net.layer2[1].conv2.width_table)


def test_stages_of_a_network():
    net = ResNet(**TINY, conv2=words(pool_stride=2))
    found = {
        name: conv.pool_stride
        for name, conv in net.named_modules() if isinstance(conv, AAConv)
    }
    assert found == {
        f'layer{stage}.{block}.conv2': 2
        for stage, blocks in ((2, 2), (3, 1), (4, 2))
        for block in range(blocks)
    }
    assert isinstance(net.layer1[0].conv2, nn.Conv2d)


def test_a_plain_checkpoint_is_refused():
    plain = ResNet(**TINY).state_dict()
    with pytest.raises(RuntimeError, match='[Oo]nly some of the trunk'):
        ResNet(**TINY, conv2=words()).load_state_dict(plain, strict=False)


def test_networks_with_groups_are_refused():
    with pytest.raises(ValueError, match='AAConv has one group'):
        ResNet(**TINY, groups=2, base_width=8, conv2=words())


@pytest.mark.config
@pytest.mark.parametrize('depth, sizes, options, published', [
    (50, (28, 14, 7), {}, 25_813_872),
    (50, (14, 14, 7), {}, 25_809_392),
    (101, (14, 14, 7), {}, 45_386_728),
    (101, (28, 14, 7), {}, 45_391_208),
    # The paper's other shares, in millions.
    (50, (28, 14, 7), dict(key_share=0.25, value_share=0.25), 24.3),
    (50, (28, 14, 7), dict(key_share=0.5, value_share=0.5), 22.3),
    (50, (28, 14, 7), dict(key_share=0.75, value_share=0.75), 20.7),
])
def test_sizes_of_the_networks(depth, sizes, options, published):
    with torch.device('meta'):
        net = ResNet(depth, conv2=[None] + [
            dict(type='AAConv', map_size=(s, s), **options) for s in sizes
        ])
    count = sum(p.numel() for p in net.parameters()) + 2048 * 1000 + 1000
    if isinstance(published, float):
        count = round(count / 1e6, 1)
    assert count == published


# Checkpoints


def test_published_names_give_the_papers_formula():
    """Queries, keys, values, and the two tables, which lie on their sides."""
    d, height, width = 5, 3, 4
    shapes = {
        'conv1.weight': (1, ),
        'layer2.1.conv2.key_rel_h': (d, 2 * height - 1),
        'layer2.1.conv2.key_rel_w': (d, 2 * width - 1),
        'layer2.1.conv2.conv.weight': (10, 6, 3, 3),
        'layer2.1.conv2.in_proj_qkv.weight': (4 * d + 4, 6, 1, 1),
        'layer2.1.conv2.out_proj.weight': (4, 4, 1, 1),
    }
    file = {
        key: random_map(*shape, seed=seed)
        for seed, (key, shape) in enumerate(shapes.items())
    }
    table = find_table(file)
    assert table.name == 'peers aa'
    mapped, dropped = map_keys(table, file)
    assert dropped == 0
    ours = 'backbone.layer2.1.conv2.'
    conv = conv_of(height, width, min_key_channels=d)
    conv.load_state_dict({
        re.sub(f'^{re.escape(ours)}', '', key): value
        for key, value in mapped.items() if key.startswith(ours)
    })
    x = random_map(1, 6, height, width, seed=9)

    def weight(name):
        return file[f'layer2.1.conv2.{name}']

    q, k, v = F.conv2d(x, weight('in_proj_qkv.weight'))[0].split(
        [2 * d, 2 * d, 4])
    a = attended(q, k, v, weight('key_rel_h').T, weight('key_rel_w').T)
    expected = torch.cat([
        F.conv2d(x, weight('conv.weight'), padding=1),
        F.conv2d(a[None], weight('out_proj.weight'))
    ], 1)
    torch.testing.assert_close(conv(x), expected)
