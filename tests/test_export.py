"""Files of networks, run beside the networks."""
import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_infer import make_config
from torch import nn

from mmattn.backbones import Backbone
from mmattn.backbones.scalenet import enlarge
from mmattn.export import ExportError, Network, export, files, load
from mmattn.export import table as tables
from mmattn.links.base import pool_to, pooling_matrix
from mmattn.registry import MODELS

MODELS.import_from_location()
ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
SIZE = (64, 97)


def skip_without_onnx():
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is not installed')


def skip_without(suffix):
    if suffix == '.onnx':
        skip_without_onnx()
    if suffix != '.pt' and not hasattr(
            getattr(torch.export, 'Dim', None), 'DYNAMIC'):
        pytest.skip(f'torch {torch.__version__} exports one size')


# What was rewritten so that it exports


@pytest.mark.parametrize('size', [1, 2, 5, 14, 27])
@pytest.mark.parametrize('side', [1, 3, 7, 14, 20])
def test_pooling_matrix(size, side):
    columns = torch.eye(size, dtype=torch.float64)[None]
    matrix = pooling_matrix(size, side, columns.device, columns.dtype)
    assert torch.equal(matrix, F.adaptive_avg_pool1d(columns, side)[0].T)


def test_deterministic_pooling():
    carry = torch.randn(2, 3, 13, 10, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 5, 7, 4)
    expected = pool_to(carry, x)
    torch.use_deterministic_algorithms(True)
    try:
        y = pool_to(carry, x)
    finally:
        torch.use_deterministic_algorithms(False)
    # The gradient of this one raises on a GPU.
    assert 'Pool' in expected.grad_fn.name()
    assert 'Pool' not in y.grad_fn.name()
    torch.testing.assert_close(y, expected)
    weights = torch.randn(y.shape, dtype=y.dtype)
    ours, theirs = (
        torch.autograd.grad((out * weights).sum(), carry)[0]
        for out in (y, expected))
    torch.testing.assert_close(ours, theirs)


class Resizes(nn.Module):
    """A map pooled to what a stride leaves of it, and others brought back."""

    def forward(self, x):
        ys = [enlarge(F.max_pool2d(x, ratio), x.shape[2:], ratio)
              for ratio in (2, 7)]
        return pool_to(x, x[..., ::2, ::2]), torch.cat(ys, 1)


# The examples are repeated, have pooled sides of 1, are interpolated.
@pytest.mark.config
@pytest.mark.parametrize('suffix,example', [
    ('.pt', (56, 84)), ('.pt2', (7, 9)), ('.onnx', SIZE)])
def test_resizing_is_exported_for_any_size(tmp_path, suffix, example):
    skip_without(suffix)
    report = export(Resizes(), tmp_path / f'net{suffix}', example)
    run = load(report.path)
    for size in ((64, 96), (63, 96), (64, 95), (56, 28), (28, 14), (7, 8)):
        x = torch.randn(2, 3, *size)
        for ours, theirs in zip(run(x), Resizes()(x)):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


# A few small networks


def test_every_backbone_is_in_the_table():
    registered = {
        name for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type) and issubclass(cls, Backbone)
    }
    assert registered == set(tables.BACKBONES)


@pytest.mark.config
@pytest.mark.parametrize('row,suffix', [
    (('backbone', 'ResNet'), '.pt'), (('backbone', 'ResNet'), '.pt2'),
    (('part', 'CBAM'), '.pt'), (('part', 'CBAM'), '.onnx')])
def test_small_networks(tmp_path, row, suffix):
    skip_without(suffix)
    net = tables.build(*row)
    report = export(net, tmp_path / f'net{suffix}', SIZE)
    assert report.shapes == ((1, 3, 64, 97), (3, 3, 81, 73))
    assert [p.name for p in tmp_path.iterdir()] == [f'net{suffix}']
    x = torch.randn(2, 3, 75, 53)  # a third size
    outputs = load(report.path)(x)
    with torch.no_grad():
        expected = net(x)
    assert len(outputs) == len(expected) == 4
    for ours, theirs in zip(outputs, expected):
        error = (ours - theirs).abs().max()
        assert error <= 1e-4 * theirs.abs().max()


@pytest.mark.config
@pytest.mark.parametrize('row', tables.rows(), ids=lambda row: row[1])
def test_the_table(tmp_path, row):
    """Every row is what docs/export.md says."""
    skip_without_onnx()
    if row[0] == 'model':
        toolbox = dict(ca='mmpretrain', deeplabv3='mmseg', ssdlite320='mmdet')
        pytest.importorskip(f"{toolbox[row[1].split('_')[0]]}.models")
    page = (ROOT / 'docs' / 'export.md').read_text(encoding='utf-8')
    line, = (line for line in page.splitlines()
             if line.startswith(f'| `{row[1]}`'))
    result = tables.attempt(*row, str(tmp_path))
    cells = ['🔴' if error else '🟢' for error in result.values()]
    assert line.split(' | ')[1:] == [*cells[:2], f'{cells[2]} |'], result


def test_render():
    green = dict.fromkeys(files.FORMATS, '')
    red = {'.pt': 'no', '.pt2': '', '.onnx': 'no'}
    page = tables.render({('backbone', 'A'): green, ('part', 'B'): red})
    assert '| `A` | 🟢 | 🟢 | 🟢 |\n\n### Parts' in page
    assert '| `B` | 🔴 | 🟢 | 🔴 |\n\n- `B`, TorchScript, ONNX: no\n' in page


# What cannot be, in one error


class ByParity(nn.Module):
    """What a trace cannot hold."""

    def forward(self, x):
        return x * 2 if x.shape[3] % 2 else x


def refuse(tmp_path, words, net=None, name='net.pt'):
    with pytest.raises(ExportError, match=words):
        export(net or nn.Conv2d(3, 2, 3), tmp_path / name, SIZE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('suffix', ['.pt', '.pt2'])
def test_a_network_that_depends_on_the_size(tmp_path, suffix):
    skip_without(suffix)
    with pytest.raises(ExportError, match='differs from the network on '
                       r'\(1, 3, 64, 98\)'):
        files.compare(ByParity(), lambda x: (x * 2, ),
                      [torch.randn(1, 3, 64, 97), torch.randn(1, 3, 64, 98)])
    with pytest.raises(ExportError, match='differs from the network'):
        export(ByParity(), tmp_path / f'net{suffix}', (64, 98))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('wrong', [
    lambda x: (x + 0.01, ), lambda x: (x * float('nan'), ), lambda x: (x, x),
    lambda x: (x[..., 1:], )])
def test_a_file_that_is_not_the_network(wrong):
    with pytest.raises(ExportError, match='differs from the network'):
        files.compare(nn.Identity(), wrong, [torch.rand(1, 3, 5, 7)])


def test_a_network_for_one_size(tmp_path):
    net = tables.MODELS.get('ResNet')(
        (1, ), base_channels=8, num_stages=1, strides=(1, ), dilations=(1, ),
        out_indices=(0, ), attention=dict(type='GE', size=(16, 25)))
    refuse(tmp_path, r'itself does not run on \(3, 3, 81, 73\).*GE', net)


def test_other_refusals(tmp_path, monkeypatch):
    refuse(tmp_path, 'must end in one of .pt .TorchScript.*onnx',
           name='net.pth')
    refuse(tmp_path, 'nowhere is not a folder', name='nowhere/net.pt')
    monkeypatch.setattr(
        files, 'find_spec', lambda name: None if 'script' in name else 1)
    refuse(tmp_path, 'ONNX needs onnxscript, not .*pip install',
           name='net.onnx')
    monkeypatch.setattr(torch.export, 'Dim', None, raising=False)
    refuse(tmp_path, 'needs torch 2.6 .*only .pt files', name='net.pt2')


# The command


def load_tool():
    spec = importlib.util.spec_from_file_location(
        'export_tool', ROOT / 'tools' / 'export.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command(tmp_path, capsys):
    pytest.importorskip('mmpretrain')
    out = tmp_path / 'net.pt'
    load_tool().main([
        str(CONFIGS / 'imagenet/coordattention/ca_mobilenet_v2_8xb32_in1k.py'),
        '-o', str(out), '--input', '32x48'])
    text = capsys.readouterr().out
    assert 'the weights in this file are random' in text
    assert '1x3x32x48: differs' in text and '3x3x41x37: differs' in text
    assert f'wrote {out}' in text
    assert load(out)(torch.randn(2, 3, 33, 47))[0].shape == (2, 1000)


def test_two_stages_are_refused():

    class TwoStage(nn.Module):
        roi_head = bbox_head = None

        def extract_feat(self, x):
            return x

    with pytest.raises(ValueError, match='between its two stages'):
        Network(TwoStage())


@pytest.mark.parametrize('argv,words', [
    (['a.py'], 'give a CONFIG and -o OUT'),
    (['--table', '-o', 'a.pt'], '--table stands alone'),
    (['a.py', '-o', 'a.pt', '--input', '32'], 'is not HEIGHTxWIDTH'),
])
def test_wrong_arguments(argv, words, capsys):
    with pytest.raises(SystemExit):
        load_tool().parse_args(argv)
    assert words in capsys.readouterr().err


def refuse_command(tmp_path, words, *files):
    with pytest.raises(SystemExit, match=f'export.py: error: .*{words}'):
        load_tool().main([*map(str, files), '-o', str(tmp_path / 'net.pt')])
    assert not list(tmp_path.glob('*.pt'))


def test_a_missing_config(tmp_path):
    refuse_command(tmp_path, "config 'nowhere.py' is not a file", 'nowhere.py')


def test_checkpoints_that_cannot_be_used(tmp_path):
    pytest.importorskip('mmpretrain')
    config = make_config(tmp_path, 'mmpretrain')
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=tables.build('part', 'SE').state_dict()), other)
    bad = tmp_path / 'bad.pth'
    bad.write_bytes(b'no checkpoint')
    refuse_command(tmp_path, 'checkpoint .*other.pth does not fit the model '
                   'of .*mmpretrain.py.* more. Give', config, other)
    refuse_command(tmp_path, 'cannot be read as a checkpoint', config, bad)
    refuse_command(tmp_path, 'is not a file', config, tmp_path / 'no.pth')
