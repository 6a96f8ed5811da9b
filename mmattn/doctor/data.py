"""Whether the data of a config is there."""
import os
from pathlib import Path
from typing import Iterator, List, Tuple

from .config import Case, walk
from .finding import FATAL, OK, Finding

SPLITS = ('train', 'val', 'test')


def _remote(path: str) -> bool:
    return '://' in path or path.split(':')[0] in ('s3', 'petrel', 'http')


def _paths(path: str, node: dict) -> Iterator[Tuple[str, str]]:
    """Files and folders of one dataset, each with its place in the config."""
    root = node.get('data_root') or ''
    names = [('ann_file', node.get('ann_file'))]
    prefixes = node.get('data_prefix')
    if isinstance(prefixes, dict):
        names += [(f'data_prefix.{k}', v) for k, v in prefixes.items()]
    else:
        names.append(('data_prefix', prefixes))
    for key, name in names:
        if isinstance(name, str) and name:
            yield f'{path}.{key}', os.path.join(root, name)


def check_data(case: Case) -> List[Finding]:
    """Folders and annotation files of datasets and evaluators exist.

    A dataset without an existing ``data_root`` is one finding, whatever else
    is missing below it. Storage backends and datasets that download
    themselves are left alone.
    """
    missing, seen = {}, 0
    for split in SPLITS:
        for kind in ('dataloader', 'evaluator'):
            for path, node in walk(case.cfg.get(f'{split}_{kind}'),
                                   f'{split}_{kind}'):
                if node.get('backend_args') or _downloads(node):
                    continue
                for place, name in _wanted(path, node):
                    seen += 1
                    if not _remote(name) and not Path(name).exists():
                        missing.setdefault(name, []).append(place)
    if not missing:
        return [Finding(OK, 'data', 'files and folders of the datasets are '
                        'there')] if seen else []
    return _report(missing)


def _downloads(node: dict) -> bool:
    """CIFAR and MNIST fetch themselves where they are missing."""
    kind = node.get('type')
    kind = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return kind.split('.')[-1] in ('CIFAR10', 'CIFAR100', 'MNIST',
                                   'FashionMNIST')


def _wanted(path: str, node: dict) -> Iterator[Tuple[str, str]]:
    root = node.get('data_root')
    if isinstance(root, str) and root and 'type' in node:
        yield f'{path}.data_root', root
    if '.pipeline' not in path:
        yield from _paths(path, node)


def _report(missing: dict) -> List[Finding]:
    roots = {
        name for name, places in missing.items()
        if any(place.endswith('.data_root') for place in places)
    }
    findings = []
    for name, places in missing.items():
        below = any(
            name != root and Path(root) in Path(name).parents
            for root in roots)
        if below:
            continue
        more = f' and {len(places) - 1} more' if len(places) > 1 else ''
        fix = ('put the data there or link it, or name another folder with '
               'MMATTN_DATA_ROOT or --cfg-options data_root=PATH'
               if name in roots else 'correct the entry, or complete the data')
        findings.append(
            Finding(FATAL, 'data', f'{name} does not exist, looked for from '
                    f'{os.getcwd()} ({places[0]}{more})', fix))
    return findings
