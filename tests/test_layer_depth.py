"""Which layer a parameter counts with, for decaying learning rates."""
from functools import lru_cache

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

import mmattn  # noqa: F401
from mmattn.backbones import (BLResNet, MNASNet, MobileNetV2, MobileNeXt,
                              PreActResNet_CIFAR, ResNet, ResNetV1d)
from mmattn.backbones.depths import layer_sizes

PARTS = dict(
    attention=dict(type='SE', ratio=2),
    link=dict(type='DCA'),
    depth_fusion=dict(type='SelectiveFusion', min_channels=2),
    stage_attention=dict(type='ECA'))


@lru_cache(maxsize=None)
def on_meta(net, *args, **options):
    """A network without numbers."""
    with torch.device('meta'):
        return net(*args, **options)


def layers(net, prefix=''):
    """The layer of every parameter; all agree on how many there are."""
    depths = {
        name: net.get_layer_depth(prefix + name, prefix)
        for name, _ in net.named_parameters()
    }
    assert len({total for _, total in depths.values()}) == 1
    return {name: layer for name, (layer, _) in depths.items()}


@pytest.mark.parametrize('depth', [
    34, 50, 101, 152, (3, 24, 36, 3), (3, 30, 48, 8)])
@pytest.mark.parametrize('net', ['ResNet', 'ResNetV1d'])
def test_equal_to_the_stock_network(depth, net):
    """mmpretrain's own answer; its 200 and 269 are tuples here."""
    stock = pytest.importorskip('mmpretrain.models.backbones')
    stage_blocks = dict(zip((34, 50, 101, 152), (
        (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)))).get(
            depth, depth)
    theirs = getattr(stock, net)(depth=50, base_channels=4, stem_channels=4)
    theirs.stage_blocks = stage_blocks  # all that its answer depends on
    ours = on_meta(dict(ResNet=ResNet, ResNetV1d=ResNetV1d)[net], depth,
                   base_channels=4)
    names = [f'backbone.{name}' for name, _ in ours.named_parameters()]
    for name in [*names, 'head.fc.weight', 'neck.bias']:
        assert ours.get_layer_depth(name, 'backbone.') == (
            theirs.get_layer_depth(name, 'backbone.')), name


@pytest.mark.parametrize('blocks, sizes', [
    ((2, 2, 2, 2), [2, 2, 3, 2]),
    ((5, 6, 12, 5), [5, 2, 3, 5]),
    ((1, 2, 3, 4, 3, 3, 1), [1, 2, 3, 3, 3, 3, 1]),
    ((3, 4, 6), [3, 2, 6]),
    ((3, 4), [3, 4]),
    ((3, ), [3]),
])
def test_blocks_of_a_layer(blocks, sizes):
    assert layer_sizes(blocks) == sizes


def test_layers_of_a_deep_network_by_hand():
    # 5, 6, 12, 5 blocks: one layer, three, four, one
    net = on_meta(ResNet, 86, base_channels=8)
    found = layers(net)
    assert net.get_layer_depth('', 'backbone.') == (10, 11)
    assert found['conv1.weight'] == found['bn1.bias'] == 0
    assert found['layer1.4.conv2.weight'] == 1
    assert [found[f'layer2.{i}.conv1.weight'] for i in range(6)] == [
        2, 2, 3, 3, 4, 4]
    assert [found[f'layer3.{i}.bn3.weight'] for i in range(12)] == [
        5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8]
    assert found['layer4.0.conv1.weight'] == 9


NETS = [
    (ResNet, (18, )), (ResNetV1d, (50, )), (BLResNet, (50, )),
    (PreActResNet_CIFAR, (20, )), (MobileNetV2, ()), (MNASNet, ()),
    (MobileNeXt, ()),
]


@pytest.mark.parametrize('net, args', NETS,
                         ids=[net.__name__ for net, _ in NETS])
def test_layers_rise_from_stem_to_head(net, args):
    options = dict(out_indices=(7, )) if net is MobileNetV2 else {}
    net = on_meta(net, *args, **options)
    found = layers(net)
    order = list(dict.fromkeys(found.values()))
    head, total = net.get_layer_depth('head.fc.bias', 'backbone.')
    assert order == list(range(total - 1)) and head == total - 1


def test_what_follows_the_stages_counts_with_the_last():
    mobile = layers(on_meta(MobileNetV2, out_indices=(7, )))
    # 1 | 2 | 3 | 4 as 3 + 1 | 3 | 3 | 1 blocks
    assert mobile['layer4.2.conv.0.conv.weight'] == 4
    assert mobile['layer4.3.conv.0.conv.weight'] == 5
    assert mobile['conv2.conv.weight'] == 8
    assert mobile['conv1.conv.weight'] == 0
    norm = on_meta(PreActResNet_CIFAR, 20)
    assert layers(norm)[f'{norm.last_norm_name}.weight'] == 4  # 1 | 2 | 1


def test_parts_count_with_their_place():
    found = layers(ResNet((2, 4, 3, 2), base_channels=4, **PARTS), 'backbone.')
    seen = set()
    for name, layer in found.items():
        stage, _, rest = name.partition('.')
        place, _, part = rest.partition('.')
        if place in ('depth_fusion', 'stage_attention'):
            beside = f'{stage}.{dict(layer2=3).get(stage, 1)}.conv1.weight'
            seen.add(place)
        elif part.startswith(('attention.', 'link.')):
            beside = f'{stage}.{place}.conv1.weight'
            seen.add(part.partition('.')[0])
        else:
            continue
        assert layer == found[beside], name
    assert seen == set(PARTS)


def test_a_name_it_does_not_have():
    with pytest.raises(ValueError, match='head.fc.weight is no parameter of '
                       'this backbone; its modules are conv1, bn1'):
        on_meta(ResNet, 50).get_layer_depth('head.fc.weight')


@pytest.mark.parametrize('backbone', [
    dict(type='mmattn.ResNet', depth=(1, 4, 3, 1), base_channels=4,
         attention=dict(type='SE', ratio=2)),
    dict(type='mmattn.MobileNetV2', widen_factor=0.1, attention=dict(
        type='ECA')),
], ids=['resnet', 'mobilenet'])
def test_with_the_real_constructor(backbone):
    """Rates of a whole classifier, decayed by a half for each layer."""
    models = pytest.importorskip('mmpretrain.models')
    init_default_scope('mmpretrain')
    width = 128 if 'ResNet' in backbone['type'] else 1280
    model = models.build_classifier(dict(
        type='ImageClassifier', backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=width)))
    wrapper = build_optim_wrapper(model, dict(
        optimizer=dict(type='SGD', lr=1., weight_decay=1e-4),
        constructor='LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5)))
    rates = {
        id(p): group['lr'] for group in wrapper.param_groups
        for p in group['params']
    }
    names = dict(model.named_parameters())
    assert names and {id(p) for p in names.values()} <= rates.keys()
    rates = {name: rates[id(p)] for name, p in names.items()}
    _, total = model.get_layer_depth('head.fc.weight')
    assert rates['head.fc.weight'] == 1
    for name, rate in rates.items():
        layer, _ = model.get_layer_depth(name)
        assert rate == 0.5**(total - 1 - layer), name
    assert min(rates.values()) == 0.5**(total - 1)
    if 'ResNet' in backbone['type']:
        # stem 0 | 1 | 2, 3 | 4 | 5 | head 6
        assert rates['backbone.layer2.1.attention.fc1.weight'] == 2**-4
        assert rates['backbone.layer2.2.attention.fc1.weight'] == 2**-3
