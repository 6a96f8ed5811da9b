"""Every block with every part, and the stage that runs them.

Parts are built by hand here: a factory is a class, a partial or a lambda,
and no registry is involved.
"""
from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer, build_norm_layer
from samples import randomise
from torch import nn

from mmattn.attentions import CBAM, ECA, GC, SE, CoordAttention
from mmattn.backbones import (BasicBlock, Bottleneck, PreActBlock, ResNet,
                              SKBottleneck, Stage)
from mmattn.fusions import Add, SelectiveFusion
from mmattn.links import DCA
from mmattn.parts import Parts

BLOCKS = [BasicBlock, Bottleneck, PreActBlock]
PLACES = [(block, at) for block in BLOCKS for at in block.places]

every_block = pytest.mark.parametrize('block_type', BLOCKS)
# Those that end in a norm, and an activation behind the join.
every_stock_block = pytest.mark.parametrize('block_type',
                                            [BasicBlock, Bottleneck])
every_place = pytest.mark.parametrize('block_type,at', PLACES)


def parts(norm_cfg=dict(type='BN'), **options):
    return Parts(
        conv=partial(build_conv_layer, None, bias=False),
        norm=partial(build_norm_layer, norm_cfg),
        **options)


def build(block_type, in_channels=16, channels=8, stride=1, dilation=1,
          carry_channels=None, block=None, **options):
    return randomise(
        block_type(in_channels, channels, stride, dilation, parts(**options),
                   carry_channels, **(block or {})))


def gradients(module):
    return {key: p.grad for key, p in module.named_parameters()}


class Recorder(nn.Module):
    """Keeps what it gets and gives it back; a part for every slot."""

    def __init__(self, in_channels=None, inplace=None):
        super().__init__()
        self.in_channels = in_channels
        self.inplace = inplace
        self.got = []

    def forward(self, x):
        self.got.append(x)
        return x


# Blocks


@every_block
@pytest.mark.parametrize('stride,dilation', [(1, 1), (2, 1), (1, 3)])
def test_shapes(block_type, stride, dilation):
    block = build(block_type, stride=stride, dilation=dilation)
    out_channels = 8 * block_type.expansion
    assert block.out_channels == out_channels
    z, carry = block(torch.randn(2, 16, 7, 5))
    assert z.shape == (2, out_channels, *((4, 3) if stride == 2 else (7, 5)))
    assert carry is None


@every_block
def test_the_result_is_the_sum_before_the_activation(block_type):
    block = build(block_type).eval()
    x = torch.randn(2, 16, 7, 5)
    before = x.clone()
    z, _ = block(x)
    assert (z < 0).any()
    y, _ = block.branch(x, None)
    assert torch.equal(z, y + block.shortcut(x))
    assert torch.equal(x, before)


@every_block
def test_shortcut_projects_only_where_shapes_differ(block_type):
    width = 8 * block_type.expansion
    assert build(block_type, in_channels=width).downsample is None
    x = torch.randn(2, width, 7, 5)
    assert build(block_type, in_channels=width).shortcut(x) is x
    conv, *norms = build(block_type, in_channels=width, stride=2).downsample
    assert (conv.kernel_size, conv.stride) == ((1, 1), (2, 2))
    assert [type(norm) for norm in norms
            ] == [nn.BatchNorm2d] * (block_type is not PreActBlock)


@every_block
@pytest.mark.parametrize('stride', [1, 2])
def test_avg_down(block_type, stride):
    block = build(block_type, in_channels=24, stride=stride,
                  block=dict(avg_down=True))
    pool, conv, *_ = block.downsample
    x = torch.randn(2, 24, 7, 5)
    if stride == 1:
        assert isinstance(pool, nn.Identity)
    else:
        # What hangs over the edge is averaged over what is there.
        torch.testing.assert_close(pool(x)[:, :, -1, -1], x[:, :, 6, 4])
    assert conv.stride == (1, 1)
    assert block.shortcut(x).shape[2:] == block(x)[0].shape[2:]


@every_place
@pytest.mark.parametrize('stride', [1, 2])
def test_the_attention_sits_at_its_place(block_type, at, stride):
    block = build(block_type, stride=stride, attention=Recorder,
                  attention_at=at)
    channels = 8 if at == 'hidden' else 8 * block_type.expansion
    assert block.attention.in_channels == channels
    assert block.attention_channels == channels
    x = torch.randn(2, 16, 7, 5)
    z, _ = block.eval()(x)
    y, = block.attention.got
    assert y.shape[:2] == (2, channels)
    if at == 'hidden':
        assert (y >= 0).all()  # behind its relu
        y = block.last_norm(block.conv3(y))
    assert torch.equal(z, y + block.shortcut(x))


@every_place
@pytest.mark.parametrize('cls', [SE, ECA, GC, CBAM, CoordAttention])
@pytest.mark.parametrize('linked', [False, True])
def test_every_parameter_has_a_gradient(block_type, at, cls, linked):
    attention = cls if cls is ECA else partial(cls, ratio=2)
    # The width of a link's hidden layer is a 16th.
    channels = 32
    block = build(
        block_type,
        in_channels=16,
        channels=channels,
        attention=attention,
        attention_at=at,
        link=DCA if linked else None,
        fusion=SelectiveFusion,
        carry_channels=24).double().train()
    x = torch.randn(3, 16, 7, 5).double()
    carry = None
    if linked:
        first = DCA(attention(24), 24, None)
        _, carry = first(
            attention(24).double(),
            torch.randn(3, 24, 13, 10).double(), None)
    z, handed = block(x, carry)
    assert (handed is None) != linked
    z.square().sum().backward()
    assert not [key for key, grad in gradients(block).items() if grad is None]


@every_block
def test_without_an_attention_the_carry_passes(block_type):
    carry = object()
    _, handed = build(block_type)(torch.randn(2, 16, 7, 5), carry)
    assert handed is carry


@every_place
def test_an_unlinked_attention_lets_the_carry_pass(block_type, at):
    block = build(block_type, attention=Recorder, attention_at=at)
    carry = object()
    _, handed = block(torch.randn(2, 16, 7, 5), carry)
    assert handed is carry


@pytest.mark.parametrize('block_type,at', [(BasicBlock, 'hidden'),
                                           (BasicBlock, 'input'),
                                           (Bottleneck, 'input')])
def test_a_place_that_is_not_there_is_refused(block_type, at):
    words = f"{block_type.__name__} has no place '{at}'.*'output'"
    with pytest.raises(ValueError, match=words):
        build(block_type, attention=SE, attention_at=at)


def test_a_basic_block_has_no_conv2_to_replace():
    with pytest.raises(ValueError, match='BasicBlock .* has none to replace'):
        build(BasicBlock, conv2=nn.Conv2d)


def test_conv2_is_called_like_a_convolution():
    calls = []

    def conv2(*args, **options):
        calls.append((args, options))
        return nn.Conv2d(*args, **options)

    block = build(Bottleneck, stride=2, dilation=3, conv2=conv2)
    (args, options), = calls
    assert args == (8, 8, 3)
    assert options == dict(
        stride=2, padding=3, dilation=3, groups=1, bias=False)
    assert block(torch.randn(2, 16, 7, 5))[0].shape == (2, 32, 4, 3)


@every_block
def test_the_join_gets_branch_and_shortcut(block_type):
    got = []

    class Second(Add):

        def forward(self, xs):
            got.append(xs)
            return xs[1]

    block = build(block_type, fusion=Second).eval()
    x = torch.randn(2, 16, 7, 5)
    z, _ = block(x)
    (branch, shortcut), = got
    assert torch.equal(branch, block.branch(x, None)[0])
    assert torch.equal(shortcut, block.shortcut(x))
    assert z is shortcut


@pytest.mark.parametrize('style,strides', [('pytorch', (1, 2)),
                                           ('caffe', (2, 1))])
def test_style_says_where_the_stride_is(style, strides):
    block = build(Bottleneck, stride=2, block=dict(style=style))
    assert (block.conv1.stride[0], block.conv2.stride[0]) == strides
    assert block(torch.randn(2, 16, 7, 5))[0].shape == (2, 32, 4, 3)


@pytest.mark.parametrize('groups,width,hidden', [(1, 1., 8), (4, 1.5, 12),
                                                 (8, 2.3, 16)])
def test_width_of_the_spatial_convolution(groups, width, hidden):
    block = build(Bottleneck, block=dict(groups=groups, width=width))
    assert block.conv2.weight.shape == (hidden, hidden // groups, 3, 3)


def test_groups_must_leave_a_channel():
    with pytest.raises(ValueError, match='groups=32 leave no channel'):
        build(Bottleneck, block=dict(groups=32))


@pytest.mark.parametrize('norm_cfg,name,kind', [
    (dict(type='BN'), 'bn', nn.BatchNorm2d),
    (dict(type='GN', num_groups=2), 'gn', nn.GroupNorm)
])
@every_stock_block
def test_norms_have_their_published_names(block_type, norm_cfg, name, kind):
    block = block_type(16, 8, 1, 1, parts(norm_cfg=norm_cfg))
    count = 2 if block_type is BasicBlock else 3
    for i in range(1, count + 1):
        assert isinstance(getattr(block, f'{name}{i}'), kind)
    assert block.last_norm is getattr(block, f'{name}{count}')


@every_stock_block
def test_zeroing_the_last_norm_leaves_the_shortcut(block_type):
    block = build(block_type, attention=SE if block_type is Bottleneck else
                  partial(SE, ratio=2))
    nn.init.zeros_(block.last_norm.weight)
    nn.init.zeros_(block.last_norm.bias)
    x = torch.randn(2, 16, 7, 5)
    # Both in training mode: their norms see the same batch.
    z, _ = block(x)
    assert torch.equal(z, block.shortcut(x))


@every_place
def test_checkpointing_changes_no_number(block_type, at):
    """With a carry coming in and one going out, both in the graph."""

    def run(with_cp):
        block = build(
            block_type,
            attention=partial(SE, ratio=2),
            attention_at=at,
            link=DCA,
            carry_channels=24,
            with_cp=with_cp).double()
        calls = []
        block.conv1.register_forward_hook(lambda *_: calls.append(0))
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(2, 16, 7, 5, generator=generator).double()
        carry = torch.rand(2, 24, 1, 1, generator=generator).double()
        x.requires_grad_()
        carry.requires_grad_()
        z, handed = block(x, carry)
        (z.square().sum() + handed.sum()).backward()
        return (z, handed, x.grad, carry.grad,
                *gradients(block).values()), len(calls)

    plain, once = run(False)
    recomputed, twice = run(True)
    assert (once, twice) == (1, 2)
    for a, b in zip(recomputed, plain):
        assert torch.equal(a, b)


@every_block
def test_checkpointing_stores_less(block_type):

    def stored(with_cp):
        sizes = []
        block = build(block_type, with_cp=with_cp)
        x = torch.randn(2, 16, 7, 5, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(
                lambda t: sizes.append(t.numel()) or t, lambda t: t):
            block(x)
        return sum(sizes)

    assert stored(True) <= 2 * 16 * 7 * 5 < stored(False)


@every_block
def test_checkpointing_is_for_training_only(block_type):
    block = build(block_type, with_cp=True).eval()
    with torch.no_grad():
        z, _ = block(torch.randn(2, 16, 7, 5))
    assert z.grad_fn is None


@every_block
def test_drop_path_drops_the_branch(block_type):
    block = build(block_type, drop_path=1 - 1e-7)
    x = torch.randn(3, 16, 7, 5)
    z, _ = block(x)
    assert torch.equal(z, block.shortcut(x))
    block.eval()
    z, _ = block(x)
    assert torch.equal(z, block.branch(x, None)[0] + block.shortcut(x))


@every_block
def test_drop_path_drops_images_and_scales_the_rest(block_type):
    block = build(block_type, drop_path=0.5).eval()
    x = torch.randn(64, 16, 3, 2)
    y, _ = block.branch(x, None)
    block.drop_path.train()
    ratio = ((block(x)[0] - block.shortcut(x)) / y).flatten(1)
    kept = ratio.mean(1)
    assert {round(v) for v in kept.tolist()} == {0, 2}
    torch.testing.assert_close(
        ratio, kept.round()[:, None].expand_as(ratio), rtol=1e-2, atol=1e-2)


@every_block
def test_without_a_rate_there_is_no_drop_path(block_type):
    assert isinstance(build(block_type).drop_path, nn.Identity)


# Blocks of their own kind


def normed(norm, y):
    """A batch norm in eval mode, as plain tensor code."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    return y * scale[:, None, None] + shift[:, None, None]


def test_a_pre_activation_block_by_hand():
    block = build(PreActBlock, stride=2, block=dict(avg_down=True)).eval()
    x = torch.randn(2, 16, 7, 5)
    y = F.conv2d(normed(block.bn1, x).relu(), block.conv1.weight, stride=2,
                 padding=1)
    y = F.conv2d(normed(block.bn2, y).relu(), block.conv2.weight, padding=1)
    pooled = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    z, _ = block(x)
    torch.testing.assert_close(
        z, y + F.conv2d(pooled, block.downsample[1].weight))
    assert block.act(z) is z


def selective(in_channels, num_maps):
    return SelectiveFusion(in_channels, num_maps, min_channels=4, bias=False)


@pytest.mark.parametrize('stride,dilation', [(1, 1), (2, 1), (1, 3)])
def test_branches_by_hand(stride, dilation):
    """SKNet: softmax over parallel convolutions decides for each channel."""
    block = build(
        SKBottleneck,
        stride=stride,
        dilation=dilation,
        attention=selective,
        attention_at='hidden',
        block=dict(branches=[dict(dilation=2), dict(groups=4)])).eval()
    x = torch.randn(2, 16, 7, 5)
    y = normed(block.bn1, F.conv2d(x, block.conv1.weight)).relu()
    maps = []
    for conv, norm, d, groups in (
        (block.conv2, block.bn2, dilation, 1),
        (*block.branches[0][:2], 2 * dilation, 1),
        (*block.branches[1][:2], dilation, 4)):
        maps.append(normed(norm, F.conv2d(
            y, conv.weight, stride=stride, padding=d, dilation=d,
            groups=groups)).relu())
    fusion = block.attention
    g = sum(m.mean((2, 3), keepdim=True) for m in maps)
    g = normed(fusion.norm, F.conv2d(g, fusion.squeeze.weight)).relu()
    logits = F.conv2d(g, fusion.project.weight).unflatten(1, (3, 8))
    y = sum(m * a for m, a in zip(maps, logits.softmax(1).unbind(1)))
    y = normed(block.bn3, F.conv2d(y, block.conv3.weight))
    torch.testing.assert_close(block(x)[0], y + block.shortcut(x))


@pytest.mark.parametrize('options,words', [
    (dict(), 'branches need a fusion.*SelectiveFusion'),
    (dict(attention=selective), "no place 'output'"),
    (dict(attention=selective, attention_at='hidden', conv2=nn.Conv2d),
     'branches and conv2'),
])
def test_branches_refuse(options, words):
    with pytest.raises(ValueError, match=words):
        build(SKBottleneck, block=dict(branches=[dict(dilation=2)]),
              **options)


# Stages


def build_stage(num_blocks, depth_fusion=True, stage_attention=None,
                block_type=Bottleneck, in_channels=16, channels=8, stride=2,
                min_channels=8, **options):
    out_channels = channels * block_type.expansion
    shared = parts(inplace=not depth_fusion, **options)
    blocks = [
        block_type(out_channels if i else in_channels, channels,
                   1 if i else stride, 1, shared,
                   out_channels if i else None) for i in range(num_blocks)
    ]
    fusion = SelectiveFusion(
        out_channels, num_maps=num_blocks,
        min_channels=min_channels) if depth_fusion else None
    return randomise(
        Stage(blocks, fusion, stage_attention
              and stage_attention(out_channels)))


def test_a_stage_is_a_sequence_of_its_blocks():
    stage = build_stage(3)
    blocks = stage.blocks
    assert len(stage) == len(blocks) == 3
    assert all(stage[i] is blocks[i] for i in range(3))
    assert stage[-1] is blocks[2]
    assert list(stage) == blocks
    assert [name for name, _ in stage.named_children()
            ] == ['0', '1', '2', 'depth_fusion']
    with pytest.raises(IndexError):
        stage[3]


def published_stage(stage, x):
    """The formula of SDA-xNet's stage, with nothing of ours but weights.

    Keeps every sum in a stack, adds them up before pooling, and runs one
    convolution per depth.
    """
    training = stage.training
    state = dict(stage.named_parameters())
    buffers = dict(stage.named_buffers())

    def norm(name, x):
        return F.batch_norm(x, buffers[f'{name}.running_mean'].clone(),
                            buffers[f'{name}.running_var'].clone(),
                            state[f'{name}.weight'], state[f'{name}.bias'],
                            training)

    def conv(name, x, **options):
        return F.conv2d(x, state[f'{name}.weight'], **options)

    sums = []
    for i in range(len(stage)):
        stride = 2 if i == 0 else 1
        y = F.relu(norm(f'{i}.bn1', conv(f'{i}.conv1', x)))
        y = F.relu(
            norm(f'{i}.bn2', conv(f'{i}.conv2', y, stride=stride, padding=1)))
        y = norm(f'{i}.bn3', conv(f'{i}.conv3', y))
        if i == 0:
            x = norm('0.downsample.1', conv('0.downsample.0', x, stride=2))
        sums.append(y + x)
        x = F.relu(sums[-1])
    stack = torch.stack(sums, 1)  # (B, n, C, H, W)
    u = stack.sum(1).mean((2, 3), keepdim=True)
    v = F.relu(norm('depth_fusion.norm', conv('depth_fusion.squeeze', u)))
    per_depth = zip(state['depth_fusion.project.weight'].chunk(len(stage)),
                    state['depth_fusion.project.bias'].chunk(len(stage)))
    s = torch.stack([F.conv2d(v, w, b) for w, b in per_depth], 1)
    a = s.exp() / s.exp().sum(1, keepdim=True)
    return F.relu((a * stack).sum(1))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('num_blocks', [2, 5])
@pytest.mark.parametrize('with_cp', [False, True])
def test_depth_fusion_is_the_published_stage(num_blocks, training, with_cp):
    stage = build_stage(num_blocks, with_cp=with_cp).double().train(training)
    generator = torch.Generator().manual_seed(1)
    # Two images would leave the norm of the hidden layer two values, and its
    # gradient nothing but rounding.
    x = torch.randn(4, 16, 13, 10, generator=generator).double()
    inputs = x.clone().requires_grad_(), x.clone().requires_grad_()
    close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)

    expected = published_stage(stage, inputs[1])
    expected.square().sum().backward()
    wanted = gradients(stage)
    stage.zero_grad()
    y, _ = stage(inputs[0])
    y.square().sum().backward()

    close(y, expected)
    close(inputs[0].grad, inputs[1].grad, rtol=1e-10)
    for key, grad in gradients(stage).items():
        assert wanted[key].abs().max() > 0
        close(grad / wanted[key].abs().max(),
              wanted[key] / wanted[key].abs().max(), rtol=1e-10)
    with torch.no_grad():
        close(stage(x)[0], expected)


def test_the_first_sum_survives_to_the_end():
    """An activation in place would cut its negative half off."""
    stage = build_stage(3).eval()
    with torch.no_grad():
        stage.depth_fusion.project.weight.zero_()
        stage.depth_fusion.project.bias[:32] = 50.  # only the first map
        stage.depth_fusion.project.bias[32:] = -50.
        x = torch.randn(2, 16, 13, 10)
        z, _ = stage[0](x)
        stage[0].act = Recorder()
        stage[2].act = nn.Identity()
        y, _ = stage(x)
    assert (z < 0).any()
    torch.testing.assert_close(y, z)


@every_stock_block
def test_the_last_sum_is_not_activated(block_type):
    """Each inner block's is; the last block's activation ends the stage."""
    stage = build_stage(3, block_type=block_type, act=Recorder).eval()
    x = torch.randn(2, 16, 13, 10)
    y, _ = stage(x)
    zs = []
    for block in stage:
        x = block(x)[0]
        zs.append(x)
    inner, last = [block.act.got for block in stage.blocks[:-1]
                   ], stage[-1].act.got
    for got, z in zip(inner, zs):
        assert len(got) == 1
        assert torch.equal(got[0], z)
    assert len(last) == 1
    assert last[0] is y
    assert not torch.equal(last[0], zs[-1])


@pytest.mark.parametrize('depth_fusion', [True, False])
def test_the_stage_decides_what_works_in_place(depth_fusion):
    net = ResNet(
        (2, 2),
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(0, 1),
        base_channels=8,
        depth_fusion=[
            None,
            dict(type='SelectiveFusion') if depth_fusion else None
        ])
    assert [block.act.inplace for block in net.layer1] == [True, True]
    assert [block.act.inplace
            for block in net.layer2] == [not depth_fusion] * 2


def test_without_depth_fusion_blocks_follow_each_other():
    stage = build_stage(3, depth_fusion=False).eval()
    x = torch.randn(2, 16, 13, 10)
    y, carry = stage(x)
    for block in stage:
        x = F.relu(block(x)[0])
    assert torch.equal(y, x)
    assert carry is None


@pytest.mark.parametrize('depth_fusion', [True, False])
def test_the_carry_goes_through_a_stage(depth_fusion):
    stage = build_stage(
        3, depth_fusion, attention=partial(SE, ratio=4), link=DCA).eval()
    x = torch.randn(2, 16, 13, 10)
    _, carry = stage(x)
    expected = None
    for block in stage:
        x, expected = block(x, expected)
        x = F.relu(x)
    torch.testing.assert_close(carry, expected)


@pytest.mark.parametrize('depth_fusion', [True, False])
def test_the_stage_attention_comes_last(depth_fusion):
    stage = build_stage(2, depth_fusion, stage_attention=ECA).eval()
    x = torch.randn(2, 16, 13, 10)
    y, _ = stage(x)
    attention, stage.stage_attention = stage.stage_attention, None
    torch.testing.assert_close(y, attention(stage(x)[0]))


def test_depth_fusion_by_addition():
    stage = build_stage(3).eval()
    stage.depth_fusion = Add(32, num_maps=3)
    x = torch.randn(2, 16, 13, 10)
    y, _ = stage(x)
    total = 0
    for block in stage:
        z, _ = block(x)
        total = total + z
        x = F.relu(z)
    torch.testing.assert_close(y, F.relu(total))


def test_a_stage_can_be_copied():
    stage = build_stage(2, stage_attention=ECA).eval()
    x = torch.randn(2, 16, 13, 10)
    assert torch.equal(deepcopy(stage)(x)[0], stage(x)[0])


# The ramp of drop rates


@pytest.mark.parametrize('depth,num_blocks', [(18, 8), ((2, 1, 3, 1), 7)])
@pytest.mark.parametrize('num_stages', [4, 2])
def test_drop_path_rises_linearly(depth, num_blocks, num_stages):
    net = ResNet(
        depth,
        base_channels=8,
        num_stages=num_stages,
        strides=(1, 2, 2, 2)[:num_stages],
        dilations=(1, ) * num_stages,
        out_indices=(0, 1),
        drop_path_rate=0.3)
    rates = [
        getattr(block.drop_path, 'drop_prob', 0.) for name in net.stage_names
        for block in getattr(net, name)
    ]
    ramp = torch.linspace(0, 0.3, num_blocks)[:len(rates)]
    torch.testing.assert_close(torch.tensor(rates), ramp)
    assert len(rates) < num_blocks or num_stages == 4
