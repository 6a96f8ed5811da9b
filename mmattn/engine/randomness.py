"""Random numbers that hang on the seed and the iteration alone.

mmengine keeps no random state. A kept one would not do: validation draws from
it too, each worker has its own, and mmengine 0.10.7 draws all batches before
the position of a resume once more. So each iteration starts from a state of
its own, computed from its number.
"""
import itertools
import math
import random
from typing import Any, Iterator, Sequence

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import BatchSampler, DataLoader, get_worker_info

from ..registry import HOOKS

# Two streams: reading a batch, which differs by process, and the model.
DATA, MODEL = 0, 1
# Where a checkpoint says what it was written by.
KEY = 'mmattn'


def reseed(*numbers: int) -> None:
    """Seed Python, NumPy and PyTorch, all devices, from whole numbers."""
    words = np.random.SeedSequence(numbers).generate_state(8)
    random.seed(words.tobytes())
    np.random.seed(words)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))


class Reading:
    """Seeds whoever reads a batch with the number of the batch.

    A loader deals its batches out to the workers in turn, so that each worker
    can count. The numbers of a batch are the same for any number of workers,
    none included.

    Args:
        loader: Its ``collate_fn`` and ``worker_init_fn`` are replaced by ones
            that call them.
        seed: Of the run.
        rank: Of this process.
    """

    def __init__(self, loader: DataLoader, seed: int, rank: int):
        self.first = 0  # number of the first batch of a pass
        self._key = (seed, DATA, rank)
        self._collate = loader.collate_fn
        self._init = loader.worker_init_fn
        self._length = math.inf if _is_endless(loader) else len(loader)
        self._number = 0  # of the batch that this worker reads next
        loader.collate_fn = self.collate
        loader.worker_init_fn = self.start
        # Each iterator draws a number, or it would be one of the batch's.
        loader.generator = torch.Generator()

    def seed(self, number: int) -> None:
        reseed(*self._key, number)

    def start(self, worker_id: int) -> None:
        if self._init is not None:
            self._init(worker_id)
        self._number = self.first + worker_id
        self.seed(self._number)

    def collate(self, samples: Sequence) -> Any:
        batch = self._collate(samples)
        worker = get_worker_info()
        if worker is not None:
            self._number += worker.num_workers
            if self._number >= self.first + self._length:
                # The next pass, of a persistent worker.
                self.first += self._length
                self._number = self.first + worker.id
            self.seed(self._number)
        return batch


def _sampler(loader: DataLoader) -> Any:
    """What gives the indices; a loader with batch_sampler hides it."""
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def _is_endless(loader: DataLoader) -> bool:
    return isinstance(_sampler(loader), InfiniteSampler)


class Batches:
    """The batches of an iteration-based loop, from any of them on.

    In place of mmengine's iterator: the releases go to the position of a
    resume in different ways, and do not say where a pass begins.

    Args:
        loader: Gone through again and again.
        reading: Told the number of each batch.
    """

    def __init__(self, loader: DataLoader, reading: Reading):
        self._loader = loader
        self._reading = reading
        # mmengine 0.10.7 has workers running, without our seeds. What they
        # asked for lies in the buckets of mmdet's samplers by aspect ratio,
        # and those wait for ever for a bucket that is full already.
        loader._iterator = None
        for name in ('_aspect_ratio_buckets', '_buckets'):
            for bucket in getattr(loader.batch_sampler, name, ()):
                bucket.clear()
        self._batches = self._from(0)

    def _from(self, number: int) -> Iterator:
        sampler = _sampler(self._loader)
        if _is_endless(self._loader):
            # InfiniteSampler goes on where the last iterator left it.
            samples = number * (self._loader.batch_size or 0)
            sampler.indices = itertools.islice(
                sampler._indices_of_rank(), samples, None)
        for epoch in itertools.count():
            if epoch and hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
            self._reading.first = number
            self._reading.seed(number)
            for batch in self._loader:
                yield batch
                number += 1
                self._reading.seed(number)
            if number == self._reading.first:
                raise ValueError('train_dataloader gives no batch: fewer '
                                 'samples than batch_size and drop_last?')

    def skip_iter(self, count: int) -> None:
        """Pass over the first ``count`` batches, unread where possible."""
        if (_is_endless(self._loader)
                and type(self._loader.batch_sampler) is BatchSampler):
            self._batches = self._from(count)
        else:
            for _ in range(count):
                next(self._batches)

    def pretend(self, count: int) -> None:
        """Answer the next ``count`` calls with nothing."""
        self._batches = itertools.chain(
            itertools.repeat(None, count), self._batches)

    def __next__(self) -> Any:
        return next(self._batches)


@HOOKS.register_module()
class ResumeHook(Hook):
    """Lets a resumed run go on as if it had never stopped.

    Every iteration starts from random numbers of its own, which the run's
    seed and the iteration's number decide: those that read its batch, in the
    workers or not, and those of the model. An iteration-based loop goes to
    the position of the resume without reading what lies before it where its
    sampler is mmengine's InfiniteSampler. Our ``tools/train.py`` installs it.
    """

    # Seeds after all that other hooks may have drawn.
    priority = 'LOWEST'

    def __init__(self):
        self._source = {}

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint[KEY] = dict(processes=runner.world_size)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        self._source = checkpoint.get(KEY, {})

    def before_train(self, runner) -> None:
        loop = runner.train_loop
        self._reading = Reading(loop.dataloader, runner.seed, runner.rank)
        if isinstance(loop, IterBasedTrainLoop):
            batches = Batches(loop.dataloader, self._reading)
            if not hasattr(loop.dataloader_iterator, 'skip_iter'):
                # mmengine 0.10.7 skips by asking for every batch.
                batches.skip_iter(runner.iter)
                batches.pretend(runner.iter)
            loop.dataloader_iterator = batches
        if runner.iter:
            self._note_differences(runner)

    def _note_differences(self, runner) -> None:
        """Say what keeps the resume from being exact."""
        here, there = runner.world_size, self._source.get('processes')
        if there is None:
            runner.logger.warning(
                'the checkpoint was written without mmattn.ResumeHook: the '
                'run goes on from it, but the iterations before it had other '
                'random numbers than those of this run')
        elif there != here:
            runner.logger.warning(
                f'the checkpoint is of a run with {there} process(es) and '
                f'this one has {here}: data order and random numbers are not '
                'those of an uninterrupted run')
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop):
            done = runner.iter - runner.epoch * len(loop.dataloader)
            if done:
                runner.logger.warning(
                    f'the checkpoint lies {done} iteration(s) into epoch '
                    f'{runner.epoch + 1}, which mmengine begins again: only '
                    'a checkpoint at the end of an epoch resumes exactly')

    def before_train_epoch(self, runner) -> None:
        self._reading.first = runner.iter
        self._reading.seed(runner.iter)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        reseed(runner.seed, MODEL, runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None) -> None:
        self._reading.seed(runner.iter + 1)
