"""What is installed, and whether it can be imported.

Imports are tried in a process of their own: a library built for another torch
may end its process instead of raising.
"""
import importlib.metadata as metadata
import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Dict, Iterable, List

ONEDL, OPENMMLAB = 'onedl', 'OpenMMLab'
# Each import package and the distributions known to hold it.
DISTRIBUTIONS = {
    'torch': ('torch', ),
    'torchvision': ('torchvision', ),
    'mmengine': ('mmengine', 'mmengine-lite', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'mmcv-full', 'mmcv-lite', 'onedl-mmcv'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'mmseg': ('mmsegmentation', 'onedl-mmsegmentation'),
    'mmpretrain': ('mmpretrain', 'onedl-mmpretrain'),
}
TOOLBOXES = ('mmdet', 'mmseg', 'mmpretrain')
# The mm packages, in the order in which they need each other.
PACKAGES = ('mmengine', 'mmcv', *TOOLBOXES)

OPS = 'mmcv.ops'
GPU_OPS = 'mmcv.ops on the GPU'
# What is tried for each. ``said`` is what is wanted from it.
TRIALS = {
    'torch': 'import torch; torch.zeros(1).numpy()',
    'torchvision': 'import torch, torchvision\n'
                   'box = torch.zeros(1, 4)\n'
                   'torchvision.ops.nms(box, torch.zeros(1), 0.5)',
    'mmengine': 'import mmengine.runner',
    'mmcv': 'import mmcv.cnn',
    OPS: 'import mmcv.ops; '
         'said = mmcv.ops.get_compiling_cuda_version()',
    GPU_OPS: 'import torch; from mmcv.ops import nms\n'
             'if torch.cuda.is_available():\n'
             '    nms(torch.zeros(1, 4).cuda(), torch.zeros(1).cuda(), 0.5)',
    'mmdet': 'import mmdet.models',
    'mmseg': 'import mmseg.models',
    'mmpretrain': 'import mmpretrain.models',
}
# Says on its own stdout which trial begins and how it ended.
CHILD = '''
import json, os, sys
out = os.fdopen(os.dup(1), 'w')
os.dup2(2, 1)
sys.path[:], trials = json.load(sys.stdin)
for name, code in trials:
    print(json.dumps([name]), file=out, flush=True)
    room, error = dict(said=''), ''
    try:
        exec(code, room)
    except BaseException as e:
        error = type(e).__name__ + ': ' + str(e)
    print(json.dumps([name, error, str(room['said'])]), file=out, flush=True)
'''
PATIENCE = 300


@dataclass(frozen=True)
class Trial:
    """How an import ended: an error, or nothing and what it said."""
    error: str = ''
    said: str = ''


@dataclass
class Stack:
    """What :func:`inspect_stack` found.

    Args:
        owners: For each import package the distributions that hold it, with
            their versions.
        trials: For each entry of ``TRIALS`` that was tried, its end.
    """
    owners: Dict[str, Dict[str, str]]
    trials: Dict[str, Trial] = field(default_factory=dict)

    def version(self, package: str) -> str:
        """Version of a package that has one owner, else ''."""
        owners = self.owners[package]
        return next(iter(owners.values())) if len(owners) == 1 else ''

    def sound(self, package: str) -> bool:
        """Whether a package was tried and can be imported."""
        return package in self.trials and not self.trials[package].error

    def flavour(self) -> str:
        """Which kind most installed mm packages are of."""
        kinds = [flavour(name) for package in PACKAGES
                 for name in self.owners[package]]
        return max((ONEDL, OPENMMLAB), key=kinds.count)


def flavour(distribution: str) -> str:
    """Who publishes a distribution."""
    return ONEDL if distribution.startswith('onedl-') else OPENMMLAB


def _canonical(name: str) -> str:
    return re.sub('[-_.]+', '-', name).lower()


def find_owners() -> Dict[str, Dict[str, str]]:
    """The distributions that hold each import package, with versions."""
    listed = metadata.packages_distributions()
    owners = {}
    for package, known in DISTRIBUTIONS.items():
        names = {*known, *map(_canonical, listed.get(package, ()))}
        owners[package] = {}
        for name in sorted(names):
            try:
                owners[package][name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
    return owners


def _run_child(names: List[str], timeout: int) -> Dict[str, Trial]:
    """Try imports in one process, up to the one that ends it."""
    request = json.dumps([sys.path, [[n, TRIALS[n]] for n in names]])
    try:
        child = subprocess.run(
            [sys.executable, '-c', CHILD], input=request, timeout=timeout,
            capture_output=True, text=True, errors='replace')
        out, log, code = child.stdout, child.stderr, child.returncode
        end = (f'the process died with {signal.Signals(-code).name}'
               if code < 0 else f'the process ended with exit code {code}')
    except subprocess.TimeoutExpired as error:
        out, log = error.stdout or b'', error.stderr or b''
        out, log = (text.decode(errors='replace') for text in (out, log))
        end = f'no end after {timeout} s'
    trials, begun = {}, None
    for line in out.splitlines():
        name, *result = json.loads(line)
        begun = None if result else name
        if result:
            trials[name] = Trial(*result)
    if begun is not None:
        last = log.strip().splitlines()[-1:]
        trials[begun] = Trial(': '.join([end, *last]))
    return trials


def try_imports(names: Iterable[str],
                timeout: int = PATIENCE) -> Dict[str, Trial]:
    """Try to import packages in other processes.

    Args:
        names: Entries of ``TRIALS``.
        timeout: Seconds that a process may take.

    Raises:
        RuntimeError: No Python process could be started.
    """
    left, trials = list(names), {}
    while left:
        done = _run_child(left, timeout)
        if not done:
            raise RuntimeError(f'{sys.executable} does not run')
        trials.update(done)
        left = [name for name in left if name not in trials]
    return trials


def inspect_stack() -> Stack:
    """Look at the installed packages and try to import each."""
    owners = find_owners()
    present = [
        name for name in DISTRIBUTIONS
        if owners[name] or find_spec(name) is not None
    ]
    names = [
        name for name in TRIALS
        if name in present or '.' in name and 'mmcv' in present
    ]
    return Stack(owners, try_imports(names))
