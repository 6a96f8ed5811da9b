"""Two gloo processes train as one does, through the real command lines.

The workers import this file: the config names its classes by full path.
"""
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import nn
from torch.utils.data import Dataset

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
HOSTS = Path(__file__).parent / 'hosts' / 'three_hosts.sh'
CONFIG = '''
default_scope = 'mmengine'
model = dict(
    type='test_distributed.Classifier', norm_cfg=dict(type='SyncBN'))
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(type='test_distributed.Noise'),
    sampler=dict(type='DefaultSampler', shuffle=False))
train_cfg = dict(by_epoch=False, max_iters=4)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.2, momentum=0.9))
auto_scale_lr = dict(base_batch_size=4, enable=False)
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=4, by_epoch=False))
randomness = dict(seed=7)
'''


class Noise(Dataset):
    """Fixed maps in three classes.

    Without shuffling, DefaultSampler hands rank r of n the samples r, r + n,
    ...: the two half batches of a step are the whole batch of one process.
    """

    metainfo = {}

    def __init__(self, length=16):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        x = torch.randn(3, 11, 7, generator=generator)
        return dict(inputs=x, label=torch.tensor(index % 3))


class Classifier(BaseModel):
    """Convolution, frozen batch norm, linear layer.

    Args:
        norm_cfg: SyncBN is refused by DistributedDataParallel on the CPU.
        fail_on: Rank whose forward raises.
    """

    def __init__(self, norm_cfg, fail_on=None, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.conv = nn.Conv2d(3, 5, 3, stride=2)
        norms = dict(BN=nn.BatchNorm2d, SyncBN=nn.SyncBatchNorm)
        self.norm = norms[norm_cfg['type']](5)
        self.fc = nn.Linear(5, 3)
        self.fail_on = fail_on

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, inputs, label, mode='tensor'):
        if self.fail_on == int(os.environ['RANK']):
            raise ArithmeticError(f'rank {self.fail_on} gives up')
        x = self.norm(self.conv(torch.stack(list(inputs)))).relu()
        y = self.fc(x.mean((2, 3)))
        return dict(loss=nn.functional.cross_entropy(y, torch.stack(label)))


class WithoutReduction(MMDistributedDataParallel):
    """Leaves every process its own gradients."""

    def train_step(self, data, optim_wrapper):
        with self.no_sync():
            return super().train_step(data, optim_wrapper)


def environment(**variables):
    """That of the commands; their configs name classes of this file."""
    path = [str(Path(__file__).parent), str(TOOLS.parent),
            os.environ.get('PYTHONPATH', '')]
    return dict(
        os.environ,
        CUDA_VISIBLE_DEVICES='',  # gloo, also where the tester has GPUs
        OMP_NUM_THREADS='1',
        PYTHON=sys.executable,
        PYTHONPATH=os.pathsep.join(filter(None, path)),
        **variables)


def launch(folder, processes, *options, gpu=False):
    """Train in ``folder``; return exit code, output and checkpoint path."""
    config = folder / 'toy.py'
    config.write_text(CONFIG)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    env = environment(PORT=str(port))
    arguments = ['--work-dir', str(folder / 'out'), '--cfg-options', *options,
                 f'train_dataloader.batch_size={4 // processes}']
    if gpu:
        del env['CUDA_VISIBLE_DEVICES']
    if processes == 1 and not gpu:
        command = [sys.executable, str(TOOLS / 'train.py'), str(config)]
        env['RANK'] = '0'
    else:
        command = ['bash', str(TOOLS / 'dist_train.sh'), str(config),
                   str(processes)]
    done = subprocess.run(
        command + arguments, cwd=folder, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout, folder / 'out' / 'iter_4.pth'


def weights(checkpoint):
    """All trained numbers of a checkpoint as one vector."""
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    assert not [k for k in state if k.startswith('module.')]
    return torch.cat([state[k].flatten() for k in sorted(state)
                      if k.startswith(('conv', 'norm.weight', 'norm.bias',
                                       'fc'))])


@pytest.fixture(scope='module')
def single(tmp_path_factory):
    """Weights after four steps of one process with whole batches."""
    code, output, checkpoint = launch(tmp_path_factory.mktemp('single'), 1)
    assert code == 0, output
    assert 'linear rule' not in output  # the batch fits the rate
    return weights(checkpoint)


@pytest.mark.config
def test_two_processes_train_as_one(tmp_path, single):
    code, output, checkpoint = launch(tmp_path, 2)
    assert code == 0, output
    assert '2 gloo process(es) on the CPU' in output
    assert output.count('1 setting(s) of the config changed to BN') == 1
    assert 'linear rule' not in output
    torch.testing.assert_close(
        weights(checkpoint), single, rtol=0, atol=1e-5)


@pytest.mark.config
def test_without_reduction_they_do_not(tmp_path, single):
    """The test above would notice; a user's wrapper and warning arrive."""
    code, output, checkpoint = launch(
        tmp_path, 2, 'auto_scale_lr.base_batch_size=8',
        'model_wrapper_cfg.type=test_distributed.WithoutReduction')
    assert code == 0, output
    assert output.count('linear rule gives lr=0.1 instead of 0.2') == 1
    assert (weights(checkpoint) - single).abs().max() > 1e-3


FLEXIBLE = ('runner_type=FlexibleRunner', 'env_cfg.cudnn_benchmark=False')


@pytest.mark.config
def test_the_flexible_runner_trains_and_resumes_as_the_other(
        tmp_path, single):
    half = tmp_path / 'out' / 'iter_2.pth'
    for iters, start in ((2, None), (4, half)):
        code, output, checkpoint = launch(
            tmp_path, 1, *FLEXIBLE, 'strategy.type=SingleDeviceStrategy',
            f'train_cfg.max_iters={iters}', f'load_from={start}',
            f'resume={start is not None}',
            'default_hooks.checkpoint.interval=2')
        assert code == 0, output
    torch.testing.assert_close(weights(checkpoint), single, rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
def test_fsdp_trains_as_one_process_does(tmp_path, single):
    code, output, checkpoint = launch(
        tmp_path, 1, *FLEXIBLE, 'strategy.type=FSDPStrategy', gpu=True)
    assert code == 0, output
    torch.testing.assert_close(weights(checkpoint), single, rtol=0, atol=1e-3)


@pytest.mark.config
def test_error_in_one_worker_ends_the_job(tmp_path):
    code, output, checkpoint = launch(tmp_path, 2, 'model.fail_on=1')
    assert code != 0
    assert 'ArithmeticError: rank 1 gives up' in output
    assert not checkpoint.exists()


ENDLESS = '''
train_dataloader['dataset']['length'] = 10**6
train_cfg['max_iters'] = 10**6
default_hooks['checkpoint'].update(interval=50, max_keep_ckpts=2)
'''


def why_no_hosts():
    """Why this machine cannot play three; None where it can."""
    if shutil.which('ip') is None:
        return 'no ip command (Debian: apt-get install iproute2)'
    name = f'mmattn-try{os.getpid()}'
    made = subprocess.run(['ip', 'netns', 'add', name], text=True,
                          stderr=subprocess.PIPE)
    if made.returncode:
        return f'no network namespaces: {made.stderr.strip()}'
    subprocess.run(['ip', 'netns', 'del', name], check=True)
    return None


@pytest.mark.config
def test_three_hosts_lose_one_and_resume(tmp_path):
    reason = why_no_hosts()
    if reason:
        pytest.skip(reason)
    config = tmp_path / 'toy.py'
    config.write_text(CONFIG + ENDLESS)
    done = subprocess.run(
        ['bash', str(HOSTS), str(config), str(tmp_path)], text=True,
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count('lost another process') == 3
