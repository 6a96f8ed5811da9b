"""Every attention with every link, join and depth fusion, in both families.

Nobody has published most of these; a config line each must do.
"""
import inspect

import pytest
import torch
from samples import randomise

from mmattn.attentions import Attention
from mmattn.backbones import MobileNet, ResNet
from mmattn.backbones.mobilenet import Row
from mmattn.fusions import Fusion
from mmattn.registry import MODELS

MODELS.import_from_location()
ATTENTIONS = sorted(
    name for name, cls in MODELS.module_dict.items() if inspect.isclass(cls)
    and issubclass(cls, Attention) and not issubclass(cls, Fusion))
DEPTHS = dict(type='SelectiveFusion', ratio=4, min_channels=8)

# Biases before a norm and logits before a softmax: no gradient, by algebra.
ZERO_GRADIENT = (
    'attention.mask.bias', 'attention.fc1.bias', 'attention.reduce.bias',
    'link.conv.bias', 'match_conv.0.bias', 'mix.bias', 'branch.0.bias',
    'branch.3.bias', 'branch.6.bias')


class TinyMobileNet(MobileNet):
    """Two stages of inverted residuals."""

    stem_channels = 128
    last_channels = None
    table = (Row(128, 2, 1, dict(expand_ratio=1)),
             Row(128, 2, 2, dict(expand_ratio=2)))


def tiny_resnet(**words):
    return ResNet((2, 2),
                  base_channels=32,
                  num_stages=2,
                  strides=(1, 2),
                  dilations=(1, 1),
                  out_indices=(0, 1),
                  **words)


def tiny_mobilenet(**words):
    return TinyMobileNet(out_indices=(0, 1), **words)


@pytest.mark.config
@pytest.mark.parametrize('depth_fusion', [None, DEPTHS], ids=['', 'depths'])
@pytest.mark.parametrize('fusion', ['Add', 'AFF', 'IAFF'])
@pytest.mark.parametrize('link', [None, dict(type='DCA')], ids=['', 'DCA'])
@pytest.mark.parametrize('build', [tiny_resnet, tiny_mobilenet])
@pytest.mark.parametrize('name', ATTENTIONS)
def test_every_combination_trains(name, build, link, fusion, depth_fusion):
    net = randomise(build(
        attention=dict(type=name),
        link=link,
        fusion=dict(type=fusion),
        depth_fusion=depth_fusion)).double()
    with torch.no_grad():  # features of order 1: no gate is saturated
        for p in net.parameters():
            if p.dim() > 1:
                p *= 2 * p[0].numel()**-0.5
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 3, 37, 29, generator=generator).double()
    outs = net(x)
    assert all(y.isfinite().all() for y in outs)
    weights = [
        torch.randn(y.shape, generator=generator).double() for y in outs
    ]
    sum((y * w).sum() for y, w in zip(outs, weights)).backward()
    for key, p in net.named_parameters():
        assert p.grad is not None, key
        if not key.endswith(ZERO_GRADIENT):
            assert p.grad.abs().max() > 0, key


# What is refused, with the words of the message.
@pytest.mark.parametrize('build', [tiny_resnet, tiny_mobilenet])
@pytest.mark.parametrize('words, message', [
    (dict(link=dict(type='DCA')), 'link.* needs an attention'),
    (dict(attention=[dict(type='SE'), dict(type='GC')],
          link=dict(type='DCA')), 'cannot link GC to SE'),
    (dict(attention=dict(type='AFF')), "attention has no type 'AFF'"),
    (dict(fusion=dict(type='SE')), "fusion has no type 'SE'"),
    (dict(attention=dict(type='SE'), branches=[dict(dilation=2)]),
     "attention of branches has no type 'SE'"),
    (dict(branches=[dict(dilation=2)]), 'branches need a fusion'),
    (dict(depth_fusion=dict(type='ECA')), "depth_fusion has no type 'ECA'"),
])
def test_what_does_not_compose_says_so(build, words, message):
    with pytest.raises(ValueError, match=message):
        build(**words)


def test_a_depth_fusion_of_the_kind_of_a_join_takes_two_blocks():
    tiny_resnet(depth_fusion=dict(type='AFF', ratio=4))
    with pytest.raises(ValueError, match='two maps, got num_maps=3'):
        ResNet((3, ), base_channels=16, num_stages=1, strides=(1, ),
               dilations=(1, ), out_indices=(0, ),
               depth_fusion=dict(type='AFF', ratio=4))
