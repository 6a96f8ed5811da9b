"""Checkpoints that are whole, or not there."""
import os
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import ContextManager, Iterator, Optional

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook

from ..registry import HOOKS
from .faults import check_writable

BACKEND = 'mmattn.whole'
# Ends the name of a file until all of it is on the disk.
UNFINISHED = '.unfinished'


@register_backend(BACKEND)
class WholeFileBackend(LocalBackend):
    """Local files that have their name only once they are complete."""

    def __init__(self):
        self._condemned: Optional[list] = None

    def put(self, obj: bytes, filepath: str) -> None:
        unfinished = f'{filepath}{UNFINISHED}'
        os.makedirs(os.path.dirname(unfinished), exist_ok=True)
        try:
            with open(unfinished, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())  # or a power cut leaves zeros
            os.replace(unfinished, filepath)
        except OSError as error:
            Path(unfinished).unlink(missing_ok=True)
            size = f'{len(obj) / 1e6:.1f} MB to write'
            raise OSError(error.errno, f'{error.strerror}, {size}',
                          str(filepath)) from error

    def remove(self, filepath: str) -> None:
        if self._condemned is None:
            super().remove(filepath)
        else:
            self._condemned.append((filepath, os.stat(filepath)))

    @contextmanager
    def removing_last(self) -> Iterator[None]:
        """Put off what is removed inside; an error calls it off."""
        self._condemned = condemned = []
        try:
            yield
        finally:
            self._condemned = None
        for filepath, before in condemned:
            if os.path.samestat(os.stat(filepath), before):  # not replaced
                self.remove(filepath)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's hook, safe from being interrupted at any moment.

    A checkpoint gets its name when all of it is on the disk; what
    ``max_keep_ckpts`` or ``save_best`` replace is removed after that, so that
    the disk holds one more for a moment. Files that are not local are written
    as mmengine writes them. Our ``tools/train.py`` puts it in the place of
    mmengine's.
    """

    def before_train(self, runner) -> None:
        folder = str(self.out_dir or runner.work_dir)
        plain = self.backend_args is None and self.file_client_args is None
        if plain and '://' not in folder:
            self.backend_args = dict(backend=BACKEND)
        super().before_train(runner)
        if isinstance(self.file_backend, WholeFileBackend):
            check_writable(self.out_dir, 'checkpoint folder')
            if is_main_process():
                for path in Path(self.out_dir).glob('*' + UNFINISHED):
                    path.unlink()

    def after_train_iter(self, *args, **kwargs) -> None:
        with self._removing_last():
            super().after_train_iter(*args, **kwargs)

    def after_train_epoch(self, *args, **kwargs) -> None:
        with self._removing_last():
            super().after_train_epoch(*args, **kwargs)

    def after_val_epoch(self, *args, **kwargs) -> None:
        with self._removing_last():
            super().after_val_epoch(*args, **kwargs)

    def _removing_last(self) -> ContextManager:
        # validation without training has no backend
        backend = getattr(self, 'file_backend', None)
        if isinstance(backend, WholeFileBackend):
            return backend.removing_last()
        return nullcontext()
