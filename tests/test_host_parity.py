"""Without parts our ResNets are those of mmdet, mmseg and mmpretrain.

The stock networks are the oracle: same parameter names and shapes, the same
numbers bit for bit forward and backward, the same frozen and eval flags, the
same start. Ours is always handed every default of the host by name.
"""
import copy
import inspect
import re
from typing import NamedTuple

import pytest
import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks import DropPath
from torch import nn

from mmattn import backbones

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
SMALL = dict(base_channels=8, stem_channels=8, out_indices=(0, 1, 2, 3))
GN = dict(type='GN', num_groups=4, requires_grad=True)
DCN = dict(type='DCNv2', deform_groups=1)
DILATED = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
WIDTH = dict(  # one thing, named differently
    mmdet='base_width', mmseg='base_width', mmpretrain='width_per_group')

EVERYWHERE = {
    'r18': ('ResNet', dict(depth=18)),
    'r50': ('ResNet', dict(depth=50)),
    'host_outputs': ('ResNet', dict(depth=18, out_indices=None)),
    'caffe': ('ResNet', dict(depth=50, style='caffe')),
    'caffe_dilated': ('ResNet', dict(depth=50, style='caffe', **DILATED)),
    'dilated': ('ResNet', dict(depth=50, **DILATED)),
    'dilated_r18': ('ResNet', dict(depth=18, **DILATED)),
    'stages_3': ('ResNet',
                 dict(
                     depth=18,
                     num_stages=3,
                     strides=(1, 2, 2),
                     dilations=(1, 1, 1),
                     out_indices=(0, 2))),
    'stem': ('ResNet', dict(depth=18, in_channels=4, stem_channels=12)),
    'deep_stem': ('ResNet', dict(depth=18, deep_stem=True, stem_channels=12)),
    'deep_stem_gn': ('ResNet', dict(depth=18, deep_stem=True, norm_cfg=GN)),
    'avg_down': ('ResNet', dict(depth=50, avg_down=True)),
    'avg_down_r18': ('ResNet', dict(depth=18, avg_down=True)),
    'gn': ('ResNet', dict(depth=50, norm_cfg=GN)),
    'gn_ws': ('ResNet',
              dict(depth=50, norm_cfg=GN, conv_cfg=dict(type='ConvWS'))),
    'fixed_norms': ('ResNet',
                    dict(
                        depth=18, norm_cfg=dict(
                            type='BN', requires_grad=False))),
    'with_cp': ('ResNet', dict(depth=18, with_cp=True, out_indices=(3, ))),
    'v1d': ('ResNetV1d', dict(depth=50)),
    'v1d_dilated': ('ResNetV1d', dict(depth=50, **DILATED)),
    'resnext': ('ResNeXt', dict(depth=50, groups=4, width=2)),
    'resnext_caffe': ('ResNeXt',
                      dict(depth=50, groups=2, width=6, style='caffe')),
}
SOMEWHERE = {
    'mmdet': {
        'dcn': ('ResNet',
                dict(
                    depth=50,
                    dcn=DCN,
                    stage_with_dcn=(False, True, True, True))),
        'dcn_v1': ('ResNet',
                   dict(
                       depth=50,
                       dcn=dict(type='DCN', deform_groups=2),
                       stage_with_dcn=(False, False, True, False))),
        'resnext_dcn': ('ResNeXt',
                        dict(
                            depth=50,
                            groups=4,
                            width=2,
                            dcn=DCN,
                            stage_with_dcn=(False, False, False, True))),
    },
    'mmseg': {
        'v1c': ('ResNetV1c', dict(depth=50, **DILATED)),
        'contract': ('ResNetV1c',
                     dict(depth=50, contract_dilation=True, **DILATED)),
        'contract_r18': ('ResNet',
                         dict(depth=18, contract_dilation=True, **DILATED)),
        'multi_grid': ('ResNetV1d',
                       dict(depth=50, multi_grid=(1, 2, 4), **DILATED)),
        'multi_grid_3': ('ResNet',
                         dict(
                             depth=18,
                             num_stages=3,
                             strides=(1, 2, 1),
                             dilations=(1, 1, 2),
                             out_indices=(2, ),
                             contract_dilation=True,
                             multi_grid=(3, 5))),
    },
    'mmpretrain': {
        'v1c': ('ResNetV1c', dict(depth=50)),
        'cifar': ('ResNet_CIFAR', dict(depth=50)),
        'cifar_r18': ('ResNet_CIFAR', dict(depth=18, avg_down=True)),
        'drop_path': ('ResNet', dict(depth=50, drop_path_rate=0.6)),
        'drop_path_r18': ('ResNet', dict(depth=18, drop_path_rate=0.6)),
        'drop_path_3': ('ResNet',
                        dict(
                            depth=18,
                            num_stages=3,
                            strides=(1, 2, 2),
                            dilations=(1, 1, 1),
                            out_indices=(2, ),
                            drop_path_rate=0.6)),
    },
}
CASES = [
    pytest.param(host, name, options, id=f'{host}-{case}') for host in HOSTS
    for case, (name, options) in {
        **EVERYWHERE,
        **SOMEWHERE[host]
    }.items()
]
every_case = pytest.mark.parametrize('host, name, options', CASES)


# -- pairs -----------------------------------------------------------------


class Pair(NamedTuple):
    """A stock network and ours, from one set of options."""
    host: str
    theirs: nn.Module
    ours: nn.Module

    def train(self, mode=True):
        self.theirs.train(mode)  # the stock ones do not return themselves
        self.ours.train(mode)

    def eval(self):
        self.train(False)

    def both(self, items):
        """``items(net)``, name and thing, of the two; by our names."""
        theirs = {self.our_name(n): item for n, item in items(self.theirs)}
        return theirs, dict(items(self.ours))

    def our_name(self, name):
        """What we call a parameter or module of the stock network.

        mmdet and mmseg use our names. mmpretrain makes its deep stem of
        ConvModules, and leaves the pool out of a shortcut of stride 1, where
        the others keep a slot for it.
        """
        if self.host != 'mmpretrain':
            return name
        stem = re.fullmatch(r'stem\.(\d)\.(conv|bn|gn)(.*)', name)
        if stem:
            index = 3 * int(stem[1]) + (stem[2] != 'conv')
            return f'stem.{index}{stem[3]}'
        shortcut = re.fullmatch(r'(layer(\d)\.0\.downsample)\.(\d)(.*)', name)
        if (shortcut and self.theirs.avg_down
                and self.theirs.strides[int(shortcut[2]) - 1] == 1):
            return f'{shortcut[1]}.{int(shortcut[3]) + 1}{shortcut[4]}'
        return name


def make_pair(host, name, **options):
    """Build the two.

    Ours gets the rest of the host's signature too, so that no difference of
    defaults stays between them and every option of the host is accepted.
    """
    stock = pytest.importorskip(f'{host}.models.backbones')
    options = {**SMALL, **options}
    if options['out_indices'] is None:
        del options['out_indices']
    if 'width' in options:
        options[WIDTH[host]] = options.pop('width')
    defaults = {
        word: p.default
        for word, p in inspect.signature(stock.ResNet).parameters.items()
        if p.default is not p.empty
    }
    if name in ('ResNetV1c', 'ResNetV1d'):  # what these two names set
        del defaults['deep_stem'], defaults['avg_down']
    # The stock DCN blocks pop from the dict that they are given.
    theirs = getattr(stock, name)(**copy.deepcopy(options))
    ours = getattr(backbones, name)(**{**defaults, **options})
    return Pair(host, theirs, ours)


def state(net):
    return net.state_dict().items()


def gradients(net):
    return [(n, p.grad) for n, p in net.named_parameters()
            if p.grad is not None]


def shapes(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def assert_same(theirs, ours):
    """Same names, same bits."""
    assert shapes(theirs) == shapes(ours)
    assert [k for k in ours if not torch.equal(theirs[k], ours[k])] == []


@torch.no_grad()
def share_random_weights(pair):
    """Give both the same tensors, none of them the 0 or 1 of a fresh one."""
    for parameter in pair.theirs.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    for name, buffer in pair.theirs.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_(std=0.1)
        elif name.endswith('running_var'):
            buffer.uniform_(0.5, 1.5)
    pair.ours.load_state_dict(pair.both(state)[0])


def assert_same_maps(pair):
    x = torch.randn(2, in_channels(pair.ours), 53, 37)
    maps = []
    for net in (pair.theirs, pair.ours):
        torch.manual_seed(7)  # for the paths that are dropped
        maps.append(net(x))
    assert all(torch.isfinite(y).all() and y.any() for y in maps[0])
    assert_same(*(dict(enumerate(ys)) for ys in maps))
    return maps


def in_channels(net):
    return next(net.parameters()).shape[1]


def assert_same_step(pair):
    """Same maps in training, same gradients and statistics behind it."""
    for ys in assert_same_maps(pair):
        if ys[-1].requires_grad:
            sum(y.square().mean() for y in ys).backward()
    assert_same(*pair.both(gradients))
    assert_same(*pair.both(lambda net: net.named_buffers()))


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Nets this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# -- the same network ------------------------------------------------------


@every_case
def test_same_names_maps_and_gradients(host, name, options):
    pair = make_pair(host, name, **options)
    share_random_weights(pair)
    pair.eval()
    assert_same_maps(pair)
    pair.train()
    assert_same_step(pair)


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
@pytest.mark.parametrize('host', HOSTS)
def test_same_names_at_every_depth(host, depth):
    theirs, ours = make_pair(host, 'ResNet', depth=depth).both(state)
    assert shapes(theirs) == shapes(ours)


@pytest.mark.parametrize('base_channels, groups, width', [
    (64, 32, 4),
    (64, 8, 8),
    (8, 4, 3),
    (11, 3, 5),
    (13, 6, 5),
])
@pytest.mark.parametrize('host', HOSTS)
def test_same_width_of_grouped_convolutions(host, base_channels, groups,
                                            width):
    theirs, ours = make_pair(
        host,
        'ResNeXt',
        depth=50,
        base_channels=base_channels,
        groups=groups,
        width=width,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1, )).both(state)
    assert shapes(theirs) == shapes(ours)


@pytest.mark.parametrize('host', HOSTS)
def test_a_resnext_of_one_group_is_a_resnet(host):
    # mmdet and mmseg have groups=1, base_width=4 as defaults.
    theirs, ours = make_pair(
        host, 'ResNeXt', depth=50, groups=1, width=4).both(state)
    assert shapes(theirs) == shapes(ours)


def drop_rates(net):
    return [(name, module.drop_prob) for name, module in net.named_modules()
            if isinstance(module, DropPath)]


@pytest.mark.parametrize('name, options', [
    ('ResNet', dict(depth=18)),
    ('ResNet', dict(depth=50)),
    ('ResNetV1d', dict(depth=50)),
    ('ResNet',
     dict(
         depth=50,
         num_stages=3,
         strides=(1, 2, 2),
         dilations=(1, 1, 1),
         out_indices=(2, ))),
])
def test_same_drop_path_rate_of_each_block(name, options):
    pair = make_pair('mmpretrain', name, drop_path_rate=0.37, **options)
    theirs, ours = pair.both(drop_rates)
    assert theirs == ours
    assert len(ours) == sum(
        len(getattr(pair.ours, f'layer{i + 1}'))
        for i in range(pair.ours.num_stages)) - 1  # the first drops nothing


@pytest.mark.parametrize('host', HOSTS)
def test_builds_on_the_meta_device(host):
    pytest.importorskip(host)
    with torch.device('meta'):
        net = backbones.ResNet(depth=101)
    assert {p.device.type for p in net.parameters()} == {'meta'}


@pytest.mark.parametrize('builder, name, options', [
    ('resnet18', 'ResNet', dict(depth=18)),
    ('resnet50', 'ResNet', dict(depth=50)),
    ('resnext50_32x4d', 'ResNeXt', dict(depth=50)),
    ('wide_resnet50_2', 'ResNet', dict(depth=50, base_width=128)),
])
def test_same_names_and_maps_as_torchvision(builder, name, options):
    models = pytest.importorskip('torchvision.models')
    theirs = getattr(models, builder)(weights=None)
    ours = getattr(backbones, name)(**options)
    weights = theirs.state_dict()
    del weights['fc.weight'], weights['fc.bias']
    ours.load_state_dict(weights)  # strict
    x = torch.randn(1, 3, 71, 45)
    y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    for i, ours_y in enumerate(ours(x)):
        y = getattr(theirs, f'layer{i + 1}')(y)
        assert torch.equal(ours_y, y)


# -- the same mode ---------------------------------------------------------

FREEZES = [(frozen, norm_eval) for frozen in (-1, 0, 1, 4)
           for norm_eval in (False, True)]
every_freeze = pytest.mark.parametrize('frozen_stages, norm_eval', FREEZES)


def modes(net):
    return [(name, module.training) for name, module in net.named_modules()
            if not isinstance(module, ConvModule)]


def trainable(net):
    return [(name, p.requires_grad) for name, p in net.named_parameters()]


def assert_same_modes(pair):
    theirs, ours = pair.both(modes)
    # Nobody's convolution has a mode; that of the stem is held below.
    assert [n for n in theirs
            if n in ours and theirs[n] != ours[n] and n != 'conv1'] == []
    # Names of activations differ; those that hold a tensor are shared.
    holders = {name.rpartition('.')[0] for name, _ in state(pair.ours)}
    assert holders <= theirs.keys() & ours.keys()
    theirs, ours = pair.both(trainable)
    assert theirs == ours


@every_freeze
@pytest.mark.parametrize('host', HOSTS)
def test_same_modes_and_step_when_frozen(host, frozen_stages, norm_eval):
    pair = make_pair(
        host,
        'ResNet',
        depth=18,
        frozen_stages=frozen_stages,
        norm_eval=norm_eval)
    share_random_weights(pair)
    assert_same_modes(pair)  # as built
    for mode in (True, False, True):
        pair.train(mode)
        assert_same_modes(pair)
    assert_same_step(pair)


@every_freeze
@pytest.mark.parametrize('host, name, options', [
    param for param in CASES if param.id.partition('-')[2] in
    ('r50', 'v1d', 'resnext', 'deep_stem', 'fixed_norms', 'dcn', 'drop_path')
])
def test_same_modes_of_other_networks(host, name, options, frozen_stages,
                                      norm_eval):
    pair = make_pair(
        host,
        name,
        frozen_stages=frozen_stages,
        norm_eval=norm_eval,
        **options)
    pair.train()
    assert_same_modes(pair)


@every_freeze
@pytest.mark.parametrize('host', HOSTS)
def test_same_modes_of_synchronised_norms(host, frozen_stages, norm_eval):
    pair = make_pair(
        host,
        'ResNet',
        depth=18,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        frozen_stages=frozen_stages,
        norm_eval=norm_eval)
    pair.train()
    assert_same_modes(pair)


@pytest.mark.parametrize('host', HOSTS)
def test_same_mode_of_a_frozen_stem_convolution(host):
    pair = make_pair(host, 'ResNet', depth=18, frozen_stages=1)
    pair.train()
    assert pair.theirs.conv1.training == pair.ours.conv1.training


def test_train_returns_the_network():
    net = backbones.ResNet(18, base_channels=8, frozen_stages=1)
    assert net.train() is net and net.eval() is net


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1])
@pytest.mark.parametrize('host', HOSTS)
def test_same_step_of_recomputed_blocks(host, frozen_stages):
    # One map: where three gradients meet, checkpoints add them up in
    # another order.
    pair = make_pair(
        host,
        'ResNet',
        depth=18,
        with_cp=True,
        frozen_stages=frozen_stages,
        norm_eval=False,
        out_indices=(3, ))
    share_random_weights(pair)
    pair.train()
    assert_same_step(pair)


# -- the same start --------------------------------------------------------


def starts(net):
    """Draw the start of a network from a known seed."""
    torch.manual_seed(3)
    net.init_weights()
    return state(net)


@pytest.mark.config
@pytest.mark.parametrize('zero_init_residual', [True, False])
@every_case
def test_same_start(host, name, options, zero_init_residual):
    pair = make_pair(
        host, name, zero_init_residual=zero_init_residual, **options)
    theirs, ours = pair.both(starts)
    if name == 'ResNeXt' and host != 'mmpretrain' and zero_init_residual:
        # mmdet and mmseg forget a block that is not ResNet's own.
        for key in [k for k in theirs if k.endswith('bn3.weight')]:
            assert theirs.pop(key).eq(1).all() and ours.pop(key).eq(0).all()
    if 'dcn' in options:
        # Not among the convolutions that init_cfg names: drawn while the
        # network is built, which happens in another order.
        for key in [k for k in ours if re.search(r'conv2\.weight$', k)]:
            pooled = [tensors.pop(key) for tensors in (theirs, ours)]
            std, our_std = (tensor.std().item() for tensor in pooled)
            assert our_std == pytest.approx(std, rel=0.15)
            assert abs(pooled[1].mean().item()) < 0.15 * std
    assert_same(theirs, ours)


# -- the same pretrained weights -------------------------------------------


def pretrained(path, weights, **source):
    """Save a checkpoint; the init_cfg that loads it."""
    torch.save(weights, path)
    return dict(type='Pretrained', checkpoint=str(path), **source)


def assert_loads(pair, name, options, init_cfg):
    """Ours, started from a file, is the stock network it was saved from."""
    ours = getattr(backbones, name)(init_cfg=init_cfg, **SMALL, **options)
    ours.init_weights()
    pair = pair._replace(ours=ours)
    assert_same(*pair.both(state))
    pair.eval()
    assert_same_maps(pair)


@pytest.mark.parametrize('name, options', [
    ('ResNet', dict(depth=18)),
    ('ResNet', dict(depth=50, style='caffe')),
    ('ResNet', dict(depth=50, norm_cfg=GN)),
    ('ResNetV1d', dict(depth=50)),
])
@pytest.mark.parametrize('host', HOSTS)
def test_a_stock_file_loads_completely(host, name, options, tmp_path):
    pair = make_pair(host, name, **options)
    share_random_weights(pair)
    init_cfg = pretrained(tmp_path / 'stock.pth', pair.theirs.state_dict())
    if host == 'mmpretrain' and name == 'ResNetV1d':  # names its stem so
        with pytest.raises(RuntimeError, match='stem.0.conv.weight'):
            assert_loads(pair, name, options, init_cfg)
    else:
        assert_loads(pair, name, options, init_cfg)


@pytest.mark.parametrize('host', HOSTS)
def test_a_classifier_file_loads_completely(host, tmp_path):
    options = dict(depth=18)
    pair = make_pair(host, 'ResNet', **options)
    share_random_weights(pair)
    fc = {'fc.weight': torch.randn(10, 64), 'fc.bias': torch.randn(10)}
    weights = {**pair.theirs.state_dict(), **fc}
    flat = pretrained(tmp_path / 'flat.pth', weights)
    assert_loads(pair, 'ResNet', options, flat)
    nested = pretrained(tmp_path / 'nested.pth', dict(state_dict=weights))
    assert_loads(pair, 'ResNet', options, nested)
    wrapped = pretrained(tmp_path / 'wrapped.pth',
                         {f'module.{k}': v for k, v in weights.items()})
    assert_loads(pair, 'ResNet', options, wrapped)
    whole = pretrained(
        tmp_path / 'whole.pth',
        dict(
            state_dict={
                f'backbone.{name}' if 'fc' not in name else f'head.{name}': w
                for name, w in weights.items()
            }),
        prefix='backbone.')
    assert_loads(pair, 'ResNet', options, whole)


def test_pretrained_is_the_older_spelling(tmp_path):
    pair = make_pair('mmseg', 'ResNetV1c', depth=18)
    share_random_weights(pair)
    path = tmp_path / 'stock.pth'
    torch.save(pair.theirs.state_dict(), path)
    ours = backbones.ResNetV1c(18, pretrained=str(path), **SMALL)
    ours.init_weights()
    assert_same(*pair._replace(ours=ours).both(state))
