"""Published networks against outputs that their authors' code gave.

``data/published/outputs/NAME.npz`` holds what the published implementation
printed in float64 on the deterministic weights and image below (stored as
float32): the logits, of some networks a digest of each stage, and of iAFF the
output of one fusion. Weights go the way of a user: through
tools/convert_checkpoint.py.
"""
import subprocess
import sys
import zlib
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
    torch.save(
        dict(state_dict=recorded_weights(name)), tmp_path / 'published.pth')
    subprocess.run([
        sys.executable, ROOT / 'tools' / 'convert_checkpoint.py',
        tmp_path / 'published.pth', tmp_path / 'ours.pth', '--config', config
    ], check=True)

    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).double().eval()
    ours = torch.load(tmp_path / 'ours.pth', weights_only=True)
    model.load_state_dict(ours['state_dict'])
    record = np.load(OUTPUTS / f'{name}.npz')
    x = image(0, (1, 3, 224, 224))
    with torch.no_grad():
        assert_equal(model(x, mode='tensor'), record['logits'], 'logits')
        stages = [key for key in sorted(record) if key != 'logits']
        if stages:
            model.backbone.out_indices = (0, 1, 2, 3)
            assert stages == ['layer1', 'layer2', 'layer3', 'layer4']
            for stage, y in zip(stages, model.backbone(x)):
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
        """Of a vector, where the widths differ."""
        if f'{name}.0.weight' not in self:
            return carry
        return self.layer_norm(f'{name}.1', self.linear(f'{name}.0',
                                                        carry)).relu()

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
    means = vectors = [d.mean((2, 3)) for d in maps]
    if carry is not None:
        vectors = [
            block.mix(f'att_conv{i}', e, block.match(f'att_fc_{i}', s))
            for i, (e, s) in enumerate(zip(means, carry), 1)
        ]
    z = block.conv('conv_fc1', sum(vectors)[..., None, None])
    z = block.conv('conv_fc2', block.norm('bn_fc1', z).relu())
    t = z.flatten(1).unflatten(1, (2, -1)).softmax(1).unbind(1)
    y = sum(scale(d, share) for d, share in zip(maps, t))
    return y, [e * share for e, share in zip(means, t)]


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
