"""``tools/benchmark.py``: what it runs, counts and writes; no timings."""
import csv
import importlib.util
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from mmattn.backbones import ResNet
from mmattn.benchmark import LiveStorages, Setting, compare, parse
from mmattn.benchmark.baselines import stacked_sda
from mmattn.benchmark.candidates import call, need
from mmattn.benchmark.measure import Case, baseline_of, interleave
from mmattn.benchmark.memory import CAN_COUNT
from mmattn.benchmark.report import COLUMNS
from mmattn.benchmark.traffic import attended_bytes, bandwidth
from mmattn.engine.launch import UsageError
from mmattn.fusions import AFF

ROOT = Path(__file__).resolve().parents[1]
TINY = ('mmattn.ResNet(depth=(1,), num_stages=1, strides=(1,), '
        'dilations=(1,), out_indices=(0,), base_channels=8{})')
PLAIN = 'plain := ' + TINY.format('')
SE = 'SE := ' + TINY.format(', attention=dict(type="SE", ratio=4)')
QUICK = dict(rounds=2, warmup=1, min_time=0)

counted = pytest.mark.skipif(
    not CAN_COUNT, reason=f'torch {torch.__version__} does not tell when a '
    'storage is given back')


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location(
        'benchmark_tool', ROOT / 'tools' / 'benchmark.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny(depth=(2, ), **words):
    n = len(depth)
    return ResNet(
        depth,
        base_channels=8,
        num_stages=n,
        strides=(1, 2)[:n],
        dilations=(1, ) * n,
        out_indices=tuple(range(n)),
        **words)


# -- candidates ------------------------------------------------------------


def test_arguments_are_literals():
    assert call('a.b(3, x=dict(type="SE", r=[1, (2, -3)]), y=None)') == (
        'a.b', [3], dict(x=dict(type='SE', r=[1, (2, -3)]), y=None))
    assert call('name_8xb32') == ('name_8xb32', [], {})
    for text in ('a(b())', 'a(open("x"))', 'a(1', 'a(x)'):
        with pytest.raises(UsageError):
            call(text)


@pytest.mark.parametrize('text, label, kind', [
    (SE, 'SE', 'image'),
    ('part:SE(in_channels=32)', 'part:SE(in_channels=32)', 'part'),
    ('torch.nn:Conv2d(3, 5, 3)', 'torch.nn:Conv2d(3, 5, 3)', 'image'),
    (f'{__file__}:tiny()', f'{__file__}:tiny()', 'image'),
    ('torchvision:resnet18(num_classes=7)',
     'torchvision:resnet18(num_classes=7)', 'image'),
    ('fused := fuse:' + TINY.format(''), 'fused', 'image'),
])
def test_what_is_a_candidate(text, label, kind):
    if 'torchvision' in text:
        pytest.importorskip('torchvision')
    candidate = parse(text)
    assert (candidate.label, candidate.kind) == (label, kind)
    assert isinstance(candidate.build(), nn.Module)


def test_toolboxes_are_candidates():
    pytest.importorskip('mmpretrain')
    model = parse('mmpretrain.ResNet(depth=18)').build()
    assert type(model).__module__.startswith('mmpretrain.')
    backbone = parse('mmpretrain:resnet18_8xb32_in1k:backbone').build()
    assert type(backbone) is type(model)


@pytest.mark.parametrize('text, message', [
    ('ResNet(depth=50)', 'is no candidate'),
    ('nothing.ResNet(depth=50)', "no package 'nothing'"),
    ('mmattn.ResNot(depth=50)', "'ResNot' is not registered in mmattn"),
    ('part:NotSE(in_channels=8)', 'docs/parts.md lists'),
    ('part:SE(ratio=4)', 'how many channels'),
    ('mmattn.ResNet(depth=[0)', 'must be literals'),
    ('torch.nn:NoSuchThing()', "no callable 'NoSuchThing'"),
    ('no_file.py:build()', "'no_file.py' is not a file"),
    ('nothing_at_all.nets:build()', 'nothing_at_all'),
])
def test_what_is_none_says_so(text, message):
    with pytest.raises(UsageError, match=message):
        parse(text)


@pytest.mark.parametrize('text, message', [
    ('mmattn.ResNet(depth=51)', 'cannot be built: ValueError: depth 51'),
    ('torch.nn:Parameter()', 'must make a torch module'),
    ('no_config.py', "config 'no_config.py' is not a file"),
])
def test_what_cannot_be_built_says_so(text, message):
    with pytest.raises(UsageError, match=message):
        parse(text).build()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(UsageError, match='needs timm.*pip install timm'):
        parse('timm:seresnet50')
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    with pytest.raises(UsageError, match='--plot needs matplotlib'):
        need('matplotlib', '--plot')


# -- measuring -------------------------------------------------------------


def test_candidates_take_turns():
    calls = []

    class Clock:

        def __init__(self, name):
            self.name, self.ticks = name, count(1)

        def seconds(self, repeat):
            calls.append((self.name, repeat))
            return next(self.ticks)

    times = interleave([Clock('A'), Clock('B')], [1, 4], 3, lambda: None)
    assert calls == [('A', 1), ('B', 4)] * 3
    assert times == [[1, 2, 3], [1, 2, 3]]


def test_the_ratio_is_of_the_same_round(monkeypatch):
    """A machine that slows down to a fifth changes no ratio."""
    clock = count(1)
    monkeypatch.setattr(
        Case, 'seconds', lambda self, repeat:
        (next(clock) // 2 + 1) * (2. if self.label == 'SE' else 1.))
    # The first call to each finds out how often to repeat: 1, then 2 * 2.
    rows = compare([parse(PLAIN), parse(SE)],
                   Setting('inference', (17, 25)),
                   rounds=5, warmup=1, min_time=0)
    assert [row.baseline for row in rows] == ['plain', 'plain']
    assert rows[0].ratio == 1
    assert 1.6 <= rows[1].ratio <= 2.7
    assert rows[1].ms_q1 <= rows[1].ms <= rows[1].ms_q3


def test_baselines_follow_the_order():
    labels = ['a', 'b', 'c', 'd']
    assert baseline_of(labels, []) == {0: 0, 1: 0, 2: 0, 3: 0}
    assert baseline_of(labels, ['a', 'c']) == {0: 0, 1: 0, 2: 2, 3: 2}
    with pytest.raises(UsageError, match='no label'):
        baseline_of(labels, ['e'])
    with pytest.raises(UsageError, match='two candidates are called a'):
        baseline_of(['a', 'a'], [])


@pytest.mark.parametrize('mode', ['inference', 'training'])
def test_a_step_leaves_nothing_behind(mode):
    case = Case(parse('part:SE(in_channels=32)'), Setting(mode, (7, 5), 2))
    case.step()
    assert case.inputs.shape == (2, 32, 7, 5)
    assert case.inputs.grad is None
    assert all(p.grad is None for p in case.model.parameters())
    assert case.model.training == (mode == 'training')


def test_training_runs_backward(monkeypatch):
    case = Case(parse(SE), Setting('training', (17, 25), 2))
    seen = []
    monkeypatch.setattr(
        case.model, 'zero_grad', lambda set_to_none: seen.extend(
            p.grad is not None for p in case.model.parameters()))
    case.step()
    assert seen and all(seen)


def test_a_fusion_gets_as_many_maps_as_it_fuses():
    case = Case(
        parse('part:SelectiveFusion(in_channels=16, num_maps=3)'),
        Setting('inference', (7, 5)))
    assert [x.shape for x in case.inputs] == [(1, 16, 7, 5)] * 3
    case.step()


@pytest.mark.parametrize('setting, message', [
    (Setting('inference', amp='fp16'), 'use --amp bf16'),
    (Setting('inference', device='cuda'), 'no CUDA device'),
])
def test_what_the_machine_cannot_do(setting, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UsageError, match=message):
        compare([parse(PLAIN)], setting, **QUICK)


def test_a_fused_form_is_not_trained():
    fused = parse('fuse:' + TINY.format(''))
    compare([fused], Setting('inference', (17, 25)), **QUICK)
    with pytest.raises(UsageError, match='--mode inference'):
        compare([fused], Setting('training', (17, 25)), **QUICK)


def test_amp_and_channels_last():
    case = Case(parse('torch.nn:Conv2d(3, 5, 3)'), Setting(
        'inference', (7, 5), amp='bf16', channels_last=True))
    assert case.inputs.is_contiguous(memory_format=torch.channels_last)
    seen = []
    case.model.register_forward_hook(lambda m, x, y: seen.append(y.dtype))
    case.step()
    assert seen == [torch.bfloat16]


# -- memory and traffic ----------------------------------------------------


@counted
def test_live_storages():
    x = torch.randn(3, 7, 5)
    size = x.numel() * 4
    with LiveStorages() as storages:
        a = x + 1
        b = a * 2
        b.relu_()
        view = b.flatten(1)
        del a
        c = torch.cat((b, x))
        del b, view, c
    assert storages.live == 0
    assert storages.peak == 3 * size


def map_bytes(channels, height, width):
    return 4 * channels * height * width


@pytest.mark.parametrize('words, maps', [
    (dict(), 0),
    (dict(attention=dict(type='SE', ratio=4)), 2),
    (dict(attention=dict(type='CBAM', ratio=4)), 2),
    (dict(attention=dict(type='CBAM', ratio=4), link=dict(type='DCA')), 2),
    (dict(attention=dict(type='SE', ratio=4), link=dict(type='DCA')), 2),
    (dict(stage_attention=dict(type='ECA')), 1),
    (dict(depth_fusion=dict(type='SelectiveFusion', min_channels=8)), 2),
    (dict(fusion=dict(type='AFF')), 4),
])
def test_attended_bytes(words, maps):
    net = tiny(**words).eval()
    x = torch.randn(1, 3, 37, 50)
    before = [dict(vars(m)) for m in net.modules()]
    with torch.no_grad():
        found = attended_bytes(net, lambda: net(x))
    assert found == maps * map_bytes(32, 10, 13)
    assert [dict(vars(m)) for m in net.modules()] == before


def test_a_failing_run_leaves_nothing_behind():
    layer = AFF(16)
    with pytest.raises(ValueError, match='built for'):
        attended_bytes(layer, lambda: layer((torch.randn(1, 16, 3, 5), )))
    assert 'pool' not in vars(layer)


def test_bandwidth_is_a_number():
    assert bandwidth('cpu', mebibytes=1, rounds=3) > 0


# -- the published formulation ---------------------------------------------


@pytest.mark.parametrize('training', [False, True])
def test_stacked_depth_attention_is_ours(training):
    depths = dict(type='SelectiveFusion', ratio=4, min_channels=8)
    words = dict(
        base_channels=8, num_stages=2, strides=(1, 2), dilations=(1, 1),
        out_indices=(0, 1), depth_fusion=[depths, None])
    ours = ResNet((4, 2), **words).double().train(training)
    stacked = stacked_sda((4, 2), **words).double().train(training)
    stacked.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 37, 29).double()
    for y, expected in zip(stacked(x), ours(x)):
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)


@counted
def test_stacking_holds_more_maps():
    x = torch.randn(1, 3, 65, 97)
    words = dict(num_stages=1, base_channels=8, strides=(1, ),
                 dilations=(1, ), out_indices=(0, ))
    peaks = []
    for net in (stacked_sda((8, ), **words),
                ResNet((8, ), depth_fusion=dict(
                    type='SelectiveFusion', min_channels=64), **words)):
        with torch.no_grad(), LiveStorages() as storages:
            net.eval()(x)
        peaks.append(storages.peak / map_bytes(32, 17, 25))
    assert peaks[0] > 2 * 8
    assert peaks[1] < 8 + 4


# -- the command -----------------------------------------------------------


def test_a_folder_that_cannot_be_made(tool, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit, match='cannot write to .*file.*another'):
        tool.main([PLAIN, '--csv', str(tmp_path / 'file' / 'a.csv')])


def test_the_command(tool, tmp_path, capsys):
    pytest.importorskip('matplotlib')
    out = {name: tmp_path / 'out' / f'a.{name}' for name in
           ('csv', 'md', 'png')}
    tool.main([
        PLAIN, SE, '--input', '17x25', '33x17', '--batch', '2', '--rounds',
        '2', '--warmup', '1', '--min-time', '0', '--csv', str(out['csv']),
        '--markdown', str(out['md']), '--plot', str(out['png'])])
    lines = out['csv'].read_text().splitlines()
    header = [line for line in lines if line.startswith('#')]
    assert any(line.startswith('# torch: ') for line in header)
    rows = list(csv.DictReader(lines[len(header):]))
    assert list(rows[0]) == [name for name, _ in COLUMNS]
    assert [(r['candidate'], r['mode'], r['size']) for r in rows] == [
        (name, mode, size) for size in ('17x25', '33x17')
        for mode in ('inference', 'training') for name in ('plain', 'SE')]
    assert bool(rows[1]['peak_mib']) == CAN_COUNT
    assert rows[1]['floor_ms'] == ''  # not asked for
    assert out['png'].read_bytes()[:4] == b'\x89PNG'
    table = out['md'].read_text().partition('\n\n')[2]
    assert table.count('\n') == 2 + len(rows)
    assert table.strip() in capsys.readouterr().out


def test_a_plot_over_depth(tool, tmp_path):
    pytest.importorskip('matplotlib')
    args = ['--input', '17x25', '--mode', 'inference', '--rounds', '2',
            '--warmup', '1', '--min-time', '0', '--plot-x', 'depth',
            '--plot', str(tmp_path / 'a.png')]
    with pytest.raises(SystemExit, match="'ours/12 := CANDIDATE'"):
        tool.main([PLAIN, *args])
    tool.main([PLAIN.replace('plain', f'plain/{n}') for n in (1, 2)] + args)
    assert (tmp_path / 'a.png').stat().st_size


@pytest.mark.parametrize('argv, message', [
    (['nothing.Net()'], "benchmark.py: error: .*no package 'nothing'"),
    ([PLAIN, PLAIN], 'two candidates are called plain'),
    ([PLAIN, '--baseline', 'none'], '--baseline none is no label'),
])
def test_wrong_commands(tool, argv, message):
    with pytest.raises(SystemExit, match=message):
        tool.main(argv)


@pytest.mark.parametrize('argv, message', [
    ([], 'give candidates'),
    ([PLAIN, '--input', '224'], 'must be HEIGHTxWIDTH'),
    ([PLAIN, '--batch', '0'], 'positive integer'),
    ([PLAIN, '--rounds', '1'], 'no spread'),
])
def test_wrong_arguments(tool, argv, message, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(argv)
    assert message in capsys.readouterr().err


@pytest.mark.config
@pytest.mark.parametrize('base', [
    'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'mmseg::fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    'mmpretrain::resnet/resnet18_8xb32_in1k.py',
])
@pytest.mark.parametrize('mode', ['inference', 'training'])
def test_whole_models(base, mode):
    pytest.importorskip(base.partition('::')[0])
    rows = compare([parse(base)], Setting(mode, (64, 96), 2), **QUICK)
    assert rows[0].params_m > 1
