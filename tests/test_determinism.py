"""``randomness=dict(deterministic=True)``: the same run twice, and on a GPU.

What a GPU would refuse is told without one: the meta device takes the ways of
PyTorch that lead past its CPU kernels, and names of operators are held
against those that PyTorch documents to raise.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.utils import digit_version
from test_ddp_networks import BACKBONES, FEW, PARTS
from torch.utils._python_dispatch import TorchDispatchMode

from mmattn.necks import FPN

ROOT = Path(__file__).resolve().parents[1]

# -- twice the same --------------------------------------------------------

# A config of each task, and what makes its network small.
TASKS = {
    'detection': ('quickstart/mask_rcnn_sda_r50_toy.py', dict(
        backbone=dict(base_channels=8),
        neck=dict(in_channels=[32, 64, 128, 256]))),
    'segmentation': ('deeplabv3/deeplabv3_ca_mbv2_os16_voc12aug.py', dict(
        backbone=dict(init_cfg=None))),
    'classification': ('imagenet/aff/aff_resnet50_8xb128_in1k.py', dict(
        backbone=dict(base_channels=8), head=dict(in_channels=256))),
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Generated images, laid out as these configs expect them."""
    root = tmp_path_factory.mktemp('data')
    for name, layout in dict(toy=datasets.toy, VOCdevkit=datasets.voc,
                             imagenet=datasets.imagenet).items():
        layout(root / name, np.random.default_rng(0))
    return root


def shrink(task, data, path):
    """Write a config that trains three steps of two images."""
    name, small = TASKS[task]
    cfg = Config.fromfile(ROOT / 'configs' / name)
    pytest.importorskip(cfg.default_scope)
    cfg.merge_from_dict(dict(model=small))
    # datasets.point looks for it there, and so does the Runner.
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    datasets.point(cfg, data)
    # Loaded by a worker, which has random numbers of its own.
    cfg.train_dataloader.num_workers = 1
    cfg.train_cfg.update(
        {'max_epochs' if 'max_epochs' in cfg.train_cfg else 'max_iters': 3},
        val_begin=9)
    cfg.default_hooks.checkpoint.interval = 3
    cfg.default_hooks.logger.interval = 1
    cfg.dump(path)


def train(config, seed):
    """Train by the command line; return the losses logged, and the end."""
    folder = config.parent / f'{seed}_{len(list(config.parent.iterdir()))}'
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'train.py'), str(config),
         '--work-dir', str(folder), '--cfg-options',
         f'randomness.seed={seed}', 'randomness.deterministic=True'],
        env=dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1',
                 PYTHONPATH=str(ROOT)),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-4000:]
    log, = folder.glob('*/vis_data/scalars.json')
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [{k: v for k, v in step.items() if 'loss' in k}
              for step in steps]
    end = torch.load(
        (folder / 'last_checkpoint').read_text(), weights_only=False)
    return losses, end['state_dict']


@pytest.mark.config
@pytest.mark.parametrize('task', TASKS)
def test_two_runs_are_the_same_to_the_bit(task, data, tmp_path):
    config = tmp_path / 'small.py'
    shrink(task, data, config)
    losses, weights = train(config, 7)
    same_losses, same_weights = train(config, 7)
    assert len(losses) == 3 and all(losses)
    assert losses == same_losses
    assert list(weights) == list(same_weights)
    for key, value in weights.items():
        assert torch.equal(value, same_weights[key]), key
    if task == 'classification':  # else nothing here would be random
        other_losses, other_weights = train(config, 8)
        assert losses != other_losses
        assert any(not torch.equal(value, other_weights[key])
                   for key, value in weights.items())


# -- what a GPU refuses ----------------------------------------------------

# "The following normally-nondeterministic operations will throw" in the
# documentation of torch.use_deterministic_algorithms, 2.1 to 2.12, as the
# operators that autograd calls. Not among them: the gradient of the maximum
# pooling in the stems; index_put, index_add, gather and scatter, which have a
# deterministic form; interpolate's own forms for 2-D maps.
REFUSED = {
    '_adaptive_avg_pool2d_backward', '_adaptive_avg_pool3d_backward',
    '_ctc_loss_backward', '_embedding_bag_backward',
    '_upsample_bicubic2d_aa_backward', '_upsample_bilinear2d_aa_backward',
    'adaptive_max_pool2d_backward', 'adaptive_max_pool3d_backward',
    'avg_pool3d_backward', 'bincount', 'cumsum',
    'fractional_max_pool2d_backward', 'fractional_max_pool3d_backward',
    'grid_sampler_2d_backward', 'grid_sampler_3d_backward', 'histc',
    'kthvalue', 'max_pool3d_with_indices_backward', 'max_unpool2d',
    'max_unpool3d', 'median', 'nll_loss2d_forward', 'nll_loss_forward',
    'put_', 'reflection_pad1d_backward', 'reflection_pad2d_backward',
    'reflection_pad3d_backward', 'scatter_reduce',
    'upsample_bicubic2d_backward', 'upsample_bilinear2d_backward',
    'upsample_linear1d_backward', 'upsample_trilinear3d_backward',
}


class Operators(TorchDispatchMode):
    """The names of the operators that ran."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def maps(*shapes):
    return [torch.randn(2, *shape) for shape in shapes]


def fpn():
    return FPN([8, 16], 8, 3, fusion=dict(type='AFF', ratio=4)), maps(
        (8, 9, 13), (16, 5, 7))


def resizing_fpn():
    return FPN([8, 16], 8, 3, upsample_cfg=dict(mode='bilinear')), maps(
        (8, 9, 13), (16, 5, 7))


def deeplab_head():
    head = pytest.importorskip('mmattn.segmentation').DeepLabV3Head(
        8, 6, num_classes=5, dilations=(1, 2))
    return head, maps((8, 9, 13))


def ssdlite_neck():
    neck = pytest.importorskip('mmattn.detection').SSDLiteNeck(
        (8, 16), (8, 8), (4, 4), attention=dict(type='SE', ratio=2))
    return neck, maps((8, 9, 13), (16, 5, 7))


def ssdlite_head():
    widths = (8, 16, 8, 8, 8, 8)
    head = pytest.importorskip('mmattn.detection').SSDLiteHead(3, widths)
    return head, maps(*((width, 5, 3) for width in widths))


def classifier_head():
    head = pytest.importorskip('mmattn.classification').DropoutLinearClsHead(
        5, 8, dropout_rate=0.2)
    return head, maps((8, ))


LAYERS = dict(
    fpn=fpn, resizing_fpn=resizing_fpn, deeplab_head=deeplab_head,
    ssdlite_neck=ssdlite_neck, ssdlite_head=ssdlite_head,
    classifier_head=classifier_head)

# Where torch 2.1 takes another way on the meta device than on a GPU.
DIFFERENT = ('AAConv', 'ScaleResNet', 'resizing_fpn', 'frozen and recomputed')


def make(name):
    """A layer or network, and its input."""
    if name in LAYERS:
        return LAYERS[name]()
    size = (113, 129) if name == 'ScaleResNet' else (33, 49)
    return {**BACKBONES, **PARTS}[name](), torch.randn(2, 3, *size)


def flat(outputs):
    """The tensors in nested sequences."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for one in outputs for tensor in flat(one)]


def run(name, device):
    """Forward and backward in training, on another device."""
    net, x = make(name)
    x = (x.to(device) if isinstance(x, torch.Tensor) else
         [one.to(device) for one in x])
    sum(y.sum() for y in flat(net.to(device).train()(x))).backward()


def refused(name):
    with Operators() as operators:
        run(name, 'meta')
    return operators.names & REFUSED


every_layer = pytest.mark.parametrize('name', [
    *PARTS, *LAYERS, *FEW, *(pytest.param(name, marks=pytest.mark.config)
                             for name in BACKBONES if name not in FEW)])


@every_layer
def test_a_gpu_would_refuse_no_operator(name, deterministic):
    if name in DIFFERENT and digit_version(torch.__version__) < digit_version(
            '2.4'):
        pytest.skip(f'torch {torch.__version__} enlarges and recomputes in '
                    'another way on the meta device than on a GPU')
    assert refused(name) == set()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
@every_layer
def test_a_gpu_refuses_nothing(name, deterministic, monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    run(name, 'cuda')


def test_what_would_be_refused_is_seen():
    """Links choose another pooling where determinism is asked for."""
    assert refused('linked ECA') == {'_adaptive_avg_pool2d_backward'}
    assert refused('resizing_fpn') == {'upsample_bilinear2d_backward'}
