"""What a run that is to be resumed goes on from."""
import os
import zipfile
from pathlib import Path
from typing import Iterable, List, Tuple

from mmengine.config import Config

from ..checkpoints import CheckpointError, load_checkpoint_file
from .launch import UsageError, require_file

# What mmengine resumes, besides the optimizer that a run may leave out.
NEEDED = ('meta', 'state_dict', 'message_hub')
# Characters of what a damaged file says.
SHOWN = 200
# A path, what the checkpoint says of its run, lines or names to show.
Found = Tuple[str, dict, List[str]]


def last_checkpoint(work_dir: str) -> str:
    """What the file ``last_checkpoint`` says; nothing where it is missing."""
    path = Path(work_dir, 'last_checkpoint')
    return path.read_text(errors='replace').strip() if path.is_file() else ''


def read_meta(path: str, needed: Tuple[str, ...] = NEEDED) -> dict:
    """Read a checkpoint to the last byte; return what it says of its run.

    A file of ``torch.save`` is held against its checksums, which torch does
    not do: a block of zeros, as a power cut leaves it, would become weights.

    Raises:
        CheckpointError: It is damaged, or no run can go on from it.
    """
    checkpoint = load_checkpoint_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(
                f'{path} is damaged: {damaged} in it does not have its '
                'checksum. Get it again, or take another.')
    missing = needed
    if isinstance(checkpoint, dict):
        missing = [key for key in needed if key not in checkpoint]
    if missing:
        raise CheckpointError(
            f'{path} is not the checkpoint of a run: it has no '
            f'{" and no ".join(missing)}. Weights alone go into load_from.')
    return checkpoint['meta']


def _newest_good(folders: Iterable[str], but: str) -> Found:
    """The newest checkpoint that a run can go on from.

    Args:
        folders: Whose ``*.pth`` are tried.
        but: One that is not.

    Returns:
        Its path, empty where there is none; what it says of its run; the
        files that were passed over.
    """
    paths = [path for folder in folders for path in Path(folder).glob('*.pth')
             if not (os.path.exists(but) and path.samefile(but))]
    passed = []
    for path in sorted(paths, key=os.path.getmtime, reverse=True):
        try:
            meta = read_meta(str(path), (*NEEDED, 'optimizer'))
        except CheckpointError:
            passed.append(path.name)
        else:
            return str(path), meta, passed
    return '', {}, passed


def find(work_dir: str) -> Found:
    """What ``--resume`` goes on from.

    That is the checkpoint named in ``last_checkpoint``, and the newest good
    one beside it where that is damaged.

    Returns:
        Its path, empty where there is none; what it says of its run; what to
        tell the user, one line each.

    Raises:
        UsageError: A run has been here, and none of it can be read.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    named = last_checkpoint(work_dir)
    if os.path.isdir(named):  # written by DeepSpeed
        return named, {}, []
    if not pointer.is_file():
        problem = 'is missing'
    elif not named:
        problem = 'is empty'
    elif not os.path.isfile(named):
        problem = f'names {named[:SHOWN]!r}, which is not a file'
    else:
        try:
            return named, read_meta(named), []
        except CheckpointError as error:
            problem = f'names a checkpoint that is no use: {error}'
    folders = {work_dir, os.path.dirname(named) or work_dir}
    path, meta, passed = _newest_good(filter(os.path.isdir, folders), named)
    others = f' (passed over: {", ".join(passed)})' if passed else ''
    if path:
        return path, meta, [f'{pointer} {problem}. This run goes on from '
                            f'{path}, the newest good checkpoint{others}']
    if pointer.is_file():
        raise UsageError(f'{pointer} {problem}. There is no other checkpoint '
                         f'to resume from{others}; to start from the '
                         f'beginning, remove {pointer}')
    return '', {}, [f'--resume found no checkpoint in {work_dir}{others}: '
                    'this run starts from the beginning']


def check(path: str) -> dict:
    """What the checkpoint of ``--resume FILE`` says of its run.

    Raises:
        UsageError: No run can go on from it; names one that can be had.
    """
    require_file(path, 'checkpoint of --resume')
    try:
        return read_meta(path)
    except CheckpointError as error:
        other, _, _ = _newest_good([os.path.dirname(path) or '.'], path)
        raise UsageError(f'{error} ' + (
            f'The newest good checkpoint beside it: --resume {other}'
            if other else 'There is no good checkpoint beside it.')) from None


def keep_seed(cfg: Config, meta: dict) -> List[str]:
    """Give a resumed run the seed it had, drawn or set, from the start.

    mmengine does so when the loaders, which need it, are built already.

    Args:
        cfg: The config, changed in place.
        meta: What the checkpoint says of its run.

    Returns:
        What to tell the user, one line each.
    """
    seed = meta.get('seed')
    own = cfg.get('randomness') or {}
    if seed is None or own.get('seed') == seed:
        return []
    cfg.randomness = dict(own, seed=seed)
    if own.get('seed') is None:
        return []
    return [f'the run that is resumed has the seed {seed} and keeps it: '
            f'randomness.seed={own["seed"]} of the config is not used']
