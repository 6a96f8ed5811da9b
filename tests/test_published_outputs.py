"""Published networks against outputs that their authors' code gave.

``data/published/outputs/NAME.npz`` holds what the published implementation
printed in float64 on the deterministic weights and image below (stored as
float32): the logits, of some networks a digest of each stage, and of iAFF the
output of one fusion. Those that end in ``_trainbn`` are of batch norms that
train, without dropout. Weights go the way of a user: through
tools/convert_checkpoint.py.
"""
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from test_checkpoints import LAYOUTS, published

from mmattn.checkpoints.aff import TABLES
from mmattn.checkpoints.convert import find_table, map_keys

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = Path(__file__).parent / 'data' / 'published' / 'outputs'
NETWORKS = {
    'sda__sda_resnet86': 'sda/sda_resnet86_4xb64_in1k.py',
    'dcanet__se_resnet50': 'dcanet/se_resnet50_8xb32_in1k.py',
    'dcanet__dca_se_resnet50': 'dcanet/dca_se_resnet50_8xb32_in1k.py',
    'eca__eca_resnet50_k3557': 'eca/eca_resnet50_8xb32_in1k.py',
    'aff__gluon_aff_resnet50': 'aff/aff_resnet50_8xb128_in1k.py',
    'dcanet__dca_cbam_mobilenet_v2':
    'dcanet/dca_cbam_mobilenet_v2_8xb64_in1k.py',
    'coordatt__mbv2_ca_trainbn':
    'coordattention/ca_mobilenet_v2_8xb32_in1k.py',
    'coordatt__mobilenext_trainbn': 'coordattention/mobilenext_8xb32_in1k.py',
    'peers__epsanet50': 'sda/epsa_resnet50_4xb64_in1k.py',
    'peers__res2net50_26w_4s': 'sda/res2_resnet50_4xb64_in1k.py',
}


def tensor_for(key, shape):
    """The tensor that the record was made with, from its name alone."""
    rng = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    leaf = key.rsplit('.', 1)[-1]
    if leaf == 'num_batches_tracked':
        return torch.zeros(shape, dtype=torch.long)
    if leaf == 'running_var' or (leaf == 'weight' and len(shape) <= 1):
        values = rng.uniform(0.8, 1.2, shape)
    elif leaf == 'running_mean' or len(shape) <= 1:
        values = rng.standard_normal(shape) * 0.05
    else:
        values = rng.standard_normal(shape) * np.prod(shape[1:])**-0.5
    return torch.from_numpy(np.asarray(values, np.float32).reshape(shape))


def image(seed, shape):
    values = np.random.RandomState(seed).standard_normal(shape)
    return torch.from_numpy(values.astype(np.float32)).double()


def recorded_weights(name):
    shapes = published(name)['shapes']
    return {key: tensor_for(key, shape) for key, shape in shapes.items()}


def assert_equal(ours, record, what):
    record = torch.from_numpy(record).double().reshape(ours.shape)
    error = (ours - record).abs().max() / record.abs().max()
    assert error < 1e-6, f'{what}: relative error {error:.2e}'


def digest(x):
    """Mean, standard deviation and 64 values of a map."""
    x = x.flatten()
    places = np.linspace(0, x.numel() - 1, 64).astype(int)
    spread = x.std(unbiased=False)
    return torch.cat((x.mean()[None], spread[None], x[places]))


@pytest.mark.config
@pytest.mark.parametrize('name', NETWORKS)
def test_converted_network_gives_the_published_outputs(name, tmp_path):
    pytest.importorskip('mmpretrain')
    config = ROOT / 'configs' / 'imagenet' / NETWORKS[name]
    training = name.endswith('_trainbn')
    layout = name.replace('_trainbn', '')
    torch.save(
        dict(state_dict=recorded_weights(layout)), tmp_path / 'published.pth')
    subprocess.run([
        sys.executable, ROOT / 'tools' / 'convert_checkpoint.py',
        tmp_path / 'published.pth', tmp_path / 'ours.pth', '--config', config
    ], check=True)

    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).double().train(training)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()  # the record was made without
    ours = torch.load(tmp_path / 'ours.pth', weights_only=True)
    model.load_state_dict(ours['state_dict'])
    record = np.load(OUTPUTS / f'{name}.npz')
    x = image(0, (2, 3, 128, 96) if training else (1, 3, 224, 224))
    with torch.no_grad():
        assert_equal(model(x, mode='tensor'), record['logits'], 'logits')
        last = ('conv_last', 'logits')
        stages = [key for key in sorted(record) if key not in last]
        stages += [key for key in record if key == 'conv_last']
        if stages:
            model.backbone.out_indices = tuple(range(len(stages)))
            maps = model.backbone(x)
            assert len(maps) == len(stages)
            for stage, y in zip(stages, maps):
                assert_equal(digest(y), record[stage], stage)


def test_iaff_gives_the_published_output():
    theirs = 'layer3.0.attention.'
    table, = (table for table in TABLES if table.name == 'aff iaff resnet')
    name = 'aff__gluon_iaff_c64_r4_16x16'
    mapped, dropped = map_keys(table, {
        theirs + key: value for key, value in recorded_weights(name).items()
    })
    fusion = MODELS.build(dict(type='mmattn.IAFF', in_channels=64, ratio=4))
    ours = 'backbone.layer3.0.fusion.'
    fusion.load_state_dict({k[len(ours):]: v for k, v in mapped.items()})
    assert sum(p.numel() for p in fusion.parameters()) == \
        published(name)['params']
    # the branch first, the shortcut second
    maps = [image(seed, (2, 64, 16, 16)) for seed in (0, 1)]
    with torch.no_grad():
        y = fusion.double().eval()(maps)
    assert dropped == 0
    assert_equal(y, np.load(OUTPUTS / f'{name}.npz')['out'], 'iAFF')


# -- published formulas on published names --------------------------------


class Published:
    """A published ResNet as plain tensor code on its state dict.

    ``at_output`` and ``at_hidden`` are the attention at that place, if any:
    from a block's tensors, its map and the carry (None in the first block)
    to the new map and the next carry.
    """

    def __init__(self, weights, at_output=None, at_hidden=None, join=None):
        self.weights = weights
        self.at_output = at_output
        self.at_hidden = at_hidden
        self.join = join or (lambda block, branch, shortcut: branch + shortcut)

    def __call__(self, x):
        net, carry, stages = Part(self.weights, ''), None, []
        if 'conv1.weight' in net:
            x = net.conv('conv1', x, stride=2, padding=3)
        else:
            x = net.conv('conv1.0', x, stride=2, padding=1)
            x = net.conv('conv1.3', net.norm('conv1.1', x).relu(), padding=1)
            x = net.conv('conv1.6', net.norm('conv1.4', x).relu(), padding=1)
        x = F.max_pool2d(net.norm('bn1', x).relu(), 3, 2, 1)
        for stage in range(1, 5):
            b = 0
            while f'layer{stage}.{b}.conv1.weight' in net:
                block = Part(self.weights, f'layer{stage}.{b}.')
                stride = 2 if stage > 1 and b == 0 else 1
                x, carry = self.block(block, x, carry, stride)
                b += 1
            stages.append(x)
        return stages

    def block(self, block, x, carry, stride):
        y = block.norm('bn1', block.conv('conv1', x)).relu()
        if self.at_hidden is None:
            y = block.conv('conv2', y, stride=stride, padding=1)
            y = block.norm('bn2', y).relu()
        else:
            y, carry = self.at_hidden(block, y, carry, stride)
        y = block.norm('bn3', block.conv('conv3', y))
        if self.at_output is not None:
            y, carry = self.at_output(block, y, carry)
        if 'downsample.0.weight' in block:
            x = block.conv('downsample.0', x, stride=stride)
            x = block.norm('downsample.1', x)
        elif 'downsample.1.weight' in block:
            x = F.avg_pool2d(x, stride, stride, 0, True, False)
            x = block.norm('downsample.2', block.conv('downsample.1', x))
        return self.join(block, y, x).relu(), carry


class Part:
    """The tensors of a state dict behind a prefix, as layers."""

    def __init__(self, weights, prefix):
        self.weights = weights
        self.prefix = prefix

    def __getitem__(self, name):
        return self.weights[self.prefix + name]

    def __contains__(self, name):
        return self.prefix + name in self.weights

    def bias(self, name):
        return self[f'{name}.bias'] if f'{name}.bias' in self else None

    def conv(self, name, x, **options):
        return F.conv2d(x, self[f'{name}.weight'], self.bias(name), **options)

    def linear(self, name, x):
        return F.linear(x, self[f'{name}.weight'], self.bias(name))

    def norm(self, name, x):
        return F.batch_norm(x, self[f'{name}.running_mean'],
                            self[f'{name}.running_var'],
                            self[f'{name}.weight'], self[f'{name}.bias'])

    def layer_norm(self, name, x):
        weight = self[f'{name}.weight']
        return F.layer_norm(x, weight.shape, weight, self[f'{name}.bias'])

    def match(self, name, carry):
        """Of a vector, where the widths differ; by one layer or by two."""
        for fc, norm in ((f'{name}.0', f'{name}.1'), (f'{name}.3',
                                                      f'{name}.4')):
            if f'{fc}.weight' in self:
                carry = self.layer_norm(norm, self.linear(fc, carry)).relu()
        return carry

    def mix(self, name, e, p):
        pair = torch.stack((e, p), 1)[:, :, None]  # (B, 2, 1, C)
        return self.layer_norm(f'{name}.1',
                               self.conv(f'{name}.0', pair)[:, 0, 0]).relu()


def scale(x, t):
    return x * t[:, :, None, None]


def se(block, x, carry):
    e = z = x.mean((2, 3))
    if carry is not None:
        z = block.mix('se.conv', e, block.match('se.att_fc', carry))
    t = block.linear('se.fc.2', block.linear('se.fc.0', z).relu()).sigmoid()
    return scale(x, t), e * t


def ge(block, x, carry):
    e = z = x.mean((2, 3))
    if carry is not None:
        z = block.mix('ge.conv', e, block.match('ge.att_fc', carry))
    return scale(x, z.sigmoid()), e * z.sigmoid()


def gc(block, x, carry):
    name = 'rgc' if 'rgc.weight' in block else 'gc'
    mask = block.conv(f'{name}.conv_mask', x).flatten(2).softmax(2)
    z = (x.flatten(2) * mask).sum(2)[..., None, None]
    if carry is not None:
        p = carry
        if 'rgc.att_fc.0.weight' in block:
            p = block.layer_norm('rgc.att_fc.1',
                                 block.conv('rgc.att_fc.0', p)).relu()
            p = block.conv('rgc.att_fc.3', p)
        z = z + block['rgc.weight'] * p
    t = block.conv(f'{name}.channel_add_conv.0', z)
    t = block.layer_norm(f'{name}.channel_add_conv.1', t).relu()
    t = block.conv(f'{name}.channel_add_conv.3', t)
    return x + t, t


def of_channels(x):
    return torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)


def cbam(block, x, carry):
    gate = 'cbam.ChannelGate.'
    vectors = [x.mean((2, 3)), x.amax((2, 3))]
    if carry is not None:
        p = carry[0]
        if f'{gate}att_fc.0.weight' in block:
            p = block.conv(f'{gate}att_fc.0', p)
            p = block.norm(f'{gate}att_fc.1', p).relu()
        vectors = [
            block.mix(f'{gate}alpha', e, q)
            for e, q in zip(vectors, (p.mean((2, 3)), p.amax((2, 3))))
        ]
    t = sum(
        block.linear(f'{gate}mlp.3',
                     block.linear(f'{gate}mlp.1', z).relu()) for z in vectors)
    y = scale(x, t.sigmoid())

    gate = 'cbam.SpatialGate.'
    z = of_channels(y)
    if carry is not None:
        p = carry[1]
        p = F.avg_pool2d(p, p.shape[2] // y.shape[2])
        z = block[f'{gate}p1'] * z + block[f'{gate}p2'] * of_channels(p)
        z = block.norm(f'{gate}bnrelu.0', z).relu()
    t = block.conv(f'{gate}spatial.conv', z, padding=3)
    spatial = y * block.norm(f'{gate}spatial.bn', t).sigmoid()
    return spatial, (y, spatial)


def luuuyi_cbam(block, x, carry):
    t = sum(
        block.conv('ca.fc.2', block.conv('ca.fc.0', z).relu())
        for z in (x.mean((2, 3), True), x.amax((2, 3), True)))
    y = x * t.sigmoid()
    z = of_channels(y).flip(1)  # mean first
    return y * block.conv('sa.conv1', z, padding=3).sigmoid(), None


def sk(block, x, carry, stride):
    d = block.conv('conv2', x, stride=stride, padding=1)
    g = block.conv('conv2g', x, stride=stride, padding=2, dilation=2)
    maps = block.norm('bn2', d).relu(), block.norm('bn2g', g).relu()
    y, means, t = select(block, maps, carry, 'att_fc_')
    return y, [e * share for e, share in zip(means, t)]


def select(block, maps, carry, match):
    means = vectors = [d.mean((2, 3)) for d in maps]
    if carry is not None:
        vectors = [
            block.mix(f'att_conv{i}', e, block.match(f'{match}{i}', s))
            for i, (e, s) in enumerate(zip(means, carry), 1)
        ]
    z = block.conv('conv_fc1', sum(vectors)[..., None, None])
    z = block.conv('conv_fc2', block.norm('bn_fc1', z).relu())
    t = z.flatten(1).unflatten(1, (2, -1)).softmax(1).unbind(1)
    return sum(scale(d, share) for d, share in zip(maps, t)), means, t


def eca(block, x, carry):
    weight = block['eca.conv.weight']
    t = F.conv1d(x.mean((2, 3))[:, None], weight, None, 1, weight.numel() // 2)
    return scale(x, t[:, 0].sigmoid()), None


def gate(block, number, x):
    """MS-CAM's weights; the pooling is a layer of the global branch."""

    def branch(name, i, x):
        x = block.norm(f'{name}.{i + 1}', block.conv(f'{name}.{i}', x)).relu()
        return block.norm(f'{name}.{i + 4}', block.conv(f'{name}.{i + 3}', x))

    means = x.mean((2, 3), keepdim=True)
    return (branch(f'attention.local_att{number}', 0, x) +
            branch(f'attention.global_att{number}', 1, means)).sigmoid()


def aff(block, x, y):
    if 'attention.local_att.0.weight' not in block:
        return x + y
    w = gate(block, '', x + y)
    return 2 * x * w + 2 * y * (1 - w)


def iaff(block, x, y):
    if 'attention.local_att.0.weight' not in block:
        return x + y
    w = gate(block, '', x + y)
    w = gate(block, '2', x * w + y * (1 - w))
    return x * w + y * (1 - w)


def cifar_resnet(weights):
    """AFF-ResNet-32, pre-activated, to the map behind its last stage."""

    def network(x):
        net = Part(weights, '')
        x = F.batch_norm(x, net['features.0.running_mean'],
                         net['features.0.running_var'])
        x = net.conv('features.1', x, padding=1)
        for stage in (2, 3, 4):
            for b in range(5):
                block = Part(weights, f'features.{stage}.{b}.')
                stride = 2 if stage > 2 and b == 0 else 1
                y = block.norm('resfwd.0', x).relu()
                y = block.conv('resfwd.2', y, stride=stride, padding=1)
                y = block.norm('resfwd.3', y).relu()
                y = block.conv('resfwd.5', y, padding=1)
                if 'downsample.1.weight' in block:
                    x = F.avg_pool2d(x, stride, stride, 0, True, False)
                    x = block.conv('downsample.1', x)
                x = aff(block, y, x)
        return [net.norm('features.5', x).relu()]

    return network


def unlinked(attention):

    def alone(block, x, carry, *stride):
        return attention(block, x, None, *stride)[0], None

    return alone


@pytest.mark.parametrize('name, parts', [
    ('sda__resnet86', {}),
    ('sda__cbam86', dict(at_output=luuuyi_cbam)),
    ('dcanet__se_resnet50', dict(at_output=unlinked(se))),
    ('dcanet__dca_se_resnet50', dict(at_output=se)),
    ('dcanet__ge_resnet50', dict(at_output=unlinked(ge))),
    ('dcanet__dca_ge_resnet50', dict(at_output=ge)),
    ('dcanet__gc_resnet50', dict(at_output=unlinked(gc))),
    ('dcanet__dca_gc_resnet50', dict(at_output=gc)),
    ('dcanet__cbam_resnet50', dict(at_output=unlinked(cbam))),
    ('dcanet__dca_cbam_resnet50', dict(at_output=cbam)),
    ('dcanet__sk_resnet50', dict(at_hidden=unlinked(sk))),
    ('dcanet__dca_sk_resnet50', dict(at_hidden=sk)),
    ('eca__eca_resnet50_k3377', dict(at_output=eca)),
    ('aff__gluon_aff_resnet50', dict(join=aff)),
    ('aff__gluon_iaff_resnet50', dict(join=iaff)),
    ('aff__gluon_cifar_aff_resnet32', None),
])
def test_converted_network_computes_the_published_formula(name, parts):
    """Values and gradients, at a quarter of the widths.

    Sizes divide by two, as the published DCA-CBAM needs it.
    """
    weights = {}
    for key, shape in published(name)['shapes'].items():
        if not key.startswith(('fc.', 'output.')):
            narrow = [n // 4 if n >= 4 and n != 7 else n for n in shape]
            weights[key] = tensor_for(key, narrow).double()
    mapped, _ = map_keys(find_table(weights), weights)
    ours = {key[len('backbone.'):]: value for key, value in mapped.items()}
    backbone = MODELS.build({
        'type': 'mmattn.ResNet', 'base_channels': 16, **LAYOUTS[name][1]
    })
    backbone.double().eval().load_state_dict(ours)
    formula = (cifar_resnet(weights) if parts is None else
               Published(weights, **parts))
    assert_same_function(backbone, formula)


def assert_same_function(backbone, formula):
    maps, gradients = [], []
    for network in (backbone, formula):
        x = image(0, (2, 3, 96, 64)).requires_grad_()
        maps.append(network(x))
        (maps[-1][-1] * image(1, maps[-1][-1].shape)).sum().backward()
        gradients.append(x.grad)
    assert len(maps[0]) == len(maps[1])
    for got, expected in (*zip(*maps), gradients):
        error = (got - expected).abs().max() / expected.abs().max()
        assert error < 1e-9


def pass_on(block, x, carry):
    return x, carry


class PublishedMobile:
    """A published mobile network as plain tensor code on its state dict.

    Args:
        weights: Its state dict.
        stem: Prefix of the first convolution and its norm.
        stages: For each stage the prefixes of its blocks.
        strides: Of the first block of each stage.
        last: Names of the last convolution and its norm, if any.
        at_output, at_hidden: As in Published.
    """

    act = staticmethod(F.relu6)

    def __init__(self, weights, stem, stages, strides, last=None,
                 at_output=pass_on, at_hidden=pass_on):
        self.net = Part(weights, '')
        self.stem = stem
        self.stages = stages
        self.strides = strides
        self.last = last
        self.at_output = at_output
        self.at_hidden = at_hidden

    def step(self, part, conv, norm, x, stride=1, act=True):
        shape = part[f'{conv}.weight'].shape
        x = part.conv(
            conv,
            x,
            stride=stride,
            padding=shape[-1] // 2,
            groups=x.shape[1] // shape[1])
        x = part.norm(norm, x)
        return self.act(x) if act else x

    def __call__(self, x):
        carry, maps = None, []
        x = self.step(self.net, f'{self.stem}0', f'{self.stem}1', x, 2)
        for blocks, stride in zip(self.stages, self.strides):
            for prefix in blocks:
                block = Part(self.net.weights, prefix)
                y, carry = self.block(block, x, carry, stride)
                x = x + y if y.shape == x.shape else y
                stride = 1
            maps.append(x)
        if self.last:
            maps.append(self.step(self.net, *self.last, x))
        return maps

    def layers(self, block):
        """Convolution and norm of the block's three steps."""
        if 'conv.3.weight' in block:
            return [('conv.0.0', 'conv.0.1'), ('conv.1.0', 'conv.1.1'),
                    ('conv.2', 'conv.3')]
        return [('conv.0.0', 'conv.0.1'), ('conv.1', 'conv.2')]

    def block(self, block, x, carry, stride):
        *expand, depthwise, project = self.layers(block)
        for names in expand:
            x = self.step(block, *names, x)
        x, carry = self.spatial(block, depthwise, x, carry, stride)
        x = self.step(block, *project, x, act=False)
        return self.at_output(block, x, carry)

    def spatial(self, block, names, x, carry, stride):
        return self.at_hidden(block, self.step(block, *names, x, stride),
                              carry)


class PublishedMnas(PublishedMobile):
    """Its stem has a second stage, which has no prefix of its own."""

    act = staticmethod(F.relu)

    def layers(self, block):
        pairs = [('0', '1'), ('3', '4'), ('6', '7')]
        if block.prefix == self.stem:
            return pairs[1:]
        return [(f'layers.{conv}', f'layers.{norm}') for conv, norm in pairs]

    def block(self, block, x, carry, stride):
        if block.prefix != self.stem:
            return super().block(block, x, carry, stride)
        depthwise, project = self.layers(block)
        x = self.step(block, *depthwise, x)
        return self.step(block, *project, x, act=False), carry


class PublishedSequence(PublishedMobile):
    """A block is one sequence; the attention is in it, before ``conv.7``."""

    def layers(self, block):
        names = [('conv.0', 'conv.1'), ('conv.3', 'conv.4')]
        if 'conv.7.weight' in block:
            names.append(('conv.7', 'conv.8'))
        return names


class PublishedSK(PublishedMobile):
    """Two depthwise convolutions, linked."""

    def layers(self, block):
        names = [None, ('layer3.0', 'layer3.1')]
        if 'layer1.0.weight' in block:
            names.insert(0, ('layer1.0', 'layer1.1'))
        return names

    def spatial(self, block, names, x, carry, stride):
        options = dict(stride=stride, groups=x.shape[1])
        part = Part(block.weights, block.prefix + 'layersk.')
        d = part.conv('conv3', x, padding=1, **options)
        g = part.conv('conv5', x, padding=2, dilation=2, **options)
        maps = F.relu6(part.norm('bn3', d)), F.relu6(part.norm('bn5', g))
        y, _, t = select(part, maps, carry, 'att_fc')
        return y, t


class PublishedMobileNeXt(PublishedMobile):
    """Bottlenecks turned inside out."""

    def block(self, block, x, carry, stride):
        step = self.step
        if 'conv.9.weight' not in block:  # another width
            x = step(block, 'conv.0', 'conv.1', x, act=False)
            x = step(block, 'conv.2', 'conv.3', x)
            if 'conv.5.weight' in block:
                x = step(block, 'conv.5', 'conv.6', x, stride, act=False)
            return x, None
        x = step(block, 'conv.0', 'conv.1', x)
        x = step(block, 'conv.3', 'conv.4', x, act=False)
        x = step(block, 'conv.5', 'conv.6', x)
        return step(block, 'conv.8', 'conv.9', x, stride, act=False), None


def coord_attention(block, x, carry):
    if 'conv.6.conv1.weight' not in block:  # the first block
        return x, None
    columns = x.mean(2, keepdim=True).transpose(2, 3)
    f = torch.cat((x.mean(3, keepdim=True), columns), 2)
    f = block.norm('conv.6.bn1', block.conv('conv.6.conv1', f))
    f = f * F.relu6(f + 3) / 6
    f_h, f_w = f.split(x.shape[2:], 2)
    g_h = block.conv('conv.6.conv2', f_h).sigmoid()
    g_w = block.conv('conv.6.conv3', f_w).sigmoid().transpose(2, 3)
    return x * g_h * g_w, None


def eca_in_sequence(block, x, carry):
    last = 4 if 'conv.3.weight' in block else 3
    weight = block[f'conv.{last}.conv.weight']
    t = F.conv1d(x.mean((2, 3))[:, None], weight, None, 1, weight.numel() // 2)
    return scale(x, t[:, 0].sigmoid()), None


def row(prefix, start, lengths):
    """Prefixes of blocks that are numbered past all stages, by stage."""
    numbers = iter(range(start, start + sum(lengths)))
    return [[f'{prefix}{next(numbers)}.' for _ in range(n)] for n in lengths]


def mobilenet_v2(weights, kind=PublishedMobile, stem='features.0.',
                 blocks='features.', start=1, last='features.18.', **parts):
    return kind(weights, stem, row(blocks, start, (1, 2, 3, 4, 3, 3, 1)),
                (1, 2, 2, 2, 1, 2, 1), (f'{last}0', f'{last}1'), **parts)


def linked_mnasnet(weights, **parts):
    stacks = [[f'layers2.{i}.{j}.' for j in range(n)]
              for i, n in enumerate((3, 3, 3, 2, 4, 1))]
    return PublishedMnas(weights, 'layers1.', [['layers1.'], *stacks],
                         (1, 2, 2, 2, 1, 2, 1), ('layers3.0', 'layers3.1'),
                         **parts)


def mobilenext(weights):
    return PublishedMobileNeXt(weights, 'features.0.',
                               row('features.', 1, (1, 1, 3, 3, 4, 4, 3, 1)),
                               (2, 1, 2, 2, 1, 2, 1, 1))


WRAPPED = dict(stem='features.0.conv.', last='features.18.conv.')
SPLIT = dict(stem='features1.', blocks='features2.', start=0,
             last='features3.')
MOBILE = {
    'dcanet__se_mobilenet_v2':
    partial(mobilenet_v2, at_output=unlinked(se)),
    'dcanet__dca_se_mobilenet_v2':
    partial(mobilenet_v2, at_output=se, **WRAPPED),
    'dcanet__dca_sk_mobilenet_v2':
    partial(
        mobilenet_v2,
        kind=PublishedSK,
        **dict(SPLIT, stem='features1.0.', last='features3.0.')),
    'dcanet__dca_ge_mobilenet_v2':
    partial(mobilenet_v2, at_output=ge, **SPLIT),
    'dcanet__dca_cbam_mobilenet_v2':
    partial(mobilenet_v2, at_output=cbam, **WRAPPED),
    'dcanet__dca_se_mnasnet1_0r8': partial(linked_mnasnet, at_output=se),
    'dcanet__dca_cbam_mnasnet1_0r8': partial(linked_mnasnet, at_output=cbam),
    'eca__eca_mobilenet_v2': partial(mobilenet_v2, at_output=eca_in_sequence),
    'coordatt__mbv2_ca':
    partial(
        mobilenet_v2,
        kind=PublishedSequence,
        last='conv.',
        at_hidden=coord_attention),
    'coordatt__mobilenext': mobilenext,
}


@pytest.mark.parametrize('name', MOBILE)
def test_converted_mobile_network_computes_the_published_formula(name):
    """Values and gradients, as above, at full widths."""
    weights = {
        key: tensor_for(key, shape).double()
        for key, shape in published(name)['shapes'].items()
        if not key.startswith('classifier.')
    }
    mapped, _ = map_keys(find_table(weights), weights)
    stages = 8  # MobileNeXt's, or seven and the last convolution
    backbone = MODELS.build(
        dict(LAYOUTS[name][1], out_indices=tuple(range(stages))))
    backbone.double().eval().load_state_dict(
        {key[len('backbone.'):]: value for key, value in mapped.items()})
    assert_same_function(backbone, MOBILE[name](weights))
