"""Checkpoints are read without running anything that they name."""
import io
import os
import pickle
from urllib.error import URLError

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from torch import nn
from torch.utils.data import Dataset

from mmattn.checkpoints import (CheckpointError, convert,
                                install_safe_loading, load_checkpoint_file,
                                safe)


@pytest.fixture(params=['torch', 'own'])
def reader(request, monkeypatch):
    """torch's restricted unpickler, and ours for a torch before 2.6."""
    if request.param == 'torch' and not safe.TORCH_TAKES_NAMES:
        pytest.skip('this torch takes no names')
    monkeypatch.setattr(safe, 'TORCH_TAKES_NAMES', request.param == 'torch')


@pytest.fixture
def installed(monkeypatch):
    schemes = CheckpointLoader._schemes
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(schemes))
    install_safe_loading()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch hub folder on a machine without a network."""

    def no_network(url, dst, hash_prefix=None, progress=True):
        raise URLError('no route to host')

    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', no_network)
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    return folder


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def read(path):
    return load_checkpoint_file(str(path))


def read_by_mmengine(path):
    return CheckpointLoader.load_checkpoint(str(path), 'cpu')


def read_into_model(path):
    return load_checkpoint(nn.Linear(2, 3), str(path))


def read_to_convert(path):
    cfg = Config(dict(model=dict(type='Linear')))
    return convert(str(path), f'{path}.ours', cfg)


@pytest.mark.parametrize(
    'how', [read, read_by_mmengine, read_into_model, read_to_convert])
@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('name', ['posix.mkdir', 'exec'])
def test_a_payload_is_refused_and_does_not_run(name, zipped, how, tmp_path,
                                               reader, installed):
    marker, path = tmp_path / 'marker', tmp_path / 'weights.pth'
    if name == 'exec':
        payload = Call(exec, f'import os; os.mkdir({str(marker)!r})')
    else:
        payload = Call(os.mkdir, str(marker))
    content = dict(state_dict={}, extra=payload)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    torch.load(path, weights_only=False)
    marker.rmdir()  # the payload works, where it is let
    with pytest.raises(CheckpointError) as error:
        how(path)
    assert not marker.exists()
    assert not (tmp_path / 'weights.pth.ours').exists()
    for word in (str(path), name, 'would run code', 'state_dict()'):
        assert word in str(error.value)


@pytest.mark.parametrize('owner, name', [
    (HistoryBuffer, '__init__'),
    (HistoryBuffer, '__globals__'),
    (np.ndarray, 'tofile'),
    (torch.Tensor, 'numpy'),
])
def test_getattr_reaches_the_listed_methods_only(owner, name, tmp_path,
                                                 reader):
    path = tmp_path / 'weights.pth'
    torch.save({'a': Call(getattr, owner, name)}, path)
    with pytest.raises(CheckpointError, match=rf'getattr\(.*{name}'):
        read(path)


def test_a_whole_model_is_refused_with_code_that_works(tmp_path, reader,
                                                       monkeypatch):
    path = tmp_path / 'model.pth'
    model = nn.DataParallel(nn.Linear(3, 2))
    torch.save(model, path)
    with pytest.raises(CheckpointError, match='pickled model') as error:
        read(path)
    assert 'DataParallel' in str(error.value)
    monkeypatch.chdir(tmp_path)
    code = str(error.value).split('\n')[4:]
    exec('\n'.join(line.strip() for line in code))
    weights = read('weights.pth')
    assert torch.equal(weights['module.weight'], model.module.weight)


def test_a_program_is_refused(tmp_path, reader):
    path = tmp_path / 'program.pth'
    torch.jit.save(torch.jit.trace(nn.Linear(3, 2), torch.ones(1, 3)), path)
    with pytest.raises(CheckpointError, match=r'torch\.jit'):
        read(path)


class Data(Dataset):
    metainfo = dict(classes=('a', 'b'), palette=[(1, 2, 3)], n=np.arange(3))

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return torch.full((3, ), float(i))


class Model(BaseModel):

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1)

    def forward(self, *x, mode='tensor'):
        y = self.fc(torch.stack(x))
        return dict(loss=y.square().mean()) if mode == 'loss' else y


class Accuracy(BaseMetric):

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(accuracy=np.float32(0.5))


def trained(folder, epochs, **kwargs):
    loader = dict(
        batch_size=2,
        dataset=Data(),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'))
    runner = Runner(
        Model(),
        str(folder),
        experiment_name=f'{folder.name}{epochs}',
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=[Accuracy()],
        optim_wrapper=dict(
            optimizer=dict(type='Adam', lr=0.1), type='OptimWrapper'),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, end=1),
            dict(type='MultiStepLR', milestones=[1, 2, 2]),
            dict(type='CosineAnnealingLR', T_max=3),
            dict(type='OneCycleLR', eta_max=0.1, total_steps=9),
        ],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', save_best='accuracy')),
        custom_hooks=[dict(type='EMAHook')],
        log_level='WARNING',
        default_scope='mmengine',
        **kwargs)
    runner.train()
    return runner


def test_what_a_runner_writes_is_read_and_resumed(tmp_path, reader,
                                                  installed):
    trained(tmp_path, 2)
    path = str(tmp_path / 'epoch_2.pth')
    ours = CheckpointLoader.load_checkpoint(path)
    full = torch.load(path, weights_only=False)
    assert ours.keys() == full.keys() >= {
        'meta', 'state_dict', 'ema_state_dict', 'message_hub', 'optimizer',
        'param_schedulers'
    }
    assert ours['meta'].keys() == full['meta'].keys()
    assert list(ours['meta']['dataset_meta']['n']) == [0, 1, 2]
    for name, buffer in full['message_hub']['log_scalars'].items():
        read_buffer = ours['message_hub']['log_scalars'][name]
        assert read_buffer.statistics('mean') == buffer.mean()
    best = next(tmp_path.glob('best*.pth'))
    best = CheckpointLoader.load_checkpoint(str(best))
    assert best['message_hub']['runtime_info']['best_score'] == 0.5

    runner = trained(tmp_path, 3, load_from=path, resume=True)
    assert runner.iter == 6
    # Adam has seen both halves of the training
    step = next(iter(runner.optim_wrapper.optimizer.state.values()))['step']
    assert step == 6


@pytest.mark.parametrize('old, new', [(b'numpy._core.', b'numpy.core.'),
                                      (b'numpy.core.', b'numpy._core.')])
def test_numpy_of_either_major_version(old, new, tmp_path, reader):
    values = dict(
        a=np.float64(0.5), b=np.int32(-3), c=np.bool_(True),
        d=np.str_('map'), e=np.float16(2), f=np.arange(6.).reshape(2, 3),
        g=np.arange(3, dtype='i2'))  # yapf: disable
    file = io.BytesIO()
    torch.save(values, file, _use_new_zipfile_serialization=False)
    path = tmp_path / 'values.pth'
    path.write_bytes(file.getvalue().replace(old, new))
    for key, value in read(path).items():
        assert np.array_equal(value, values[key])
        assert value.dtype == values[key].dtype


@pytest.mark.parametrize('keep', [0, 90, 700, -20])
def test_a_damaged_file_is_named(keep, tmp_path, reader):
    path = tmp_path / 'weights.pth'
    torch.save({'a': torch.ones(50)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match='cut off') as error:
        read(path)
    assert str(path) in str(error.value)


def test_no_checkpoint_at_all(tmp_path, reader):
    page = tmp_path / 'page.pth'
    page.write_text('<html>404</html>')
    with pytest.raises(CheckpointError, match='page.pth cannot be read'):
        read(page)
    plain = tmp_path / 'plain.pkl'
    plain.write_bytes(pickle.dumps({'a': 1}))
    with pytest.raises(CheckpointError, match='plain.pkl cannot be read'):
        read(plain)


def test_a_missing_file_is_named(tmp_path, installed):
    for how in (read, read_by_mmengine, read_to_convert):
        with pytest.raises(FileNotFoundError, match='absent.pth'):
            how(tmp_path / 'absent.pth')


def test_every_scheme_is_replaced(installed):
    for scheme, loader in CheckpointLoader._schemes.items():
        assert loader.__module__ == safe.__name__, scheme


NAMES = {
    'https://example.org/a/weights.pth': 'weights.pth',
    'torchvision://resnet50': 'resnet50-0676ba61.pth',
    'modelzoo://resnet50': 'resnet50-0676ba61.pth',
    'torchvision://resnet50.imagenet1k_v2': 'resnet50-11ad3fa6.pth',
    'open-mmlab://resnet50_caffe': 'resnet50_caffe-788b5fa3.pth',
    'openmmlab://detectron/resnet50_caffe': 'resnet50_caffe-788b5fa3.pth',
}


@pytest.mark.parametrize('name', NAMES)
def test_names_use_the_hub_folder(name, hub, installed):
    path = hub / NAMES[name]
    with pytest.raises(CheckpointError, match='no route to host') as error:
        CheckpointLoader.load_checkpoint(name)
    assert str(path) in str(error.value) and 'https://' in str(error.value)
    torch.save({'a': torch.ones(2)}, path)
    assert CheckpointLoader.load_checkpoint(name).keys() == {'a'}
    torch.save({'a': Call(os.mkdir, str(hub / 'marker'))}, path)
    with pytest.raises(CheckpointError, match='would run code'):
        CheckpointLoader.load_checkpoint(name)
    assert not (hub / 'marker').exists()


def test_mmcls_names_give_the_trunk(hub, installed):
    path = hub / 'vgg11_batch256_imagenet_20210208-4271cd6c.pth'
    weights = {'backbone.conv.weight': 1, 'head.fc.weight': 2}
    torch.save(dict(state_dict=weights), path)
    loaded = CheckpointLoader.load_checkpoint('mmcls://vgg11')
    assert loaded == dict(state_dict={'conv.weight': 1})


def test_a_download_must_have_the_hash_of_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    (tmp_path / 'a-2c26b46b.pth').write_text('foo')  # sha256 of it
    (tmp_path / 'b-2c26b46b.pth').write_text('bar')
    fetched = safe._fetch((tmp_path / 'a-2c26b46b.pth').as_uri())
    assert open(fetched).read() == 'foo'
    with pytest.raises(CheckpointError, match='invalid hash'):
        safe._fetch((tmp_path / 'b-2c26b46b.pth').as_uri())
    assert [p.name for p in (tmp_path / 'hub/checkpoints').iterdir()
            ] == ['a-2c26b46b.pth']


@pytest.mark.parametrize('name', [
    'torchvision://resnet86', 'open-mmlab://resnet86', 'mmcls://resnet86',
    's3://bucket/a.pth', 'cluster:petrel://bucket/a.pth', 'pavi://a.pth'
])
def test_names_that_cannot_be_read(name, installed):
    with pytest.raises(CheckpointError, match=name):
        CheckpointLoader.load_checkpoint(name)
