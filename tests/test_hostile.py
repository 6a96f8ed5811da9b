"""Hostile files: none runs code, and none takes memory beyond its size."""
import importlib.util
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import CheckpointLoader
from torch import nn

import mmattn
from mmattn import cli
from mmattn.checkpoints import (CheckpointError, limits,
                                load_checkpoint_file, safe)
from mmattn.checkpoints.mxnet import read_params
from mmattn.checkpoints.safe import TORCH_TAKES_NAMES

ROOT = Path(__file__).resolve().parents[1]


def load_tool(name):
    """Import ``tools/<name>.py``, which is in no package."""
    spec = importlib.util.spec_from_file_location(
        f'tools_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- code in checkpoints ---------------------------------------------------

CONFIG = '''
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=3, to_rgb=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmattn.ResNet', depth=18, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=64))
train_dataloader = dict(
    batch_size=3, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root={data!r},
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
test_dataloader = train_dataloader
test_cfg = dict()
test_evaluator = dict(type='Accuracy')
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
'''


class Payload:
    """Pickles as a call that makes a folder."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker, )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A config, images, and a checkpoint of its model with a payload."""
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    # The tools install safe loading for their whole process.
    monkeypatch.setattr(CheckpointLoader, '_schemes',
                        dict(CheckpointLoader._schemes))
    rng = np.random.default_rng(0)
    for name in ('cat', 'dog', 'emu'):
        (tmp_path / 'data' / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'data' / name / 'a.png'),
                    rng.integers(0, 256, (51, 70, 3)).astype(np.uint8))
    (tmp_path / 'c.py').write_text(
        CONFIG.format(data=str(tmp_path / 'data')))
    cfg = Config.fromfile(tmp_path / 'c.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    content = dict(state_dict=model.state_dict(), meta={}, message_hub={},
                   optimizer={}, extra=Payload(tmp_path / 'marker'))
    torch.save(content, tmp_path / 'x.pth')
    return tmp_path


def tool(name, *arguments):
    def run(monkeypatch):
        monkeypatch.setattr(sys, 'argv', [name, *arguments])
        load_tool(name).main()

    return run


def command(*arguments):
    return lambda monkeypatch: sys.exit(cli.main(list(arguments)))


def resume_by_itself(monkeypatch):
    Path('work').mkdir()
    Path('work', 'last_checkpoint').write_text(os.path.abspath('x.pth'))
    tool('train', 'c.py', '--work-dir', 'work', '--resume')(monkeypatch)


PATHS = dict(
    init_cfg=tool('train', 'c.py', '--cfg-options',
                  'model.backbone.init_cfg.type=Pretrained',
                  'model.backbone.init_cfg.checkpoint=x.pth'),
    load_from=tool('train', 'c.py', '--cfg-options', 'load_from=x.pth'),
    resume=tool('train', 'c.py', '--resume', 'x.pth'),
    resume_of_config=tool('train', 'c.py', '--cfg-options',
                          'load_from=x.pth', 'resume=True'),
    resume_by_itself=resume_by_itself,
    test=tool('test', 'c.py', 'x.pth'),
    convert=tool('convert_checkpoint', 'x.pth', 'ours.pth', '--config',
                 'c.py'),
    infer=command('infer', 'c.py', 'x.pth', 'data/cat', '-o', 'out'),
    cam=lambda _: load_tool('visualize').main(
        ['cam', '--model', 'c.py', 'x.pth', '--images', 'data/cat']),
    predictions=lambda _: load_tool('visualize').main(
        ['predictions', '--model', 'c.py', 'x.pth']),
    export=lambda _: load_tool('export').main(
        ['c.py', 'x.pth', '-o', 'ours.pt']),
    quantize=lambda _: load_tool('quantize').main(
        ['c.py', 'x.pth', '--data', 'data', '-o', 'ours.pt2']),
    get_model=lambda _: mmattn.get_model(
        'aff_resnet32_1xb128_cifar100', pretrained='x.pth'),
)


def test_the_payload_works_where_it_is_let(place):
    torch.load('x.pth', weights_only=False)
    assert Path('marker').is_dir()


@pytest.mark.parametrize('name', PATHS)
def test_code_in_a_checkpoint_does_not_run(name, place, monkeypatch, capfd):
    with pytest.raises((SystemExit, CheckpointError)) as error:
        PATHS[name](monkeypatch)
    said = str(error.value) + capfd.readouterr().err
    assert 'x.pth was not read: it asks for posix.mkdir' in said
    assert 'would run code' in said
    if isinstance(error.value, SystemExit):
        assert error.value.code not in (None, 0)
    assert not Path('marker').exists()
    assert not list(Path().glob('ours.*'))


def test_an_archive_of_torch_0_1_is_refused_unread(tmp_path, monkeypatch):
    """torch would read its members in full, whatever it is asked for."""
    path = tmp_path / 'x.pth'
    data = pickle.dumps(Payload(tmp_path / 'marker'), 2)
    with tarfile.open(path, 'w') as old:
        for name in ('sys_info', 'storages', 'tensors', 'pickle'):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            old.addfile(member, io.BytesIO(data))
    monkeypatch.setattr(torch, 'load', lambda *a, **k: pytest.fail('read'))
    with pytest.raises(CheckpointError, match='x.pth cannot be read as a'):
        load_checkpoint_file(str(path))
    assert not (tmp_path / 'marker').exists()


@pytest.mark.config
@pytest.mark.parametrize('arguments', [
    ['tools/train.py', 'c.py', '--cfg-options', 'load_from=x.pth'],
    ['-m', 'mmattn', 'infer', 'c.py', 'x.pth', 'data/cat', '-o', 'out'],
])
def test_code_does_not_run_from_the_command_line(arguments, place):
    if arguments[0] != '-m':
        arguments = [str(ROOT / arguments[0]), *arguments[1:]]
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True,
        timeout=300, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode
    assert 'x.pth was not read: it asks for posix.mkdir' in done.stderr
    assert not Path('marker').exists()


@pytest.mark.config
def test_the_doctor_does_not_open_checkpoints(place):
    Path('c.py').write_text(Path('c.py').read_text() + "load_from = 'x.pth'")
    cli.main(['doctor', 'c.py', '--offline', '--cfg-options',
              'model.backbone.init_cfg.type=Pretrained',
              'model.backbone.init_cfg.checkpoint=x.pth'])
    assert not Path('marker').exists()


@pytest.mark.parametrize('text', ['https://example.org/x.pth',
                                  'torchvision://resnet18', '../../x', '\0'])
def test_a_pointer_to_elsewhere_is_not_followed(text, place, monkeypatch):
    monkeypatch.setattr(safe, '_fetch', lambda url: pytest.fail(url))
    Path('work').mkdir()
    Path('work', 'last_checkpoint').write_text(text)
    with pytest.raises(SystemExit, match='last_checkpoint') as error:
        tool('train', 'c.py', '--work-dir', 'work', '--resume')(monkeypatch)
    assert 'not a file' in str(error.value)


# -- files that would grow -------------------------------------------------


def archive(path, change=lambda name, data: data, **options):
    """A checkpoint of one tensor whose members are changed."""
    torch.save({'a': torch.arange(7.)}, path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, 'w', **options) as new:
        for name, data in members.items():
            new.writestr(name, change(name, data))
    return path


def with_pickle(path, data):
    return archive(path, lambda name, old: data
                   if name.endswith('data.pkl') else old)


def laughs(depth=30, width=10):
    """Tuples of ten times the same tuple; 10 ** 30 numbers in 700 bytes."""
    data = b'\x80\x02K\x01q\0'
    for i in range(depth):
        data += b'(' + b'h%c' % i * width + b'tq%c' % (i + 1)
    return data


def text(value):
    return b'X' + struct.pack('<I', len(value)) + value


def deflated(path):
    return archive(path, lambda name, data: data + bytes(10**8)
                   if name.endswith('data/0') else data,
                   compression=zipfile.ZIP_DEFLATED)


def overlapping(path):
    """Twenty members that are all the first one's bytes."""
    with zipfile.ZipFile(path, 'w') as new:
        new.writestr('a/data.pkl', bytes(10**6))
        first = new.infolist()[0]
        for i in range(20):
            other = zipfile.ZipInfo(f'a/data/{i}')
            for key in ('header_offset', 'file_size', 'compress_size', 'CRC'):
                setattr(other, key, getattr(first, key))
            new.filelist.append(other)
            new.NameToInfo[other.filename] = other
    return path


def twice(path):
    with zipfile.ZipFile(archive(path), 'a') as new:
        new.writestr('ARCHIVE/DATA.PKL', b'')
        new.writestr('archive/data.pkl', b'')
    return path


def two_ends(path):
    path.write_bytes(archive(path).read_bytes()[:-2] + b'\x07\0comment')
    return path


def big_storage(path, zipped=True):
    torch.save({'a': torch.arange(7.)}, path,
               _use_new_zipfile_serialization=zipped)
    count = b'J' + struct.pack('<i', 2**30)

    def change(name, data):
        return data.replace(b'K\x07tq', count + b'tq').replace(
            b'K\x07Ntq', count + b'Ntq')

    if zipped:
        return archive(path, change)
    path.write_bytes(change('', path.read_bytes()))
    return path


ENCODE = (b'\x80\x02c_codecs\nencode\nq\0' + text('\xe9'.encode() * 10**6) +
          text(b'latin1') + b'\x86q\x01](' + b'h\0h\x01R' * 3000 + b'e.')
CALLS = (b'\x80\x02ccollections\nOrderedDict\nq\0](' + b'h\0)R' * 250_000 +
         b'e.')
BOMBS = dict(
    deflated=(deflated, 'is compressed'),
    overlapping=(overlapping, 'are to have'),
    twice=(twice, 'have one name'),
    two_ends=(two_ends, 'does not end as torch.save ends it'),
    storage=(big_storage, "its storage '0' is to have 4294967296 bytes"),
    old_storage=(lambda path: big_storage(path, zipped=False), 'is to have'),
    no_storage=(lambda path: with_pickle(path, b'\x80\x02K\x01Q.'),
                'not described as'),
    laughs=(lambda path: with_pickle(path, laughs() + b'.'), 'makes objects'),
    hashes=(lambda path: with_pickle(
        path, b'\x80\x02}' + laughs()[2:] + b'N' + b's.'), 'makes objects'),
    old_laughs=(lambda path: path.write_bytes(
        torch_magic() + laughs() + b'.\x80\x02].') and path, 'makes objects'),
    copies=(lambda path: with_pickle(path, ENCODE), 'makes objects'),
    calls=(lambda path: with_pickle(path, CALLS), 'makes objects'),
)


def torch_magic():
    return b''.join(pickle.dumps(value, 2) for value in (
        torch.serialization.MAGIC_NUMBER, 1001, dict(little_endian=True)))


@pytest.mark.parametrize('name', BOMBS)
def test_a_file_that_would_grow_is_refused_unread(name, tmp_path,
                                                  monkeypatch):
    make, why = BOMBS[name]
    path = make(tmp_path / f'{name}.pth')
    monkeypatch.setattr(torch, 'load', lambda *a, **k: pytest.fail('read'))
    with pytest.raises(CheckpointError) as error:
        load_checkpoint_file(str(path))
    assert f'{name}.pth was not read: ' in str(error.value)
    assert why in str(error.value) and 'Get it again' in str(error.value)


def test_deep_nesting_is_refused(tmp_path, monkeypatch):
    path = with_pickle(tmp_path / 'x.pth', b'\x80\x02' + b']' * 30_000 +
                       b'a' * 29_999 + b'.')
    monkeypatch.setattr(limits, 'BASE', 2**20)
    with pytest.raises(CheckpointError, match='makes objects'):
        load_checkpoint_file(str(path))


@pytest.mark.config
def test_bombs_stay_within_little_memory(tmp_path):
    """Measured with an address space that ends 1 GiB above the start's."""
    resource = pytest.importorskip('resource')
    if not Path('/proc/self/statm').exists():
        pytest.skip('the size of a process is not known here')
    paths = [str(make(tmp_path / f'{name}.pth'))
             for name, (make, _) in BOMBS.items()]
    code = '''
import resource, sys
from mmattn.checkpoints import CheckpointError, load_checkpoint_file
used = int(open('/proc/self/statm').read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + 2 ** 30, ) * 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        load_checkpoint_file(path)
    except CheckpointError as error:
        assert 'was not read' in str(error), error
    else:
        sys.exit(path)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
'''
    done = subprocess.run(
        [sys.executable, '-c', code, *paths], capture_output=True, text=True,
        timeout=300, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400


def test_what_torch_writes_is_within_the_limits(tmp_path):
    """A deep optimizer state, shared and empty tensors, a long history."""
    net = nn.Sequential(*[nn.Linear(2, 3) for _ in range(60)])
    optimizer = torch.optim.Adam(net.parameters())
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    one = torch.rand(5, dtype=torch.float64)
    content = dict(
        state_dict=net.state_dict(), optimizer=optimizer.state_dict(),
        views=[one, one[1:], one[None]], empty=torch.empty(0, 3),
        kinds={str(t): torch.zeros(3, dtype=t) for t in (
            torch.bool, torch.half, torch.bfloat16, torch.complex64,
            torch.int8, torch.long)},
        history=[float(i) for i in range(20_000)],
        palette=[(i, i, i) for i in range(5000)], text='x' * 10**5,
        array=np.arange(10**5) / 7)
    for zipped in (True, False):
        path = str(tmp_path / f'{zipped}.pth')
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        loaded = load_checkpoint_file(path)
        assert loaded['history'] == content['history']
        assert torch.equal(loaded['views'][1], one[1:])
        assert np.array_equal(loaded['array'], content['array'])


# -- tensors that are no weights -------------------------------------------

TENSORS = dict(
    sparse=torch.eye(3).to_sparse(),
    quantised=torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8),
    meta=torch.empty(3, 3, device='meta'),
    complex=torch.ones(3, 3, dtype=torch.complex64),
    whole=torch.ones(3, 3, dtype=torch.long))


@pytest.mark.parametrize('name, word', dict(
    sparse='sparse', quantised='quantised', meta='without values',
    complex='of torch.complex64', whole='of torch.int64').items())
def test_tensors_that_are_no_weights_are_named(name, word, tmp_path):
    path = str(tmp_path / 'x.pth')
    torch.save(dict(state_dict={'net.weight': TENSORS[name]}), path)
    message = f"'net.weight' in it is {word}"
    if name == 'quantised' and not TORCH_TAKES_NAMES:
        message = '_rebuild_qtensor'  # not in the older readers' list
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint_file(path)


def test_names_of_weights_are_text(tmp_path):
    path = str(tmp_path / 'x.pth')
    for key in (5, None, ('a', 1), b'a', 1.5):
        torch.save({key: torch.ones(2)}, path)
        with pytest.raises(CheckpointError, match='without a name'):
            load_checkpoint_file(path)


def test_odd_values_of_the_right_shape_are_read(tmp_path):
    path = str(tmp_path / 'x.pth')
    torch.save(dict(a=torch.full((2, 3), float('nan')), b=torch.tensor(5.),
                    c=torch.tensor(float('inf')), num_batches_tracked=torch.
                    tensor(3), weight=torch.ones(2).half()), path)
    loaded = load_checkpoint_file(path)
    assert loaded['a'].isnan().all() and loaded['b'].shape == ()


# -- other files -----------------------------------------------------------


def params(count, *arrays):
    return struct.pack('<QQQ', 0x112, 0, count) + b''.join(arrays)


def record(*shape, flag=0):
    return struct.pack(f'<Iii{len(shape)}qiii', 0xF993FACA, 0, len(shape),
                       *shape, 1, 0, flag)


@pytest.mark.parametrize('data', [
    params(2**63), params(2**64 - 1, record(2)), params(100_001),
    params(1, record(2**40, 2**40)), params(1, record(2**62, 2**62, 2**62)),
    params(1, record(-1)), params(1, record(-2, -2)),
    params(1, record(2**31), b'\0' * 9),
    params(1, record(1), b'\0' * 4, struct.pack('<QQ', 1, 2**63), b'a'),
    params(1, record(1), b'\0' * 4, struct.pack('<Q', 2**63)),
])
def test_sizes_that_a_params_file_cannot_have(data, tmp_path):
    (tmp_path / 'x.params').write_bytes(data)
    with pytest.raises(CheckpointError, match='x.params cannot be read'):
        read_params(str(tmp_path / 'x.params'))


@pytest.mark.parametrize('data', [
    struct.pack('<Q', 2**63) + b'{}', struct.pack('<Q', 2**30) + b'{}',
    struct.pack('<Q', 60) + b'{"a":{"dtype":"F32","shape":[1099511627776,'
    b'9],"data_offsets":[0,8]}}'.ljust(60) + bytes(8),
    struct.pack('<Q', 70) + b'{"a":{"dtype":"F32","shape":[2],'
    b'"data_offsets":[0,99999999999]}}'.ljust(70) + bytes(8),
    struct.pack('<Q', 9) + b'[[[[[[[[[',
])
def test_sizes_that_a_safetensors_file_cannot_have(data, tmp_path):
    pytest.importorskip('safetensors')
    (tmp_path / 'x.safetensors').write_bytes(data)
    with pytest.raises(CheckpointError, match='cannot be read as safetens'):
        load_checkpoint_file(str(tmp_path / 'x.safetensors'))
