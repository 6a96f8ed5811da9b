"""Faults of disks, files and other processes, told in one line each."""
import errno
import logging
import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from typing import Iterator

import torch.distributed
from mmengine.dist import get_rank

from .launch import UsageError
from .resume import last_checkpoint

# No room, no quota, over the limit for one file, mounted read-only.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# Bytes that a folder must take before a run starts.
PROBE = 2**16
# What gloo says where another process is gone or does not answer.
LOST = re.compile('Connection (closed|reset) by peer|Broken pipe|'
                  'Timed out waiting|timeout caused pair closure')


def check_writable(folder: str, what: str) -> None:
    """Make ``folder`` and write to it.

    Raises:
        UsageError: It cannot be made or written, or its disk is full.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE))
    except OSError as error:
        reason = ('it is a file' if isinstance(error, FileExistsError) else
                  error.strerror)
        raise UsageError(
            f'{what} {folder!r} cannot be written: {reason}; name another '
            'with --work-dir') from error


def fail_on_log_errors(logger: logging.Logger) -> None:
    """Let a log file that cannot be written end the run.

    Python prints a traceback for each line that is lost, and goes on.
    """
    def fail(record):
        raise sys.exc_info()[1]

    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = fail


@contextmanager
def disk_errors(work_dir: str) -> Iterator[None]:
    """Turn what a disk refuses inside into one clear error.

    Raises:
        UsageError: A disk is full, over quota or read-only.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UsageError(_advice(error, work_dir)) from error


def _advice(error: OSError, work_dir: str) -> str:
    """What could not be written, why, and how to go on."""
    path = error.filename or work_dir
    folder = path if os.path.isdir(path) else os.path.dirname(path) or '.'
    free = shutil.disk_usage(folder).free / 1e6
    last = last_checkpoint(work_dir)
    return (f'{path} cannot be written ({error.strerror}; {free:.1f} MB free '
            'there). Make room, then start again' +
            (f'; a training goes on with --resume from {last}' if last else
             ''))


@contextmanager
def peer_errors() -> Iterator[None]:
    """Turn what a process says that lost another into one clear error.

    Raises:
        UsageError: Another process is gone, or has not answered in time.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistBackendError)
        if not lost and not LOST.search(str(error)):
            raise
        raise UsageError(
            f'rank {get_rank()} lost another process, which has ended or has '
            'not answered for env_cfg.dist_cfg.timeout seconds '
            f'({str(error).splitlines()[0]}). What that process or the '
            'launcher says tells which and why; a training then goes on with '
            '--resume') from error


@contextmanager
def image_errors() -> Iterator[None]:
    """Turn an image that cannot be read into one clear error.

    Raises:
        UsageError: An image of a dataset is damaged.
    """
    from .images import ImageError
    try:
        yield
    except ImageError as error:
        # A data loader's process puts its traceback before the message.
        message = str(error).rpartition('ImageError: ')[2].strip()
        raise UsageError(message) from error
