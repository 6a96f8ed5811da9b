"""Files of safetensors and of the Hugging Face Hub, with and without them.

The two libraries are not required and stand-ins take their place here; the
files are written by hand in the published layout.
"""
import json
import struct
import sys
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, load_checkpoint

from mmattn.backbones import ResNet
from mmattn.checkpoints import (CheckpointError, convert,
                                install_safe_loading, load_checkpoint_file)

CODES = {
    torch.float32: 'F32', torch.float16: 'F16', torch.int64: 'I64'
}


def write_safetensors(path, tensors):
    """8 bytes with the header's length, the header in JSON, the data."""
    header, data = {'__metadata__': {'format': 'pt'}}, b''
    for name, tensor in tensors.items():
        raw = tensor.contiguous().numpy().tobytes()
        header[name] = dict(
            dtype=CODES[tensor.dtype], shape=list(tensor.shape),
            data_offsets=[len(data), len(data) + len(raw)])
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + data)
    return str(path)


def read_safetensors(path, device='cpu'):
    """What ``safetensors.torch.load_file`` does."""
    with open(path, 'rb') as file:
        size, = struct.unpack('<Q', file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop('__metadata__')
    dtypes = {code: dtype for dtype, code in CODES.items()}
    tensors = {}
    for name, entry in header.items():
        start, end = entry['data_offsets']
        count = torch.Size(entry['shape']).numel()
        tensors[name] = torch.frombuffer(
            bytearray(data[start:end]), dtype=dtypes[entry['dtype']],
            count=count).reshape(entry['shape']).to(device)
    return tensors


@pytest.fixture
def library(monkeypatch):
    """A stand-in for the library, where it is not installed."""
    try:
        import safetensors.torch  # noqa: F401
    except ImportError:
        package, module = ModuleType('safetensors'), ModuleType(
            'safetensors.torch')
        package.torch, module.load_file = module, read_safetensors
        monkeypatch.setitem(sys.modules, 'safetensors', package)
        monkeypatch.setitem(sys.modules, 'safetensors.torch', module)


@pytest.fixture
def no_libraries(monkeypatch):
    for name in ('safetensors', 'safetensors.torch', 'huggingface_hub'):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def installed(monkeypatch):
    schemes = CheckpointLoader._schemes
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(schemes))
    install_safe_loading()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub whose repository ``lab/nets`` is a folder; what was asked."""
    folder, asked = tmp_path / 'hub', []
    folder.mkdir()

    def hf_hub_download(repo_id, filename):
        asked.append((repo_id, filename))
        if repo_id != 'lab/nets' or not (folder / filename).is_file():
            raise LookupError(f'404 for {repo_id}')
        return str(folder / filename)

    module = ModuleType('huggingface_hub')
    module.hf_hub_download = hf_hub_download
    monkeypatch.setitem(sys.modules, 'huggingface_hub', module)
    return folder, asked


TENSORS = {
    'a.weight': torch.arange(6.).reshape(2, 3) - 2.5,
    'a.bias': torch.tensor([0.5, -1, 7]).half(),
    'steps': torch.tensor(11),
}


def assert_same(found, expected=TENSORS):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize('map_location', [
    None, 'cpu', torch.device('cpu'), lambda storage, place: storage])
def test_a_file_is_read(map_location, library, installed, tmp_path):
    path = write_safetensors(tmp_path / 'a.safetensors', TENSORS)
    assert_same(load_checkpoint_file(path, map_location))
    assert_same(CheckpointLoader.load_checkpoint(path, map_location))


def test_a_backbone_starts_from_it(library, installed, tmp_path):
    state = ResNet(18, base_channels=8).state_dict()
    path = write_safetensors(tmp_path / 'net.safetensors', state)
    net = ResNet(18, base_channels=8, attention=dict(type='SE', ratio=2),
                 init_cfg=dict(type='Pretrained', checkpoint=path))
    net.init_weights()
    own = net.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in state)
    other = ResNet(18, base_channels=8)
    load_checkpoint(other, path)
    assert_same(dict(other.state_dict()), state)


def test_the_converter_reads_it(library, tmp_path):
    backbone = dict(type='mmattn.ResNet', depth=18, base_channels=8)
    cfg = Config(dict(model=dict(type='ImageClassifier',
                                 backbone=backbone),
                      default_scope='mmpretrain'))
    pytest.importorskip('mmpretrain.models')
    state = ResNet(18, base_channels=8).state_dict()
    state['fc.weight'], state['fc.bias'] = torch.ones(3, 64), torch.ones(3)
    source = write_safetensors(tmp_path / 'a.safetensors', state)
    said = convert(source, str(tmp_path / 'b.pth'), cfg, 'torchvision')
    assert said.startswith('torchvision: backbone 120; 2 behind')
    written = load_checkpoint_file(str(tmp_path / 'b.pth'))['state_dict']
    assert torch.equal(written['backbone.conv1.weight'],
                       state['conv1.weight'])


@pytest.mark.parametrize('content', [b'', b'\x05', b'\xff' * 64])
def test_a_damaged_file(content, library, tmp_path):
    path = tmp_path / 'a.safetensors'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='a.safetensors cannot be read '
                       'as safetensors'):
        load_checkpoint_file(str(path))


def test_a_missing_file(installed):
    with pytest.raises(FileNotFoundError, match='a.safetensors does not'):
        CheckpointLoader.load_checkpoint('a.safetensors')


# -- the hub ---------------------------------------------------------------


def test_files_of_the_hub(library, hub, installed):
    folder, asked = hub
    (folder / 'deep').mkdir()
    write_safetensors(folder / 'deep' / 'a.safetensors', TENSORS)
    torch.save(TENSORS, folder / 'b.pth')
    for name in ('deep/a.safetensors', 'b.pth'):
        assert_same(CheckpointLoader.load_checkpoint(f'hf://lab/nets/{name}'))
        assert set(asked) == {('lab/nets', name)}
        asked.clear()


def test_the_hub_is_no_way_around_safe_loading(hub, installed):
    folder, _ = hub
    torch.save({'a': print}, folder / 'b.pth')
    with pytest.raises(CheckpointError, match=r'asks for (builtins\.)?print'):
        CheckpointLoader.load_checkpoint('hf://lab/nets/b.pth')


def test_what_the_hub_does_not_have(hub, installed):
    with pytest.raises(CheckpointError) as error:
        CheckpointLoader.load_checkpoint('hf://lab/nets/c.pth')
    assert str(error.value).startswith(
        'cannot download hf://lab/nets/c.pth (LookupError: 404')
    assert error.value.__cause__ is None


@pytest.mark.parametrize('name', ['hf://', 'hf://lab', 'hf://lab/nets',
                                  'hf://lab/nets/', 'hf:///nets/a.pth'])
def test_names_of_no_file(name, hub, installed):
    with pytest.raises(CheckpointError, match=r'hf://owner/repository/file'):
        CheckpointLoader.load_checkpoint(name)
    assert hub[1] == []


# -- without the libraries -------------------------------------------------


def test_missing_libraries_are_named(no_libraries, installed, tmp_path):
    path = write_safetensors(tmp_path / 'a.safetensors', TENSORS)
    with pytest.raises(CheckpointError, match='pip install safetensors$'):
        CheckpointLoader.load_checkpoint(path)
    with pytest.raises(CheckpointError, match='pip install huggingface_hub$'):
        CheckpointLoader.load_checkpoint('hf://lab/nets/a.pth')


def test_other_files_need_none_of_them(no_libraries, installed, tmp_path):
    torch.save(TENSORS, tmp_path / 'a.pth')
    assert_same(CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth')))
