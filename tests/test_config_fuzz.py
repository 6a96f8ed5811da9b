"""Every config word and every option set to what it cannot be.

The result is a network that builds, starts and runs, or an error of ours: a
ValueError or TypeError raised in mmattn that names the word and what came.
"""
import inspect
import math
from copy import deepcopy
from functools import lru_cache, partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import test_fuse
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

import mmattn
from mmattn import cli
from mmattn.attentions import SE, Attention
from mmattn.fusions import Fusion
from mmattn.registry import HOOKS, MODELS

MODELS.import_from_location()
OURS = Path(mmattn.__file__).parent
HUGE = 10**20


class Thing:
    """What no config holds."""

    def __repr__(self):
        return '<thing>'


SCALARS = (None, '', 'x', b'x', -1, 0, 1, 2, 3, 1.5, 0.5, -0.5, math.nan,
           math.inf, True, False, HUGE, -HUGE, 1j, np.int64(2), np.float64(2),
           np.bool_(True), Thing(), Thing, ..., {1}, range(3))
BAD = ('x', None, -1, 0, 1.5, math.nan, True, HUGE, [], Thing())
NESTED = ([], (), {}, [[]], [[[]]], [None], ['x'], [0, 1], [2, 1], [1, 2, 3],
          [[1, 2], [3]], [1] * 4, [-1] * 4, [0] * 4, [1.5] * 4, ['x'] * 4,
          [True] * 4, [HUGE] * 4, [None] * 4, [[None]] * 4, [{}] * 4, [1] * 9,
          dict(type=1), dict(type=None), dict(type='Nope'), dict(type=''),
          dict(type=SE), dict(Type='BN'), {1: 2},
          dict(type='BN', nope=1), dict(type='GN', num_groups=7),
          dict(type='GN'), dict(type='SE'), dict(type='SE', nope=1),
          dict(type='SE', in_channels=8), [dict(type='SE')],
          dict(type='ReLU'), dict(type='Conv2d'), dict(type='ResNet'),
          dict(type='BN1d'), dict(type='LN'), dict(type='Conv1d'),
          dict(type=nn.Conv1d),
          dict(type='LeakyReLU', negative_slope='x'),
          dict(type='HSwish', nope=1))


def mutations(value):
    """What a good value becomes by one slip."""
    if isinstance(value, str):
        yield from (value.upper(), value + ' ', value[:-1], [value])
    elif isinstance(value, (list, tuple)):
        yield from ([*value, *value[-1:]], list(value[:-1]), [list(value)],
                    str(value), dict(enumerate(value)))
        for i in {0, len(value) - 1} if value else ():
            for bad in BAD:
                yield type(value)((*value[:i], bad, *value[i + 1:]))
    elif isinstance(value, dict):
        yield from (dict(value, nope=1), [value], [value] * 9, str(value))
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            yield {(k + '_' if k == key else k): v for k, v in value.items()}
            for bad in BAD:
                yield dict(value, **{key: bad})


def innermost(error):
    """The file that raised; mmengine's registry may have raised it anew."""
    while True:
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        path = Path(trace.tb_frame.f_code.co_filename)
        if 'registry' not in path.parts or error.__context__ is None:
            return path
        error = error.__context__


def names(word, value):
    """What an error about a value may name: the word, or an option in it."""
    yield word
    # One thing, two names; what a width comes to is a number of channels.
    yield from dict(
        in_channels=['channel', 'inputs'],
        hidden_channels=['channel'],
        out_channels=['channel'],
        base_channels=['channel'],
        base_width=['channel'],
        branches=['attention'],
        depth=['blocks'],
        width_per_group=['base_width', 'channel'],
        groups=['channel'],
        start_level=['level'],
        end_level=['inputs'],
        pretrained=['checkpoint']).get(word, ())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from names(word, item)
    if isinstance(value, dict):
        yield from map(str, value)
        made = value.get('type')
        made = MODELS.module_dict.get(made) if isinstance(made, str) else made
        if inspect.isclass(made):
            yield from list(inspect.signature(made).parameters)[1:]


def fault(word, value, run):
    """None, or what is wrong with how a value was taken."""
    try:
        run()
    except (ValueError, TypeError, FileNotFoundError) as error:
        where = innermost(error)
        if OURS not in where.parents:
            return f'{type(error).__name__} from {where}: {error}'
        if not any(name in str(error) for name in names(word, value)):
            return f'{where.name} does not name it: {error}'
    except Exception as error:
        return f'{type(error).__name__} from {innermost(error)}: {error}'


def words_of(cls):
    """What a class is called with, and the defaults."""
    words = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, nn.Module) and base is not nn.Module:
            for p in inspect.signature(base).parameters.values():
                if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
                    words[p.name] = p.default
    return words


def backbone(row):
    """Its config, the words it has, and what to do with a config."""
    source, name = test_fuse.NETS[row]
    if source == 'backbones':
        cls, options, _ = test_fuse.test_backbones.ROWS[name]
    elif source == 'mobile':
        cls, options = test_fuse.test_mobile.ROWS[name]
        options = dict(options, widen_factor=0.25)
    else:
        made = test_fuse.test_peer_networks.ROWS[name]
        cls, options = made.func, dict(made.keywords)
        if made.args:
            options['depth'] = made.args[0]
    size = (113, 129) if row == 'ScaleResNet' else (33, 49)

    def run(net, cfg):
        net(torch.randn(2, cfg.get('in_channels', 3), *size))

    return dict(options, type=f'mmattn.{cls.__name__}'), words_of(cls), run


def part(name, **options):
    """The same of an attention, a fusion or a convolution."""
    cls = MODELS.get(name)

    def run(layer, cfg):
        x = torch.randn(2, cfg['in_channels'], 7, 5)
        layer([x] * layer.num_maps if isinstance(layer, Fusion) else x)

    cfg = dict(options, type=f'mmattn.{name}', in_channels=64)
    return cfg, inspect.signature(cls).parameters, run


def link(name, attention, **options):
    """The same of a link; what it is called with is not the config's."""
    before, behind = (MODELS.build(dict(attention, in_channels=c))
                      for c in (32, 64))
    cls = MODELS.get(name)

    def run(layer, cfg):
        maps = torch.randn(2, 32, 9, 11), torch.randn(2, 64, 7, 5)
        if isinstance(behind, Fusion):
            maps = [[x] * 2 for x in maps]
        _, carry = cls(before, 32, None)(before, maps[0])
        layer(behind, maps[1], carry)

    words = {
        p.name: p.default for p in inspect.signature(cls).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    cfg = dict(type=f'mmattn.{name}', attention=behind, in_channels=64,
               carry_channels=32)
    return dict(cfg, **options), dict(words, **options), run


def toolbox(name, run, **options):
    """The same of a neck or a head, by its full name."""
    cls = MODELS.get(f'mmattn.{name}')
    words = {
        p.name: p.default for p in inspect.signature(cls).parameters.values()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    return dict(options, type=f'mmattn.{name}'), words, run


def levels(made, cfg):
    made([
        torch.randn(2, c, max(1, 18 >> i), max(1, 26 >> i))
        for i, c in enumerate(cfg['in_channels'])
    ])


def one_map(made, cfg):
    made([torch.randn(2, cfg['in_channels'], 9, 13)])


def vector(made, cfg):
    made((torch.randn(2, cfg['in_channels']), ))


SUBJECTS = {
    **{f'backbone {row}': partial(backbone, row) for row in test_fuse.NETS},
    **{
        name: partial(part, name)
        for name, cls in sorted(MODELS.module_dict.items())
        if inspect.isclass(cls) and issubclass(cls, Attention)
    },
    'GE theta-plus': partial(part, 'GE', size=(7, 5), ratio=4),
    'PyConv': partial(part, 'PyConv', out_channels=64),
    'PSAConv': partial(part, 'PSAConv', out_channels=64),
    'AAConv': partial(part, 'AAConv', out_channels=64, map_size=(7, 5),
                      num_heads=2, min_key_channels=3),
    **{
        f'{name} of {attention}': partial(link, name, dict(type=attention))
        for name, attention in (
            ('DCA', 'SE'), ('DCA', 'GC'), ('DCA', 'CBAM'), ('DCA', 'ECA'),
            ('ChannelLink', 'SE'), ('ContextLink', 'GC'), ('MapLink', 'SGE'),
            ('ChainLink', 'CBAM'), ('BranchLink', 'SelectiveFusion'))
    },
    'DCA with options': partial(link, 'DCA', dict(type='SE'), match_ratio=4,
                                mix_bias=False),
    'FPN': partial(toolbox, 'FPN', levels, in_channels=[8, 16, 32],
                   out_channels=8, num_outs=4, add_extra_convs='on_lateral',
                   norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU'),
                   fusion=dict(type='AFF', ratio=4)),
    'SSDLiteNeck': partial(
        toolbox, 'detection.SSDLiteNeck', levels, in_channels=(8, 16),
        out_channels=(8, 8), hidden_channels=(16, 16),
        attention=dict(type='SE', ratio=4)),
    'MobileNeXtNeck': partial(
        toolbox, 'detection.MobileNeXtNeck', levels, in_channels=(8, 16, 8),
        out_channels=(8, 8), hidden_channels=(16, 16)),
    'SSDLiteHead': partial(
        toolbox, 'detection.SSDLiteHead', levels, num_classes=3,
        in_channels=[8] * 6),
    'DeepLabV3Head': partial(
        toolbox, 'segmentation.DeepLabV3Head', one_map, num_classes=3,
        in_channels=8, channels=8, in_index=0),
    'DropoutLinearClsHead': partial(
        toolbox, 'classification.DropoutLinearClsHead', vector,
        num_classes=3, in_channels=8, dropout_rate=0.2),
}


def inputs(subject):
    """All words of a subject with all that they are set to."""
    cfg, words, _ = SUBJECTS[subject]()
    for word, default in words.items():
        good = cfg.get(word, getattr(default, 'default', default))
        if word == 'init_cfg':
            good = None  # what its options are set to is mmengine's
        for value in (*SCALARS, *NESTED, *mutations(good)):
            yield word, value


def faults(subject, tried):
    """What was wrong with how each input was taken."""
    cfg, _, run = SUBJECTS[subject]()

    def use(word, value):
        mine = dict(cfg, **{word: deepcopy(value)})
        with torch.no_grad():
            made = MODELS.build(mine)
            made.init_weights()
            made.train()
            run(made, mine)

    found = []
    for word, value in tried:
        what = fault(word, value, partial(use, word, value))
        if what is not None:
            found.append(f'{word}={value!r}: {what}')
    return found


# Of two subjects that share their words with the others, all inputs; of the
# other backbones every sixth. The fast tier tries one of FAST of them.
ALL = ('backbone ResNet', 'backbone MobileNetV2')
FAST = 29


def chosen(subject):
    tried = list(inputs(subject))
    if subject.startswith('backbone') and subject not in ALL:
        tried = tried[list(SUBJECTS).index(subject) % 6::6]
    return tried


@pytest.mark.parametrize('subject', SUBJECTS)
def test_some_of_what_no_word_takes_is_refused_by_name(subject):
    tried = chosen(subject)
    wrong = faults(subject, tried[len(subject) % FAST::FAST])
    assert not wrong, '\n'.join(wrong)


@pytest.mark.config
@pytest.mark.parametrize('subject', SUBJECTS)
def test_all_that_no_word_takes_is_refused_by_name(subject):
    tried = chosen(subject)
    wrong = faults(subject, tried)
    assert not wrong, '\n'.join(wrong)


def test_the_check_sees_what_is_wrong():
    def stop(error):
        raise error

    assert fault('x', 1, lambda: None) is None
    # Not from mmattn, no error for users, and without the word.
    assert 'ValueError from' in fault('x', 1, lambda: stop(ValueError('x')))
    assert 'KeyError' in fault('x', 1, lambda: stop(KeyError('x')))
    assert 'does not name it' in fault(
        'y', 1, lambda: MODELS.build(dict(type='SE', in_channels=0)))


def test_every_part_is_tried():
    assert len(SUBJECTS) > 50
    assert sum(len(chosen(subject)) for subject in SUBJECTS) > 20000


def test_misspelt_options_of_parts_list_the_known():
    for word, cfg, known in (
            ('attention', dict(type='SE', ration=4), 'ratio'),
            ('fusion', dict(type='AFF', gate='x'), 'gate_init'),
            ('conv2', dict(type='AAConv', heads=2), 'num_heads')):
        wrong = dict(type='mmattn.ResNet', depth=(1, ) * 4, **{word: cfg})
        with pytest.raises(ValueError, match=f'{word}.*has no.*{known}'):
            MODELS.build(wrong)


@pytest.mark.parametrize('word', ['attention', 'link', 'fusion', 'conv2'])
def test_a_class_that_is_no_part_is_refused(word):
    wrong = dict(type='ResNet', depth=(1, ) * 4, attention=dict(type='GE'))
    with pytest.raises(ValueError, match=f'{word} has no type'):
        MODELS.build({**wrong, word: dict(type=Thing)})


@pytest.mark.parametrize('cfg', [
    dict(depth=[1, 1, 1, 1], base_channels='8'),
    dict(depth=[1, 1, 1, 1], attention=dict(type='SE', ratio='4')),
])
def test_a_config_file_says_the_same(cfg):
    """Its dicts are mmengine's, its lists lists."""
    model = Config(dict(model=dict(type='mmattn.ResNet', **cfg))).model
    assert isinstance(model, ConfigDict)
    with pytest.raises(ValueError, match="must be a positive integer, got '"):
        ROOT_MODELS.build(model)


def test_other_spellings_of_a_number_or_list_are_taken():
    net = MODELS.build(
        dict(
            type='ResNet',
            depth=np.array([1, 1, 1, 1]).tolist(),
            base_channels=np.int64(8),
            strides=[1, 2, 2, 2],
            out_indices=range(4),
            norm_cfg=dict(type=nn.BatchNorm2d),
            attention=dict(type=SE, ratio=np.int64(4))))
    assert len(net(torch.randn(2, 3, 33, 49))) == 4


@pytest.mark.parametrize('interval', [0, -1, None, 1.5, True, '5', [5]])
def test_the_interval_of_a_hook(interval):
    with pytest.raises(ValueError, match='interval must be a positive'):
        HOOKS.build(dict(type='GateHealthHook', interval=interval))


# The command line: one line and 1 or 2, whatever is wrong with a config


CONFIGS = {
    'nope.py': None,
    'folder': None,
    'empty.py': b'',
    'open.py': b'model = dict(\n',
    'raises.py': b'1 / 0\n',
    'base.py': b"_base_ = './nope.py'\n",
    'number.py': b'model = 3\n',
    'binary.py': b'\x00\xff',
    'plain.txt': b'model = dict(type="ResNet")\n',
}
# Each with a config in place of CONFIG; the weights are never reached.
COMMANDS = dict(
    swap='swap CONFIG --backbone sda_r50 -o out.py',
    infer='infer CONFIG weights.pth weights.pth -o out',
    train='CONFIG --work-dir out',
    test='CONFIG weights.pth --work-dir out',
    complexity='CONFIG',
    export='CONFIG -o out.onnx',
    convert_checkpoint='weights.pth out.pth --config CONFIG',
    benchmark='CONFIG')
WRONG = [
    'list nope', 'list [', 'swap', 'swap x --backbone nope -o out.py',
    'swap x -o out.txt', 'doctor --gpus 0', 'doctor --gpus x',
    'doctor nope.py', 'doctor plain.txt --cfg-options a', 'infer',
    'infer x y z -o out --score-thr 2', 'complexity', 'complexity --nope',
    'complexity x --format nope', 'complexity x --input 3', 'export x',
    'export x -o out.nope', 'export --table x', 'convert_checkpoint x',
    'train', 'train x --cfg-options a', 'test x', 'benchmark',
    'benchmark x --batch 0', 'benchmark x --size 0x1', 'quantize',
    'quantize nope.py weights.pth -o out.pt', 'make_report',
    'make_report nope -o out.html', 'visualize', 'visualize nope',
    'make_toy_dataset out --layout nope',
    'make_toy_dataset out --layout coco --size 0', 'prepare_data nope folder',
    'prepare_data coco nope', 'prepare_data coco folder --sample x'
]


@lru_cache(maxsize=None)
def tool(name):
    path = OURS.parent / 'tools' / f'{name}.py'
    spec = spec_from_file_location(f'tool_{name}', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_wrong(tmp_path, monkeypatch, capsys):
    """Run a command that must fail; what it said."""
    for name, content in CONFIGS.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'weights.pth').write_bytes(b'')
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        ours = name in cli.COMMANDS
        monkeypatch.setattr('sys.argv', [name, *arguments])
        with patch.object(CheckpointLoader, '_schemes',
                          dict(CheckpointLoader._schemes)):
            try:
                code = cli.main([name, *arguments]) if ours else (
                    tool(name).main())
            except SystemExit as end:
                code = end.code
        said = capsys.readouterr().err
        if isinstance(code, str):  # Python prints it and ends with 1
            code, said = 1, said + code
        assert code in (1, 2)
        assert 'Traceback' not in said
        return said

    return run


@pytest.mark.parametrize('config', CONFIGS)
@pytest.mark.parametrize('command', COMMANDS)
def test_a_wrong_config_is_named_in_one_line(command, config, run_wrong):
    arguments = COMMANDS[command].replace('CONFIG', config).split()
    said = run_wrong(*([] if command in cli.COMMANDS else [command]),
                     *arguments)
    assert any(w in said for w in (config, 'cannot be read', 'no model'))


@pytest.mark.config
@pytest.mark.parametrize('arguments', WRONG)
def test_wrong_arguments_end_in_one_line(arguments, run_wrong):
    assert run_wrong(*arguments.split()).strip()
