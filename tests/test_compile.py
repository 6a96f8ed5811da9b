"""Compiled networks: one graph, and one for every image size."""
from copy import deepcopy

import pytest
import torch
from mmengine.utils import digit_version

from mmattn.attentions import Attention
from mmattn.backbones import MobileNetV2, ResNet
from mmattn.fusions import Fusion
from mmattn.registry import MODELS

pytestmark = [
    pytest.mark.config,
    pytest.mark.skipif(
        digit_version(torch.__version__) < digit_version('2.4'),
        reason=f'the compiler of torch {torch.__version__} breaks graphs '
        'that those since 2.4 do not')
]

# The first is not square: the compiler takes equal sides for one number. All
# are multiples of 32, as detectors pad their images: PyTorch's own maximum
# pooling compiles for odd maps and for even ones.
SIZES = ((96, 64), (64, 96), (64, 64), (128, 64), (160, 96))
SMALL = dict(
    base_channels=16, num_stages=2, strides=(1, 2), dilations=(1, 1),
    out_indices=(0, 1))
NAMES = sorted(
    name for name, kind in MODELS.module_dict.items()
    if isinstance(kind, type) and issubclass(kind, Attention)
    and not issubclass(kind, Fusion))

WORDS = {
    **{name: dict(attention=dict(type=name)) for name in NAMES},
    **{
        f'DCA-{name}': dict(attention=dict(type=name), link=dict(type='DCA'))
        for name in ('SE', 'GC', 'CBAM', 'ECA')
    },
    'SDA': dict(depth_fusion=dict(type='SelectiveFusion')),
    'AFF': dict(fusion=dict(type='AFF')),
    'IAFF': dict(fusion=dict(type='IAFF')),
}


def outputs_of_one_graph(net):
    """Of every size; a second compilation is an error."""
    torch.compiler.reset()
    compiled = torch.compile(
        deepcopy(net), backend='eager', fullgraph=True, dynamic=True)
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        x = torch.randn(2, 3, *size, generator=generator)
        with torch.no_grad(), torch._dynamo.config.patch(
                error_on_recompile=True):
            ys = compiled(x)
        with torch.no_grad():
            yield ys, net(x)


@pytest.mark.parametrize('words', WORDS.values(), ids=WORDS)
def test_a_resnet_compiles_once_for_all_sizes(words):
    net = ResNet((2, 2), **SMALL, **words).eval()
    for ys, expected in outputs_of_one_graph(net):
        for pair in zip(ys, expected):
            torch.testing.assert_close(*pair)


def test_a_mobile_network_compiles_once_for_all_sizes():
    net = MobileNetV2(
        widen_factor=0.5, attention=dict(type='CoordAttention')).eval()
    for ys, expected in outputs_of_one_graph(net):
        for pair in zip(ys, expected):
            torch.testing.assert_close(*pair)


@pytest.mark.parametrize(
    'name', ['SE', 'CBAM', 'CoordAttention', 'DCA-GC', 'SDA', 'AFF'])
def test_a_training_step_compiles(name):
    """Forward and backward in one graph each, with eager's gradients."""
    torch.compiler.reset()
    torch.manual_seed(0)
    net = ResNet((2, 2), **SMALL, **WORDS[name]).double().train()
    compiled = torch.compile(
        deepcopy(net), backend='aot_eager', fullgraph=True)
    x = torch.randn(2, 3, 65, 97).double()
    for step in (net, compiled):
        sum(y.square().mean() for y in step(x)).backward()
    for p, q in zip(net.parameters(), compiled.parameters()):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            torch.testing.assert_close(q.grad, p.grad)
