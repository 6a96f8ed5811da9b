"""One line of a stock config swaps the backbone, in every toolbox.

A config inherits from the installed toolbox, renames the type of the backbone
and adds an attention; nothing is imported by hand. It starts from a
checkpoint of the stock backbone and takes one training step.
"""
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from samples import SIZE, batch, boxes, label, segments

import mmattn
from mmattn.checkpoints.report import part_of

ROOT = Path(mmattn.__file__).resolve().parents[1]
SE = dict(attention=dict(type='SE', ratio=16))
DEPTHS = dict(
    depth_fusion=dict(type='SelectiveFusion', ratio=16, min_channels=64))


# -- one training step -----------------------------------------------------


def swapped(path, base, backbone):
    """Write and read a config that changes nothing but the backbone."""
    path.write_text(f'_base_ = {base!r}\nmodel = dict(backbone={backbone!r})')
    return Config.fromfile(path)


def stock_weights(backbone, words):
    """A classifier file of the stock backbone that a config had before.

    The last norm of each branch is small, as in a trained network: frozen
    statistics do not blow the features up.
    """
    stock = {k: v for k, v in backbone.items() if k not in words}
    stock.update(type=stock['type'].replace('mmattn.', ''), init_cfg=None)
    weights = MODELS.build(stock).state_dict()
    for name in weights:
        if name.endswith('bn3.weight'):
            weights[name] = torch.full_like(weights[name], 0.2)
    fc = {'fc.weight': torch.randn(9, 2048), 'fc.bias': torch.randn(9)}
    return weights, fc


def start_from_file(cfg, path, weights, fc):
    """Point the config at a file, each toolbox in its own way."""
    if cfg.default_scope == 'mmpretrain':  # trained from scratch as it is
        names = {f'backbone.{k}': v for k, v in weights.items()}
        names.update({f'head.{k}': v for k, v in fc.items()})
        torch.save(dict(state_dict=names), path)
        cfg.model.backbone.init_cfg = dict(
            type='Pretrained', checkpoint=str(path), prefix='backbone')
        return
    torch.save({**weights, **fc}, path)
    if cfg.model.get('pretrained'):
        cfg.model.pretrained = str(path)
    else:
        cfg.model.backbone.init_cfg.checkpoint = str(path)


def tensors(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


@pytest.mark.config
@pytest.mark.parametrize('base, net, words, make_sample', [
    ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 'ResNet', SE,
     partial(boxes, 80)),
    ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'ResNet', DEPTHS,
     partial(boxes, 80)),
    ('mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py',
     'ResNetV1c', SE, partial(segments, 19)),
    ('mmpretrain::resnet/resnet50_8xb32_in1k.py', 'ResNet', SE,
     partial(label, 1000)),
], ids=['retinanet_se', 'faster_rcnn_depths', 'pspnet_se', 'resnet_se'])
def test_a_swapped_config_trains(base, net, words, make_sample, tmp_path):
    pytest.importorskip(base.partition('::')[0])
    cfg = swapped(tmp_path / 'swapped.py', base,
                  dict(type=f'mmattn.{net}', **words))
    init_default_scope(cfg.default_scope)
    if cfg.model.get('data_preprocessor', {}).get('size'):
        cfg.model.data_preprocessor.size = SIZE  # pads to the crop otherwise
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    weights, fc = stock_weights(cfg.model.backbone, words)
    start_from_file(cfg, tmp_path / 'stock.pth', weights, fc)

    model = MODELS.build(cfg.model)
    model.init_weights()
    start = tensors(model.backbone)
    assert [n for n in weights if not torch.equal(weights[n], start[n])] == []
    assert {part_of(n) for n in start} == {'trunk', *words}
    assert all((part_of(n) == 'trunk') == (n in weights) for n in start)

    model = revert_sync_batchnorm(model)  # there is no GPU
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.train()
    data = batch(make_sample)
    loss, _ = model.parse_losses(
        model(**model.data_preprocessor(data, True), mode='loss'))
    optim_wrapper.backward(loss)
    assert torch.isfinite(loss)
    optim_wrapper.step()

    stem_and_one = cfg.model.backbone.get('frozen_stages') == 1
    frozen = ('conv1.', 'bn1.', 'layer1.') if stem_and_one else ()
    end = tensors(model.backbone)
    for name, p in model.backbone.named_parameters():
        if name.startswith(frozen):
            assert p.grad is None and torch.equal(start[name], end[name]), name
        else:
            assert p.grad.any(), name
            assert not torch.equal(start[name], end[name]), name
    if cfg.model.backbone.get('norm_eval'):
        assert all(torch.equal(start[n], end[n]) for n in start
                   if n.endswith(('running_mean', 'running_var')))


# -- nothing imported by hand ----------------------------------------------


def fresh(code, *arguments):
    """Run code in a new interpreter; what it printed."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code] +
                          list(arguments),
                          cwd=ROOT,
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_brings_no_toolbox():
    loaded = fresh("""
import sys
import mmattn
import mmattn.backbones, mmattn.attentions, mmattn.fusions, mmattn.links
import mmattn.checkpoints.report
print(*sys.modules)""")
    assert 'mmattn.backbones' in loaded
    assert [
        name for name in loaded if name.partition('.')[0] in
        ('mmdet', 'mmseg', 'mmpretrain') or name.startswith('mmcv.ops')
    ] == []


def test_import_changes_two_package_names_and_nothing_else():
    changed = fresh("""
from mmengine import registry
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.runner.checkpoint import CheckpointLoader
roots = [value for value in vars(registry).values()
         if isinstance(value, registry.Registry)]
def entries():
    return ([sorted(root.module_dict) for root in roots],
            dict(CheckpointLoader._schemes))
packages, rest = dict(MODULE2PACKAGE), entries()
import mmattn
assert entries() == rest
print(*(name for name in {**packages, **MODULE2PACKAGE}
        if packages.get(name) != MODULE2PACKAGE.get(name)))""")
    assert 'mmattn' in changed
    assert set(changed) <= {'mmattn', 'mmseg'}


@pytest.mark.parametrize('config', [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'mmseg::deeplabv3/deeplabv3_r50-d8_4xb2-40k_cityscapes-512x1024.py',
    'mmpretrain::resnet/resnet50_8xb32_in1k.py',
], ids=['mmdet', 'mmseg', 'mmpretrain'])
def test_stock_configs_are_found(config):
    name = config.partition('::')[0]
    pytest.importorskip(name)
    assert get_config(config).default_scope == name


@pytest.mark.config
@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain', 'mmengine'])
def test_builds_in_every_scope_without_an_import(scope):
    pytest.importorskip(scope)
    assert fresh(
        """
import sys
from mmengine.registry import MODELS, init_default_scope
init_default_scope(sys.argv[1])
assert 'mmattn' not in sys.modules
net = MODELS.build(dict(
    type='mmattn.ResNet', depth=50, base_channels=8,
    attention=dict(type='SE', ratio=2), link=dict(type='DCA'),
    depth_fusion=dict(type='SelectiveFusion')))
print(type(net).__module__, type(net.layer1[0].attention).__module__)""",
        scope) == ['mmattn.backbones.resnet', 'mmattn.attentions.se']
