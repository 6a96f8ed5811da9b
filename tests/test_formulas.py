"""Networks against their papers' formulas as plain tensor code.

Each family's network is written here once more, from the equations, over the
same weights: a ResNet of bottlenecks, and what the paper does at the end of
a branch, at a join, at the end of a stage. Outputs, gradients of the image
and of every parameter must agree, with batch norms in training.
"""
import pytest
import torch
import torch.nn.functional as F
from samples import randomise

from mmattn.backbones import ResNet, SKNet

DEPTHS = (2, 2, 1)
BASE = 16


def conv(w, name, x, **options):
    return F.conv2d(x, w[f'{name}.weight'], w.get(f'{name}.bias'), **options)


def norm(w, name, x):
    """Batch norm with the batch's own statistics."""
    mean = x.mean((0, 2, 3), keepdim=True)
    var = (x - mean).square().mean((0, 2, 3), keepdim=True)
    scale, shift = w[f'{name}.weight'], w[f'{name}.bias']
    return ((x - mean) / (var + 1e-5).sqrt() * scale[:, None, None] +
            shift[:, None, None])


def layer_norm(w, name, x):
    mean = x.mean(1, keepdim=True)
    var = (x - mean).square().mean(1, keepdim=True)
    scale, shift = w[f'{name}.weight'], w[f'{name}.bias']
    return (x - mean) / (var + 1e-5).sqrt() * scale.flatten() + shift.flatten()


def linear(w, name, v):
    weight = w[f'{name}.weight']
    return v @ weight.reshape(len(weight), -1).T + w[f'{name}.bias']


def network(w, x, spatial=None, attend=None, join=None, fuse=None):
    """A ResNet; the state goes from block to block."""
    x = norm(w, 'bn1', conv(w, 'conv1', x, stride=2, padding=3)).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    outs, state = [], None
    for s, depth in enumerate(DEPTHS, 1):
        sums = []
        for b in range(depth):
            name = f'layer{s}.{b}'
            stride = 2 if s > 1 and b == 0 else 1
            y = norm(w, f'{name}.bn1', conv(w, f'{name}.conv1', x)).relu()
            if spatial:
                y, state = spatial(w, name, y, stride, state)
            else:
                y = conv(w, f'{name}.conv2', y, stride=stride, padding=1)
                y = norm(w, f'{name}.bn2', y).relu()
            y = norm(w, f'{name}.bn3', conv(w, f'{name}.conv3', y))
            if attend:
                y, state = attend(w, name, y, state)
            if b == 0:
                x = conv(w, f'{name}.downsample.0', x, stride=stride)
                x = norm(w, f'{name}.downsample.1', x)
            z = join(w, f'{name}.fusion', y, x) if join else y + x
            sums.append(z)
            x = z.relu()
        if fuse:
            x = fuse(w, f'layer{s}.depth_fusion', sums).relu()
        outs.append(x)
    return outs


# -- the papers ------------------------------------------------------------


def se_gate(w, name, v):
    v = linear(w, f'{name}.attention.fc1', v).relu()
    return linear(w, f'{name}.attention.fc2', v).sigmoid()


def dca(w, link, v, state):
    """relu(LN(a v + b p + c)), p the state, projected where widths differ."""
    if state is None:
        return v
    if f'{link}.match_fc.0.weight' in w:
        state = linear(w, f'{link}.match_fc.0', state)
        state = layer_norm(w, f'{link}.match_fc.1', state).relu()
    a, b = w[f'{link}.mix.weight']
    z = a * v + b * state + w[f'{link}.mix.bias']
    return layer_norm(w, f'{link}.mix.norm', z).relu()


def se(w, name, y, state):
    return y * se_gate(w, name, y.mean((2, 3)))[..., None, None], None


def dca_se(w, name, y, state):
    v = y.mean((2, 3))
    t = se_gate(w, name, dca(w, f'{name}.link', v, state))
    return y * t[..., None, None], v * t


def dca_gc(w, name, y, state):
    logits = conv(w, f'{name}.attention.mask', y).flatten(2)
    attention = logits.exp() / logits.exp().sum(2, keepdim=True)
    v = (y.flatten(2) * attention).sum(2)
    if state is not None:
        link = f'{name}.link'
        if f'{link}.match_fc.0.weight' in w:
            state = linear(w, f'{link}.match_fc.0', state)
            state = layer_norm(w, f'{link}.match_fc.1', state).relu()
            state = linear(w, f'{link}.match_fc.3', state)
        v = v + w[f'{link}.weight'] * state
    t = linear(w, f'{name}.attention.fc1', v)
    t = layer_norm(w, f'{name}.attention.norm', t).relu()
    t = linear(w, f'{name}.attention.fc2', t)
    return y + t[..., None, None], t


def dca_cbam(w, name, y, state):
    """Two states, both maps; the channel gate's is matched at its own size."""
    link = f'{name}.link.links'
    mean, top = y.mean((2, 3)), y.amax((2, 3))
    if state is not None:
        p = state[0]
        if f'{link}.0.match_conv.0.weight' in w:
            p = conv(w, f'{link}.0.match_conv.0', p)
            p = norm(w, f'{link}.0.match_conv.1', p).relu()
        a, b = w[f'{link}.0.mix.weight']
        mean = layer_norm(w, f'{link}.0.mix.norm',
                          a * mean + b * p.mean((2, 3))).relu()
        top = layer_norm(w, f'{link}.0.mix.norm',
                         a * top + b * p.amax((2, 3))).relu()
    gate = f'{name}.attention.channel_gate'
    logit = sum(
        linear(w, f'{gate}.fc2', linear(w, f'{gate}.fc1', v).relu())
        for v in (mean, top))
    u = y * logit.sigmoid()[..., None, None]
    d = torch.stack((u.amax(1), u.mean(1)), 1)
    if state is not None:
        q = state[1]
        if q.shape[2:] != u.shape[2:]:
            q = F.avg_pool2d(q, q.shape[2] // u.shape[2])
        p1, p2 = w[f'{link}.1.weight']
        d = p1 * d + p2 * torch.stack((q.amax(1), q.mean(1)), 1)
        d = norm(w, f'{link}.1.norm', d).relu()
    gate = f'{name}.attention.spatial_gate'
    t = norm(w, f'{gate}.norm', conv(w, f'{gate}.conv', d, padding=3))
    v = u * t.sigmoid()
    return v, (u, v)


def sk(w, name, y, stride, state):
    one = conv(w, f'{name}.conv2', y, stride=stride, padding=1)
    two = conv(w, f'{name}.branches.0.0', y, stride=stride, padding=2,
               dilation=2)
    maps = (norm(w, f'{name}.bn2', one).relu(),
            norm(w, f'{name}.branches.0.1', two).relu())
    e = [m.mean((2, 3)) for m in maps]
    z = [
        dca(w, f'{name}.link.links.{i}', e[i], state and state[i])
        for i in range(2)
    ]
    z = (z[0] + z[1])[..., None, None]
    h = norm(w, f'{name}.attention.norm',
             conv(w, f'{name}.attention.squeeze', z)).relu()
    logits = conv(w, f'{name}.attention.project', h).flatten(1)
    first, second = logits.exp().split(logits.shape[1] // 2, 1)
    a = [first / (first + second), second / (first + second)]
    y = sum(m * t[..., None, None] for m, t in zip(maps, a))
    return y, [v * t for v, t in zip(e, a)]


def eca(w, name, y, state):
    kernel = w[f'{name}.attention.conv.weight'].flatten()
    reach = len(kernel) // 2
    v = F.pad(y.mean((2, 3)), (reach, reach))
    u = sum(k * v[:, i:i + y.shape[1]] for i, k in enumerate(kernel))
    return y * u.sigmoid()[..., None, None], None


def mscam(w, name, x):
    logit = 0
    for branch, d in (('local_branch', x),
                      ('global_branch', x.mean((2, 3), keepdim=True))):
        d = conv(w, f'{name}.{branch}.0', d)
        d = norm(w, f'{name}.{branch}.1', d).relu()
        d = conv(w, f'{name}.{branch}.3', d)
        logit = logit + norm(w, f'{name}.{branch}.4', d)
    return logit.sigmoid()


def aff(w, name, branch, shortcut):
    m = mscam(w, f'{name}.gate', branch + shortcut)
    return 2 * branch * m + 2 * shortcut * (1 - m)


def iaff(w, name, branch, shortcut):
    m = mscam(w, f'{name}.first_gate', branch + shortcut)
    m = mscam(w, f'{name}.gate', branch * m + shortcut * (1 - m))
    return branch * m + shortcut * (1 - m)


def sda(w, name, sums):
    if len(sums) == 1:
        return sums[0]
    u = sum(sums).mean((2, 3), keepdim=True)
    v = norm(w, f'{name}.norm', conv(w, f'{name}.squeeze', u)).relu()
    logits = conv(w, f'{name}.project', v).flatten(1)
    odds = torch.stack(logits.exp().chunk(len(sums), 1))
    shares = odds / odds.sum(0)
    return sum(a[..., None, None] * y for a, y in zip(shares, sums))


DCA = dict(type='DCA')
DEPTH = dict(type='SelectiveFusion', ratio=16, min_channels=8)
AFF, IAFF = ([None, dict(type=name, ratio=8), dict(type=name, ratio=8)]
             for name in ('AFF', 'IAFF'))


def late(join):
    """From the second stage on."""
    return lambda w, name, y, x: (
        y + x if name.startswith('layer1') else join(w, name, y, x))


FAMILIES = {
    'DCA-SE': (dict(attention=dict(type='SE', ratio=8), link=DCA),
               dict(attend=dca_se)),
    'DCA-GC': (dict(attention=dict(type='GC', ratio=8),
                    link=dict(type='DCA', match_ratio=8)),
               dict(attend=dca_gc)),
    'DCA-CBAM': (dict(attention=dict(type='CBAM', ratio=8), link=DCA),
                 dict(attend=dca_cbam)),
    'DCA-SK': (dict(type=SKNet, link=DCA), dict(spatial=sk)),
    'ECA': (dict(attention=[dict(type='ECA', kernel_size=k)
                            for k in (3, 5, 7)]), dict(attend=eca)),
    'AFF': (dict(fusion=AFF), dict(join=late(aff))),
    'iAFF': (dict(fusion=IAFF), dict(join=late(iaff))),
    'SDA-SE': (dict(attention=dict(type='SE', ratio=8),
                    depth_fusion=[DEPTH, DEPTH, None]),
               dict(attend=se, fuse=sda)),
}


@pytest.mark.parametrize('family', FAMILIES)
def test_gradients_are_those_of_the_formula(family):
    options, formula = FAMILIES[family]
    options = dict(options)
    net = options.pop('type', ResNet)(
        DEPTHS,
        base_channels=BASE,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        **options)
    randomise(net).double()
    w = dict(net.named_parameters())
    # At each stride the sizes divide, where the published CBAM needs it.
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(3, 3, 48, 80, generator=generator).double()
    image.requires_grad_()
    keys = list(w)

    def gradients(outs):
        loss = sum((y * torch.linspace(-1, 1, y.numel()).double().reshape(
            y.shape)).sum() for y in outs)
        return torch.autograd.grad(
            loss, [image, *(w[key] for key in keys)], allow_unused=True)

    ours, theirs = net(image), network(w, image, **formula)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    for key, a, b in zip(['image', *keys], gradients(ours),
                         gradients(theirs)):
        largest = max(b.abs().max().item(), 1e-3)
        assert (a - b).abs().max() <= 1e-7 * largest, key
