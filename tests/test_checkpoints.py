"""Published checkpoints become ours: tables, engine, command."""
import importlib.util
import json
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS

import mmattn.checkpoints.safe as safe
from mmattn.checkpoints import CheckpointError, convert, load_checkpoint_file
from mmattn.checkpoints.convert import (Table, find_table, fit, map_keys,
                                        read_weights)
from mmattn.checkpoints.sda import TABLE as SDA
from mmattn.checkpoints.torchvision import TABLE as TORCHVISION

ROOT = Path(__file__).resolve().parents[1]
DEPTH_FUSION = dict(type='SelectiveFusion', ratio=16, min_channels=64)
NORM_NECK = dict(
    type='ClsBatchNormNeck', input_features=2048, affine=True, eps=1e-5)


def published(name):
    path = ROOT / 'tests' / 'data' / 'published' / f'{name}.json'
    return json.loads(path.read_text())


def empty(shapes):
    return {k: torch.empty(s, device='meta') for k, s in shapes.items()}


def tensors(*keys, size=1):
    return {key: torch.ones(size) for key in keys}


def classifier(channels=2048, necks=(), classes=1000, **backbone):
    backbone = {'type': 'mmattn.ResNet', 'out_indices': (3, ), **backbone}
    return dict(
        type='ImageClassifier',
        _scope_='mmpretrain',
        backbone=backbone,
        neck=[dict(type='GlobalAveragePooling'), *necks],
        head=dict(
            type='LinearClsHead', num_classes=classes, in_channels=channels))


SDA_86 = dict(depth=86, groups=8, base_width=8, depth_fusion=DEPTH_FUSION)
SDA_50 = dict(SDA_86, depth=50)
# file: its table, our network, its neck
LAYOUTS = {
    'sda__sda_resnet86': (SDA, SDA_86, [NORM_NECK]),
    'sda__sda_resnet50': (SDA, SDA_50, [NORM_NECK]),
    'sda__det_sdanet86': (SDA, SDA_86, [NORM_NECK]),
    'sda__resnet86': (TORCHVISION, dict(depth=86), []),
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_tables_are_total(name):
    pytest.importorskip('mmpretrain')
    table, backbone, necks = LAYOUTS[name]
    layout = published(name)
    weights = empty(layout['shapes'])
    assert find_table(weights) is table
    mapped, dropped = map_keys(table, weights)
    model = MODELS.build(classifier(necks=necks, **backbone))
    state_dict, notes = fit(mapped, model.state_dict())
    assert dropped == 0 and notes == []
    if name == 'sda__det_sdanet86':
        model = torch.nn.ModuleDict(dict(backbone=model.backbone))
    own = {k: v.shape for k, v in model.state_dict().items()}
    assert {k: v.shape for k, v in state_dict.items()} == own
    assert sum(p.numel() for p in model.parameters()) == layout['params']


@pytest.mark.parametrize('name, backbone, channels', [
    ('resnet18', dict(depth=18), 512),
    ('resnext50_32x4d', dict(depth=50, groups=32, base_width=4), 2048),
    ('wide_resnet50_2', dict(depth=50, base_width=128), 2048),
])
def test_torchvision_itself(name, backbone, channels):
    pytest.importorskip('mmpretrain')
    models = pytest.importorskip('torchvision.models')
    with torch.device('meta'):
        weights = models.get_model(name).state_dict()
    model = MODELS.build(classifier(channels, **backbone))
    mapped, dropped = map_keys(find_table(weights), weights)
    state_dict, notes = fit(mapped, model.state_dict())
    assert state_dict.keys() == model.state_dict().keys()
    assert dropped == 0 and notes == []


def test_a_tiny_table_by_hand():
    table = Table(
        name='tiny',
        signature=('a.{}.*', ),
        rules={
            'a.{}.b.{}.*': 'x{}.y{}.*',
            'a.{}.old': None,
            'a.{}.fc.*': ('x{}.conv.*', lambda t: t[0][:, :, None]),
            'b.{}.{}.*': ('z{}.*', torch.cat),
            'a.3.*': 'never',  # the rule before it fits first
        })
    weights = {
        'a.3.b.0.weight': torch.tensor([1.]),
        'a.3.b.12.bias': torch.tensor([2.]),
        'a.1.old': torch.tensor([3.]),
        'a.1.fc.weight': torch.tensor([[4., 5.]]),
        'b.2.1.weight': torch.tensor([7.]),
        'b.2.0.weight': torch.tensor([6.]),
    }
    mapped, dropped = map_keys(table, weights)
    assert dropped == 1
    assert {k: v.tolist() for k, v in mapped.items()} == {
        'x3.y0.weight': [1.],
        'x3.y12.bias': [2.],
        'x1.conv.weight': [[[4.], [5.]]],
        'z2.weight': [6., 7.],
    }


def projections(order):
    return {
        f'stage3.fcs.{i}.bias': torch.tensor([i, i + 0.5])
        for i in order
    }


def test_projections_are_joined_by_number():
    # as text, 10 and 11 sort before 2
    weights = projections(sorted(range(12), key=str))
    (key, joined), = map_keys(SDA, weights)[0].items()
    assert key == 'backbone.layer3.depth_fusion.project.bias'
    assert joined.tolist() == [i / 2 for i in range(24)]


@pytest.mark.parametrize('order', [(0, 2), (1, 2), (1, )])
def test_a_gap_in_what_is_joined(order):
    with pytest.raises(CheckpointError, match='numbered from 0'):
        map_keys(SDA, projections(order))


def test_two_keys_for_one_target():
    table = Table('two', (), {'a.*': 'x.*', 'b.*': 'x.*', 'c.{}': 'y'})
    weights = tensors('a.weight', 'b.bias')
    assert map_keys(table, weights)[0].keys() == {'x.weight', 'x.bias'}
    with pytest.raises(CheckpointError, match='x.bias must come from one key'):
        map_keys(table, {**weights, **tensors('a.bias')})
    with pytest.raises(CheckpointError, match='y must come from one key'):
        map_keys(table, tensors('c.0', 'c.1'))


def test_keys_without_a_rule_are_listed():
    weights = {f'stage1.extra.{i}': torch.ones(1) for i in range(12)}
    weights['conv1.weight'] = torch.ones(1)
    with pytest.raises(CheckpointError, match='table of sda, 12:') as error:
        map_keys(SDA, weights)
    assert 'stage1.extra.9' in str(error.value)
    assert 'stage1.extra.10' not in str(error.value)
    assert 'conv1' not in str(error.value)


def test_the_keys_tell_the_source():
    weights = empty(published('sda__sda_resnet50')['shapes'])
    assert find_table(weights) is SDA
    assert find_table(weights, 'torchvision') is TORCHVISION
    with pytest.raises(CheckpointError, match='known are sda, torchvision'):
        find_table(weights, 'sdanet')
    with pytest.raises(CheckpointError, match='they fit none') as error:
        find_table({'features.0.weight': torch.ones(1)})
    assert 'sda, torchvision' in str(error.value)
    assert 'features.0.weight' in str(error.value)


def test_of_two_sources_the_one_that_knows_all_keys(monkeypatch):
    package = 'mmattn.checkpoints'
    rules = {**TORCHVISION.rules, 'layer{}.{}.se.*': None}
    twin = replace(TORCHVISION, name='twin', rules=rules)
    monkeypatch.setattr(sys.modules[f'{package}.convert'], 'SOURCES',
                        ('torchvision', 'twin'))
    monkeypatch.setitem(sys.modules, f'{package}.twin',
                        SimpleNamespace(TABLE=twin))
    weights = empty(published('sda__resnet86')['shapes'])
    with pytest.raises(CheckpointError, match='fit torchvision and twin'):
        find_table(weights)
    weights['layer1.0.se.weight'] = torch.ones(1)
    assert find_table(weights) is twin
    weights['layer1.0.new.weight'] = torch.ones(1)  # known to neither
    with pytest.raises(CheckpointError, match='fit torchvision and twin'):
        find_table(weights)


def save(content, tmp_path):
    path = tmp_path / 'published.pth'
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize('wrap', [
    lambda w: w,
    lambda w: dict(epoch=3, arch='resnet', state_dict=w),
    lambda w: dict(model=w, optimizer=dict(lr=0.1)),
    lambda w: dict(net=w),
])
@pytest.mark.parametrize('prefix',
                         ['', 'module.', 'module.1.', 'module.module.'])
def test_wrappers_and_prefixes_go(wrap, prefix, tmp_path):
    weights = {
        'conv1.weight': torch.ones(2).half(),
        'bn1.weight': torch.ones(2).bfloat16(),
        'bn1.bias': torch.ones(2),
        'bn1.num_batches_tracked': torch.tensor(4),
    }
    prefixed = {prefix + key: value for key, value in weights.items()}
    read = read_weights(save(wrap(prefixed), tmp_path))
    assert read.keys() == weights.keys()
    assert read.pop('bn1.num_batches_tracked').dtype == torch.int64
    assert {value.dtype for value in read.values()} == {torch.float32}


@pytest.mark.parametrize('content, word', [
    ({}, 'all of it: dict'),
    (dict(state_dict={}), 'all of it: dict'),
    ([torch.ones(1)], 'all of it: list'),
    (torch.ones(1), 'all of it: Tensor'),
    (dict(epoch=1, weights={'a': torch.ones(1)}), 'epoch: int'),
])
def test_other_content_than_weights(content, word, tmp_path):
    with pytest.raises(CheckpointError, match='a dict of tensors') as error:
        read_weights(save(content, tmp_path))
    assert word in str(error.value) and 'published.pth' in str(error.value)


def test_a_classifier_takes_all_or_the_backbone():
    trunk, head = tensors('backbone.a'), tensors('head.fc.weight')
    neck = tensors('neck.1.bn.weight')
    model = {**trunk, **neck, **head}
    assert fit(model, model) == (model, [])
    assert fit(trunk, model) == (trunk, [])
    with pytest.raises(CheckpointError, match='missing in the file, 1:\n'
                       '  neck.1.bn.weight'):
        fit({**trunk, **head}, model)


def test_a_detector_takes_the_backbone_and_says_so():
    trunk = tensors('backbone.a')
    model = {**trunk, **tensors('neck.convs.0.weight', 'head.convs.0.bias')}
    file = {**trunk, **tensors('neck.1.bn.weight', 'head.fc.weight')}
    kept, notes = fit(file, model)
    assert kept == trunk
    assert notes == ['2 of the classifier dropped: the model has no head.fc']


def test_all_that_does_not_fit_is_listed():
    keys = [f'backbone.{i}.weight' for i in range(15)]
    file = {**tensors(*keys[:13]), **tensors('backbone.old', 'backbone.b')}
    model = {**tensors(*keys[12:], 'backbone.b', size=2)}
    with pytest.raises(CheckpointError) as error:
        fit(file, model)
    message = str(error.value)
    assert 'missing in the file, 2:\n  backbone.13.weight' in message
    assert 'not in the model, 13:\n  backbone.0.weight' in message
    assert 'backbone.9.weight' in message
    assert 'backbone.10.weight' not in message
    assert 'of another shape, 2:\n  backbone.12.weight: file (1,), model (2,)'\
        in message


def test_counters_that_old_files_lack_are_zero():
    norm = torch.nn.Sequential()
    norm.add_module('backbone', torch.nn.BatchNorm2d(3))
    model = norm.state_dict()
    model['backbone.num_batches_tracked'] += 5
    file = {k: v for k, v in model.items() if 'tracked' not in k}
    kept, notes = fit(file, model)
    assert kept['backbone.num_batches_tracked'].item() == 0
    assert kept.keys() == model.keys()
    assert notes == ['1 num_batches_tracked set to 0']


SMALL = classifier(
    channels=256,
    necks=[dict(NORM_NECK, input_features=256)],
    classes=7,
    depth=(2, 3, 2, 2),
    base_channels=8,
    depth_fusion=dict(DEPTH_FUSION, min_channels=3),
    init_cfg=dict(type='Pretrained', checkpoint='is not looked for'))
del SMALL['_scope_']
CONFIG = Config(dict(default_scope='mmpretrain', model=SMALL))


def randomised(model):
    for key, value in model.state_dict().items():
        if value.dtype == torch.float32:
            value.copy_(torch.rand_like(value) * 0.1 + 0.05)
    return model.eval()


def in_their_names(state_dict):
    """What SDA's authors would have published of one of our networks."""
    theirs = {}
    for key, value in state_dict.items():
        leaf = key.split('.')[-1]
        stage, _, rest = key[len('backbone.layer'):].partition('.')
        if key.startswith('neck.1.bn.'):
            theirs[f'bn2.{leaf}'] = value
        elif key.startswith('head.'):
            theirs[f'fc.{leaf}'] = value
        elif 'squeeze' in key:
            theirs[f'stage{stage}.fc.0.{leaf}'] = value
        elif 'depth_fusion.norm' in key:
            theirs[f'stage{stage}.fc.1.{leaf}'] = value
        elif 'project' in key:
            blocks = value.chunk(3 if stage == '2' else 2)
            for i, block in enumerate(blocks):
                theirs[f'stage{stage}.fcs.{i}.{leaf}'] = block
        elif key.startswith('backbone.layer'):
            theirs[f'stage{stage}.layers.{rest}'] = value
        else:
            theirs[key[len('backbone.'):]] = value
    return {f'module.{key}': value for key, value in theirs.items()}


@pytest.fixture
def model():
    pytest.importorskip('mmpretrain')
    return randomised(MODELS.build(dict(SMALL, _scope_='mmpretrain')))


@pytest.fixture
def src(model, tmp_path):
    theirs = in_their_names(model.state_dict())
    return save(dict(epoch=1, state_dict=theirs), tmp_path)


def test_there_and_back(model, src, tmp_path):
    dst = str(tmp_path / 'new' / 'ours.pth')
    line = convert(src, dst, CONFIG)
    count = len(model.backbone.state_dict())
    assert line == f'sda: backbone {count}, neck 5, head 2 -> {dst}'
    written = load_checkpoint_file(dst)
    assert written['meta'] == dict(source='sda', source_file='published.pth')
    other = randomised(MODELS.build(dict(SMALL, _scope_='mmpretrain')))
    other.load_state_dict(written['state_dict'], strict=True)
    x = torch.randn(2, 3, 37, 45)
    assert other(x).isfinite().all() and torch.equal(other(x), model(x))


class Detector(BaseModel):
    """A backbone with something else than a classifier behind it."""

    def __init__(self, backbone, pretrained=False):
        super().__init__()
        if pretrained:
            raise OSError('weights that conversion does not need')
        self.backbone = MODELS.build(backbone)
        self.bbox_head = torch.nn.Linear(3, 2)

    def forward(self):
        raise NotImplementedError


def test_a_config_of_another_task(src, tmp_path):
    model = dict(
        type=Detector, backbone=SMALL['backbone'], pretrained=True)
    cfg = Config(dict(model=model))
    dst = str(tmp_path / 'ours.pth')
    line = convert(src, dst, cfg)
    assert cfg.model.pretrained  # the caller's config stays as it was
    assert '7 of the classifier dropped: the model has no head.fc' in line
    written = load_checkpoint_file(dst)['state_dict']
    assert all(key.startswith('backbone.') for key in written)
    own = Detector(SMALL['backbone']).state_dict()
    assert {key for key in own if 'head' not in key} == written.keys()


def test_dropped_keys_are_counted(src, tmp_path, monkeypatch):
    monkeypatch.setitem(SDA.rules, 'fc.*', None)
    monkeypatch.setitem(SDA.rules, 'bn2.*', None)
    line = convert(src, str(tmp_path / 'ours.pth'), CONFIG)
    assert '; 7 dropped by the table' in line and 'head' not in line


def test_a_failure_leaves_the_old_file(src, tmp_path, monkeypatch):
    dst = tmp_path / 'ours.pth'
    dst.write_text('before')
    cfg = deepcopy(CONFIG)
    cfg.model.backbone.groups = 2
    with pytest.raises(CheckpointError, match='another shape'):
        convert(src, str(dst), cfg)
    real = torch.save

    def full_disk(content, path):
        real(content, path)
        raise OSError('no space left')

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(OSError, match='no space left'):
        convert(src, str(dst), CONFIG)
    assert dst.read_text() == 'before'
    assert {p.name for p in tmp_path.iterdir()} == {
        'ours.pth', 'published.pth'
    }


def test_the_source_is_not_overwritten(src, tmp_path):
    link = tmp_path / 'link.pth'
    link.symlink_to(src)
    for dst in (src, str(link), str(tmp_path / '.' / 'published.pth')):
        with pytest.raises(CheckpointError, match='replace its own source'):
            convert(src, dst, CONFIG)
    read_weights(src)


def test_a_config_without_a_model(src, tmp_path):
    with pytest.raises(CheckpointError, match='no model'):
        convert(src, str(tmp_path / 'ours.pth'), Config(dict(work_dir='a')))


@pytest.fixture
def command(monkeypatch, tmp_path):
    """``tools/convert_checkpoint.py`` with its arguments."""
    path = ROOT / 'tools' / 'convert_checkpoint.py'
    spec = importlib.util.spec_from_file_location('convert_tool', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.pretty_text)
    loaders = safe.host.CheckpointLoader
    monkeypatch.setattr(loaders, '_schemes', dict(loaders._schemes))

    def run(*args):
        argv = ['convert_checkpoint.py', *args, '--config', str(config)]
        monkeypatch.setattr(sys, 'argv', argv)
        tool.main()

    return run


def test_the_command(command, src, tmp_path, capsys):
    dst = str(tmp_path / 'ours.pth')
    command(src, dst, '--source', 'sda')
    assert capsys.readouterr().out.startswith('sda: backbone ')
    assert load_checkpoint_file(dst)['meta']['source'] == 'sda'
    with pytest.raises(SystemExit, match='head.fc.weight: file .7, 256.'):
        command(src, dst, '--cfg-options', 'model.head.num_classes=9')
    with pytest.raises(SystemExit, match='without a rule in the table of tor'):
        command(src, dst, '--source', 'torchvision')
    with pytest.raises(SystemExit, match='absent.pth does not exist'):
        command(str(tmp_path / 'absent.pth'), dst)


def test_the_command_refuses_a_pickled_model(command, tmp_path):
    src = save(torch.nn.DataParallel(torch.nn.Linear(2, 3)), tmp_path)
    with pytest.raises(SystemExit, match='pickled model'):
        command(src, str(tmp_path / 'ours.pth'))
    assert not (tmp_path / 'ours.pth').exists()
