"""``mmattn.fuse``: the same numbers without the batch norms."""
import pickle
from copy import deepcopy

import pytest
import test_backbones
import test_mobile
import test_peer_networks
import torch
from mmcv.cnn import ConvModule
from samples import randomise
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import mmattn
from mmattn.folding import Folded
from mmattn.necks import FPN
from mmattn.registry import MODELS

# Norms that are not directly behind a convolution, by the end of their name.
LEFT = {
    'EPSANet': 'bn2',  # behind an attention
    'PreActResNet_CIFAR': ('bn0', 'bn1'),  # before convolutions
}
NETS = {
    **{row: ('backbones', row) for row in test_backbones.ROWS},
    **{row: ('mobile', row) for row in test_mobile.ROWS},
    **{row: ('peers', row) for row in test_peer_networks.ROWS},
}


def build(row):
    source, name = NETS[row]
    if source == 'backbones':
        return test_backbones.build_short(name)
    if source == 'mobile':
        return randomise(test_mobile.build(name)).eval()
    return randomise(test_peer_networks.ROWS[name]()).eval()


def tiny(**words):
    return randomise(
        test_backbones.ResNet((2, ),
                              base_channels=16,
                              num_stages=1,
                              strides=(1, ),
                              dilations=(1, ),
                              out_indices=(0, ),
                              **words)).eval()


def assert_same(net, x, tolerance=1e-10):
    """The largest difference over the largest value."""
    fused = mmattn.fuse(net)
    for y, expected in zip(fused(x), net(x)):
        error = (y - expected).abs().max() / expected.abs().max()
        assert error < tolerance, f'{error:.1e}'
    return fused


def norms(model):
    return [n for n, m in model.named_modules() if isinstance(m, _BatchNorm)]


@pytest.mark.parametrize('row', NETS)
def test_every_backbone(row):
    net = build(row).double()
    state = deepcopy(net.state_dict())
    size = (113, 129) if row == 'ScaleResNet' else (65, 49)
    fused = assert_same(net, torch.randn(1, 3, *size).double())
    assert all(name.endswith(LEFT.get(row, ())) for name in norms(fused))
    assert any(isinstance(m, Folded) for m in fused.modules())
    # The network itself is what it was.
    assert list(net.state_dict()) == list(state)
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_every_registered_backbone_is_tested():
    MODELS.import_from_location()
    tested = {type(build(row)).__name__ for row in NETS}
    known = {
        name for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type) and issubclass(cls, test_backbones.Backbone)
    }
    assert known <= tested


def test_single_precision():
    assert_same(tiny(), torch.randn(2, 3, 33, 49), 1e-5)


@pytest.mark.parametrize('words', [
    dict(attention=dict(type='CBAM')),
    dict(attention=dict(type='BAM')),
    dict(attention=dict(type='CoordAttention')),
    dict(attention=dict(type='GE', size=(9, 13))),
    dict(attention=dict(type='GSoP', channels=8)),
    dict(fusion=dict(type='IAFF')),
    dict(depth_fusion=dict(type='SelectiveFusion', ratio=4)),
], ids=str)
@pytest.mark.parametrize('link', [False, True])
def test_parts(words, link):
    if link and 'attention' not in words:
        pytest.skip('a link connects attentions')
    net = tiny(**words, link=dict(type='DCA') if link else None).double()
    fused = assert_same(net, torch.randn(2, 3, 33, 49).double())
    kept = ('link.norm', 'attention.row_norm')
    if link:  # the link mixes into what the convolution extracts
        kept += ('attention.norm', 'spatial_gate.norm')
    assert all(name.endswith(kept) or 'link.' in name
               for name in norms(fused))


def test_a_neck():
    net = randomise(
        FPN([8, 16], 8, 3, norm_cfg=dict(type='BN'),
            act_cfg=dict(type='ReLU'))).eval()
    xs = [torch.randn(1, 8, 9, 15), torch.randn(1, 16, 5, 8)]
    assert not norms(assert_same(net, xs, 1e-5))


class Scaled(nn.Conv2d):
    """Does more than convolve."""

    def forward(self, x):
        return 2 * super().forward(x) / self.weight.abs().max()


def left_alone():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    model[0].register_forward_hook(lambda module, args, y: y * 2)
    yield 'a hook sees the result', model
    conv = nn.Conv2d(4, 4, 1)
    yield 'one convolution, two norms', nn.Sequential(
        nn.Sequential(conv, nn.BatchNorm2d(4)),
        nn.Sequential(conv, nn.BatchNorm2d(4)))
    yield 'another class', nn.Sequential(Scaled(4, 4, 1), nn.BatchNorm2d(4))
    yield 'no statistics', nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    yield 'something between', nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))
    yield 'norm before act before conv', ConvModule(
        4, 4, 1, norm_cfg=dict(type='BN'), order=('norm', 'act', 'conv'))


@pytest.mark.parametrize('why, model', left_alone(), ids=lambda p: p
                         if isinstance(p, str) else '')
def test_what_cannot_be_folded_is_left(why, model):
    model = randomise(model).eval()
    fused = mmattn.fuse(model)
    assert len(norms(fused)) == len(norms(model))
    x = torch.randn(2, 4, 5, 7)
    torch.testing.assert_close(fused(x), model(x))


def test_a_norm_without_parameters():
    model = randomise(nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False))).eval()
    fused = mmattn.fuse(model)
    assert not norms(fused)
    x = torch.randn(2, 4, 5, 7)
    torch.testing.assert_close(fused(x), model(x), rtol=1e-4, atol=1e-5)


def test_training_is_refused():
    net = tiny()
    with pytest.raises(ValueError, match='call model.eval'):
        mmattn.fuse(net.train())
    fused = mmattn.fuse(net.eval())
    with pytest.raises(RuntimeError, match='is a fused copy'):
        fused.train()
    assert fused.eval() is fused
    assert net.train().training


def test_a_copy_of_a_copy():
    fused = mmattn.fuse(tiny())
    x = torch.randn(1, 3, 33, 49)
    expected = fused(x)[0]
    for copy in (deepcopy(fused), pickle.loads(pickle.dumps(fused)),
                 mmattn.fuse(fused)):
        assert torch.equal(copy(x)[0], expected)
