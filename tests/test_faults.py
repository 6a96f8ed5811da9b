"""Runs that are killed, starved of room or handed damaged files.

tools/train.py runs with real command lines, in processes forked from one that
has imported torch: most of a short run is imports. The workers import this
file: the config names its classes by full path.
"""
import functools
import json
import multiprocessing
import os
import random
import re
import resource
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import EpochBasedTrainLoop, load_checkpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmattn.checkpoints import load_checkpoint_file
from mmattn.engine import resume
from mmattn.engine.faults import check_writable
from mmattn.engine.launch import UsageError
from mmattn.engine.randomness import Batches, Reading, ResumeHook

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
DEADLINE = 300  # seconds, for what takes two
CONFIG = '''
default_scope = 'mmengine'
model = dict(type='test_faults.Classifier')
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(type='test_faults.Noise'),
    sampler=dict(type='InfiniteSampler', shuffle=True))
train_cfg = dict(by_epoch=False, max_iters=9)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.2, momentum=0.9))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False))
log_processor = dict(window_size=1, by_epoch=False)
randomness = dict(seed=7)
'''
FINITE = '''
train_dataloader['sampler'] = dict(type='DefaultSampler', shuffle=True)
'''
BY_EPOCH = FINITE + '''
train_cfg = dict(by_epoch=True, max_epochs=3)
default_hooks['checkpoint'] = dict(
    type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='acc')
log_processor = dict(window_size=1)
val_dataloader = dict(
    batch_size=3,
    num_workers=0,
    dataset=dict(type='test_faults.Noise'),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='test_faults.Luck')
val_cfg = dict()
'''

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload([
    'torch', 'torch._dynamo', 'torchvision', 'mmengine.runner', 'mmcv.ops',
    'matplotlib.figure', 'matplotlib.backends.backend_agg', 'pytest', 'yapf',
    'mmattn.attentions', 'mmattn.engine.saving', 'mmattn.checkpoints.report'
])


class Noise(Dataset):
    """Seven maps in three classes, drawn anew by each of the generators."""

    metainfo = {}

    def __len__(self):
        return 7

    def __getitem__(self, index):
        x = torch.randn(3, 11, 7) + random.random() + np.random.rand()
        return dict(inputs=x + index, label=torch.tensor(index % 3))


class Classifier(BaseModel):
    """Convolution, dropout, linear layer.

    Args:
        pause_at: Number of the call in which training stands still.
        pause_rank: Whose training; that of all ranks if None.
        ballast: Numbers that make a checkpoint large.
    """

    def __init__(self, pause_at=None, pause_rank=None, ballast=1,
                 data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.conv = nn.Conv2d(3, 5, 3, stride=2)
        self.fc = nn.Linear(5, 3)
        self.register_buffer('ballast', torch.zeros(ballast))
        self.calls = 0
        self.pause_at = pause_at
        self.pauses = pause_rank in (None, int(os.environ.get('RANK', 0)))

    def forward(self, inputs, label, mode='tensor'):
        if self.calls == self.pause_at and self.pauses:
            print('stands still: process', os.getpid(), flush=True)
            signal.pause()
        self.calls += 1
        x = nn.functional.dropout(self.conv(torch.stack(list(inputs))).relu())
        y = self.fc(x.mean((2, 3)))
        if mode == 'predict':
            return y
        return dict(loss=nn.functional.cross_entropy(y, torch.stack(label)))


class Luck(BaseMetric):
    """Draws its result; validation leaves no generator as it was."""

    def process(self, data_batch, data_samples):
        self.results.append(random.random())

    def compute_metrics(self, results):
        return dict(acc=max(results))


class Killed(Hook):
    """Kills its process where it makes a checkpoint safe on the disk.

    Half of the file is there.
    """

    def before_save_checkpoint(self, runner, checkpoint):
        def kill(file):
            os.ftruncate(file, os.fstat(file).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

        if checkpoint['meta']['iter'] == 6:
            os.fsync = kill


class Limit(Hook):
    """Lets no file grow beyond 30 KB from the fifth iteration on."""

    def after_train_iter(self, runner, batch_idx, **kwargs):
        if batch_idx == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))


class Filler(Hook):
    """Leaves no room on the disk after the fourth iteration."""

    def after_train_iter(self, runner, batch_idx, **kwargs):
        if batch_idx == 3:
            with suppress(OSError), open(f'{runner.work_dir}/x', 'wb') as x:
                while True:
                    x.write(bytes(1000))
                    x.flush()
            # more than the rest of the log's last page
            runner.logger.info('-' * 5000)


def run_tool(arguments, log, environment):
    """What a process of a run does: its own group, one output, the script."""
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    sys.argv = [str(TOOLS / 'train.py'), *arguments]
    sys.path[:0] = [str(TOOLS), str(TOOLS.parent), str(Path(__file__).parent)]
    runpy.run_path(sys.argv[0], run_name='__main__')


class Job:
    """One command line, running in one process or several.

    Args:
        folder: For the config, the output and the work directory ``out``.
        arguments: Of the tool.
        more: Lines that the config ends with.
        processes: How many gloo processes there are.
    """

    def __init__(self, folder, *arguments, more='', processes=1):
        config = folder / 'toy.py'
        config.write_text(CONFIG + more)
        self.log = folder / f'{time.monotonic_ns()}.txt'
        self.log.touch()
        environment = dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
        arguments = [str(config), '--work-dir', str(folder / 'out'),
                     *arguments]
        if processes > 1:
            arguments += ['--launcher', 'pytorch']
            environment.update(
                MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()),
                WORLD_SIZE=str(processes))
        self.workers = []
        for rank in map(str, range(processes)):
            worker = CONTEXT.Process(target=run_tool, args=(
                arguments, self.log,
                dict(environment, RANK=rank, LOCAL_RANK=rank)))
            worker.start()
            self.workers.append(worker)

    @property
    def output(self):
        return self.log.read_text()

    def wait_for(self, text, count=1):
        """Return once every process has written ``text``."""
        end = time.monotonic() + DEADLINE
        while self.output.count(text) < count:
            assert time.monotonic() < end, self.output
            assert all(w.is_alive() for w in self.workers), self.output
            time.sleep(0.02)

    def kill(self):
        for worker in self.workers:
            if worker.is_alive():
                os.killpg(worker.pid, signal.SIGKILL)
            worker.join()

    def end(self):
        """Wait for the end; return the worst exit code and the output."""
        for worker in self.workers:
            worker.join(DEADLINE)
            if worker.is_alive():
                self.kill()
                pytest.fail(f'no end in {DEADLINE} s:\n{self.output}')
        codes = [worker.exitcode for worker in self.workers]
        return max(codes, key=abs), self.output


def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def train(folder, *arguments, **keywords):
    """Run to a good end; return the output."""
    code, output = Job(folder, *arguments, **keywords).end()
    assert code == 0, output
    return output


def losses(folder):
    """Every logged loss by step, of one run after the other."""
    found = {}
    for path in sorted(folder.glob('out/*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if 'loss' in entry:
                found.setdefault(entry['step'], []).append(entry['loss'])
    return found


# -- kill -9, then --resume -------------------------------------------------


def stop_and_resume(folder, pause_at, *entries, processes=1, **keywords):
    """Kill a run that stands still and resume it; return the output."""
    keywords['processes'] = processes
    job = Job(folder, '--cfg-options', f'model.pause_at={pause_at}', *entries,
              **keywords)
    job.wait_for('stands still', processes)
    job.kill()
    return train(folder, '--resume', '--cfg-options', *entries, **keywords)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    """The losses of a run that is left alone, without workers."""
    @functools.lru_cache(None)
    def run(more, processes):
        folder = tmp_path_factory.mktemp('uninterrupted')
        train(folder, more=more, processes=processes)
        return {step: loss for step, (loss,) in losses(folder).items()}

    return run


CASES = [
    # what, pause at, workers, persistent, processes
    ('', 7, 0, False, 1),
    ('', 7, 2, True, 1),
    ('', 7, 2, False, 2),
    (FINITE, 7, 2, True, 1),
    (BY_EPOCH, 16, 2, True, 1),
    (BY_EPOCH, 9, 0, False, 2),
]
NAMES = ['endless', 'endless-workers', 'endless-workers-2', 'finite-workers',
         'epochs-workers', 'epochs-2']


@pytest.mark.parametrize(
    'more, pause_at, workers, persistent, processes',
    [pytest.param(*case, id=name, marks=[pytest.mark.config] * (i > 0))
     for i, (case, name) in enumerate(zip(CASES, NAMES))])
def test_killed_and_resumed_run_repeats_the_losses_of_an_uninterrupted_one(
        more, pause_at, workers, persistent, processes, tmp_path,
        uninterrupted):
    """Also where the two have other numbers of workers."""
    expected = uninterrupted(more, processes)
    output = stop_and_resume(
        tmp_path, pause_at, f'train_dataloader.num_workers={workers}',
        f'train_dataloader.persistent_workers={persistent}',
        more=more, processes=processes)
    found = losses(tmp_path)
    assert found.keys() == expected.keys()
    twice = [step for step, both in found.items() if len(both) == 2]
    assert twice and twice[0] > 3  # killed behind the second checkpoint
    for step, several in found.items():
        assert several == pytest.approx(
            [expected[step]] * len(several), abs=1e-6), (step, output)
    assert len(set(expected.values())) == len(expected)
    assert 'ResumeHook: ' not in output and 'of a run with' not in output
    last = (tmp_path / 'out' / 'last_checkpoint').read_text()
    assert load_checkpoint_file(last)['mmattn'] == dict(processes=processes)
    load_checkpoint(Classifier(), last, strict=True)


@pytest.mark.config
def test_a_seed_that_was_drawn_is_kept(tmp_path):
    output = stop_and_resume(tmp_path, 7, 'randomness.seed=None')
    (first, second), = [v for v in losses(tmp_path).values() if len(v) == 2]
    assert second == pytest.approx(first, abs=1e-6), output


def test_the_seed_of_the_resumed_run_wins():
    cfg = Config(dict(randomness=dict(seed=3, deterministic=True)))
    assert resume.keep_seed(cfg, dict(seed=3)) == []
    assert resume.keep_seed(cfg, {}) == []
    note, = resume.keep_seed(cfg, dict(seed=7))
    assert 'has the seed 7 and keeps it' in note and 'seed=3' in note
    assert cfg.randomness == dict(seed=7, deterministic=True)


@pytest.mark.parametrize('source, iteration, note', [
    (dict(mmattn=dict(processes=1)), 8, None),
    (dict(), 8, 'written without mmattn.ResumeHook'),
    (dict(mmattn=dict(processes=2)), 8, 'with 2 process(es) and this one has'),
    (dict(mmattn=dict(processes=1)), 7, 'lies 3 iteration(s) into epoch 2')])
def test_what_keeps_a_resume_from_being_exact_is_said(source, iteration,
                                                      note):
    loader = DataLoader(Noise(), batch_size=2)
    loop = EpochBasedTrainLoop(Mock(), loader, max_epochs=3)
    runner = Mock(train_loop=loop, world_size=1, seed=7, rank=0, epoch=1,
                  iter=iteration)
    runner.epoch = iteration // 4
    hook = ResumeHook()
    hook.after_load_checkpoint(runner, source)
    hook.before_train(runner)
    said = [call.args[0] for call in runner.logger.warning.call_args_list]
    assert len(said) == (note is not None)
    assert note is None or note in said[0]


def test_a_persistent_worker_counts_on_over_passes():
    """Seven samples, two a batch: the last pass ends in midst of a turn."""
    def passes(workers):
        loader = DataLoader(Noise(), batch_size=2, num_workers=workers,
                            persistent_workers=workers > 0)
        reading = Reading(loader, 7, 0)
        for number in range(3):
            for batch in _seeded(loader, reading, number * len(loader)):
                yield batch['inputs']

    for alone, shared in zip(passes(0), passes(3)):
        torch.testing.assert_close(alone, shared, rtol=0, atol=0)


def _seeded(loader, reading, first):
    """A pass as an epoch-based loop makes it."""
    reading.first = first
    reading.seed(first)
    for number, batch in enumerate(loader, first + 1):
        yield batch
        reading.seed(number)


def test_a_loader_without_batches_is_an_error_and_no_endless_loop():
    loader = DataLoader(Noise(), batch_size=8, drop_last=True)
    with pytest.raises(ValueError, match='gives no batch'):
        next(Batches(loader, Reading(loader, 7, 0)))


@pytest.mark.parametrize('kind', ['AspectRatio', 'MultiDataAspectRatio'])
def test_an_iterator_that_was_given_up_leaves_nothing(kind):
    """mmengine 0.10.7 starts one, whose workers ask ahead."""
    samplers = pytest.importorskip('mmdet.datasets.samplers')

    class Pictures(list):
        get_data_info = staticmethod(lambda i: dict(width=i % 2, height=1))
        get_dataset_source = staticmethod(lambda i: 0)

    pictures = Pictures(range(10))
    args = (2, ) if kind == 'AspectRatio' else ((2, ), 1)
    sampler = InfiniteSampler(pictures, shuffle=False)
    batches = getattr(samplers, f'{kind}BatchSampler')(sampler, *args)
    loader = DataLoader(pictures, batch_sampler=batches)
    assert next(iter(batches)) == [0, 2]
    first = next(Batches(loader, Reading(loader, 7, 0)))
    assert first.tolist() == [0, 2]


# -- checkpoints that are cut off -------------------------------------------


@pytest.mark.config
def test_kill_in_a_write_leaves_the_last_checkpoint(tmp_path):
    """Also where only one is kept."""
    keep = 'default_hooks.checkpoint.max_keep_ckpts=1'
    out = tmp_path / 'out'
    code, output = Job(
        tmp_path, '--cfg-options', keep,
        more="custom_hooks = [dict(type='test_faults.Killed')]").end()
    assert code == -signal.SIGKILL, output
    names = {path.name for path in out.glob('iter_*')}
    assert names == {'iter_3.pth', 'iter_6.pth.unfinished'}
    whole = (out / 'iter_3.pth').stat().st_size
    assert abs(2 * (out / 'iter_6.pth.unfinished').stat().st_size
               - whole) < whole / 2
    output = train(tmp_path, '--resume', '--cfg-options', keep)
    assert f'Load checkpoint from {out}/iter_3.pth' in output
    assert [path.name for path in out.glob('iter_*')] == ['iter_9.pth']


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """The work directory of a run with checkpoints 3, 6 and 9."""
    folder = tmp_path_factory.mktemp('finished')
    train(folder)
    return folder / 'out'


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, whose last_checkpoint names the copy's last."""
    shutil.copytree(finished, tmp_path / 'out')
    out = tmp_path / 'out'
    (out / 'last_checkpoint').write_text(str(out / 'iter_9.pth'))
    for age, number in enumerate((9, 6, 3)):  # copies have one time
        os.utime(out / f'iter_{number}.pth', (0, 1e9 - age))
    return out


def cut_off(path):
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])


def zero_out(path):
    """As a power cut leaves a file: whole size, and a hole in the weights."""
    content = bytearray(path.read_bytes())
    weights = torch.load(path, weights_only=False)['state_dict']
    start = content.find(weights['conv.weight'].numpy().tobytes())
    assert start > 0
    content[start:start + 64] = bytes(64)
    path.write_bytes(content)


def strip(path):
    weights = torch.load(path, weights_only=False)['state_dict']
    torch.save(dict(state_dict=weights), path)


def test_a_sound_run_goes_on_from_what_last_checkpoint_names(run):
    (run / 'last_checkpoint').write_text(f'{run}/iter_6.pth\n')
    path, meta, notes = resume.find(str(run))
    assert (path, notes) == (f'{run}/iter_6.pth', [])
    assert (meta['iter'], meta['seed']) == (6, 7)
    assert resume.check(path) == meta


@pytest.mark.parametrize('damage, why', [
    (lambda path: path.write_text(''), 'is empty'),
    (lambda path: path.write_bytes(b'\xff\0/x' * 999), 'is not a file'),
    (lambda path: path.write_text('/nowhere/iter_9.pth'),
     "names '/nowhere/iter_9.pth', which is not a file"),
    (lambda path: path.unlink(), 'is missing')])
def test_damaged_last_checkpoint_is_named_and_the_newest_good_one_taken(
        damage, why, run):
    (run / 'best_acc.pth').write_bytes((run / 'iter_3.pth').read_bytes())
    strip(run / 'best_acc.pth')  # newer than all, weights alone
    damage(run / 'last_checkpoint')
    path, meta, (note,) = resume.find(str(run))
    assert path == f'{run}/iter_9.pth' and meta['iter'] == 9
    assert note.startswith(f'{run}/last_checkpoint ') and why in note
    assert f'goes on from {path}' in note and len(note) < 1000
    assert 'passed over: best_acc.pth' in note


@pytest.mark.parametrize('damage, why', [
    (cut_off, 'cannot be read as a checkpoint'),
    (lambda path: path.write_bytes(b''), 'cannot be read as a checkpoint'),
    (zero_out, 'does not have its checksum'),
    (strip, 'no meta and no message_hub')])
def test_damaged_checkpoint_is_named_and_the_newest_good_one_taken(
        damage, why, run):
    for name in ('iter_9.pth', 'iter_6.pth'):
        damage(run / name)
    path, _, (note,) = resume.find(str(run))
    assert path == f'{run}/iter_3.pth'
    assert f'{run}/iter_9.pth' in note and why in note
    assert 'passed over: iter_6.pth' in note
    with pytest.raises(UsageError, match=why) as error:
        resume.check(f'{run}/iter_9.pth')
    assert f'--resume {run}/iter_3.pth' in str(error.value)
    damage(run / 'iter_3.pth')
    with pytest.raises(UsageError, match='no other checkpoint') as error:
        resume.find(str(run))
    assert 'passed over: iter_' in str(error.value)
    with pytest.raises(UsageError, match='no good checkpoint beside it'):
        resume.check(f'{run}/iter_9.pth')


@pytest.mark.config
def test_truncated_checkpoint_through_the_command_line(run):
    cut_off(run / 'iter_9.pth')
    code, output = Job(
        run.parent, '--resume', str(run / 'iter_9.pth')).end()
    assert code == 1
    error = one_error(output)
    assert f'{run}/iter_9.pth cannot be read' in error
    assert f'--resume {run}/iter_6.pth' in error
    code, output = Job(
        run.parent, '--cfg-options', f'load_from={run}/iter_9.pth').end()
    assert code == 1
    assert f'{run}/iter_9.pth cannot be read' in one_error(output)
    output = train(run.parent, '--resume')
    assert output.count('names a checkpoint that is no use') == 1
    assert f'Load checkpoint from {run}/iter_6.pth' in output
    assert '[9/9]' in output


# -- disks ------------------------------------------------------------------


def mount(path, *option):
    """A small file system of its own; skips without the right to."""
    path.mkdir(exist_ok=True)
    done = subprocess.run(['mount', '-t', 'tmpfs', *option, 'tmpfs', path],
                          stderr=subprocess.PIPE, text=True)
    if done.returncode:
        pytest.skip(f'cannot mount a tmpfs: {done.stderr.strip()}')


@pytest.fixture
def mounted(tmp_path):
    yield tmp_path / 'out'
    subprocess.run(['umount', tmp_path / 'out'], stderr=subprocess.DEVNULL)


def one_error(output):
    """The error of a run that has no other and no traceback."""
    assert 'Traceback' not in output and 'Logging error' not in output, output
    error, = [line for line in output.splitlines() if 'error:' in line]
    assert error.startswith('train.py: error: ')
    return error


@pytest.mark.config
@pytest.mark.skipif(os.geteuid() != 0, reason='mounting needs root')
def test_full_disk(mounted, tmp_path):
    """Two checkpoints of 0.4 MB fit into 1 MB."""
    mount(mounted, '-o', 'size=1m')
    ballast = 'model.ballast=100000'
    code, output = Job(tmp_path, '--cfg-options', ballast).end()
    assert code == 1
    error = one_error(output)
    assert f'{mounted}/iter_9.pth cannot be written' in error
    assert 'No space left on device, 0.4 MB to write; 0.' in error
    assert f'--resume from {mounted}/iter_6.pth' in error
    assert {p.name for p in mounted.glob('iter_*')} == {
        'iter_3.pth', 'iter_6.pth'}
    (mounted / 'iter_3.pth').unlink()
    output = train(tmp_path, '--resume', '--cfg-options', ballast)
    assert f'Load checkpoint from {mounted}/iter_6.pth' in output


@pytest.mark.config
@pytest.mark.skipif(os.geteuid() != 0, reason='mounting needs root')
def test_log_on_a_full_disk(mounted, tmp_path):
    mount(mounted, '-o', 'size=1m')
    code, output = Job(
        tmp_path, more="custom_hooks = [dict(type='test_faults.Filler')]"
    ).end()
    assert code == 1
    error = one_error(output)
    assert f'{mounted} cannot be written (No space left on device' in error
    assert f'--resume from {mounted}/iter_3.pth' in error


@pytest.mark.config
def test_checkpoint_over_the_limit_for_a_file(tmp_path):
    """As over a quota, and without root."""
    out = tmp_path / 'out'
    code, output = Job(
        tmp_path, '--cfg-options', 'model.ballast=10000',
        more="custom_hooks = [dict(type='test_faults.Limit')]").end()
    assert code == 1
    error = one_error(output)
    assert f'{out}/iter_6.pth cannot be written (File too large' in error
    assert f'--resume from {out}/iter_3.pth' in error
    assert [p.name for p in out.glob('iter_*')] == ['iter_3.pth']
    assert resume.find(str(out))[0] == f'{out}/iter_3.pth'


def test_work_directory_that_cannot_be_written(mounted, tmp_path):
    if os.geteuid():
        mounted.mkdir(mode=0o555)
    else:
        mount(mounted, '-o', 'ro')
    code, output = Job(tmp_path).end()
    assert code == 1
    assert f"work directory '{mounted}' cannot be written: " in one_error(
        output)


def test_work_directory_that_is_a_file(tmp_path):
    (tmp_path / 'out').touch()
    code, output = Job(tmp_path).end()
    assert code == 1
    assert 'cannot be written: it is a file' in one_error(output)
    with pytest.raises(UsageError, match='Not a directory'):
        check_writable(str(tmp_path / 'out' / 'deeper'), 'work directory')


# -- processes --------------------------------------------------------------


@pytest.mark.config
def test_rank_that_dies_ends_the_job_and_is_named(tmp_path):
    """Through the launcher; the other rank waits for its gradients."""
    (tmp_path / 'toy.py').write_text(CONFIG)
    path = [str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')]
    log = tmp_path / 'log.txt'
    with open(log, 'w') as file:
        job = subprocess.Popen(
            ['bash', TOOLS / 'dist_train.sh', 'toy.py', '2', '--work-dir',
             'out', '--cfg-options', 'model.pause_at=4', 'model.pause_rank=1'],
            cwd=tmp_path, stdout=file, stderr=subprocess.STDOUT,
            env=dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1',
                     PORT=str(free_port()), PYTHON=sys.executable,
                     PYTHONPATH=os.pathsep.join(filter(None, path))))
    try:
        end = time.monotonic() + DEADLINE
        found = None
        while found is None:
            assert time.monotonic() < end and job.poll() is None, \
                log.read_text()
            found = re.search(r'stands still: process (\d+)\n',
                              log.read_text())
            time.sleep(0.05)
        os.kill(int(found[1]), signal.SIGKILL)
        assert job.wait(DEADLINE) != 0
    finally:
        job.terminate()  # its processes too
        job.wait()
    output = log.read_text()
    assert re.search(r'rank +: 1 ', output), output
    assert f'Signal 9 (SIGKILL) received by PID {found[1]}' in output
    assert (tmp_path / 'out' / 'iter_3.pth').exists()


@pytest.mark.config
def test_rank_that_does_not_answer_ends_the_others(tmp_path):
    job = Job(tmp_path, '--cfg-options', 'model.pause_at=4',
              'model.pause_rank=1', 'env_cfg.dist_cfg.timeout=3', processes=2)
    waiting, silent = job.workers
    waiting.join(DEADLINE)
    assert silent.is_alive(), job.output
    job.kill()
    assert waiting.exitcode == 1
    error = one_error(job.output)
    assert 'rank 0 lost another process' in error
    assert 'env_cfg.dist_cfg.timeout' in error and '3000ms' in error
