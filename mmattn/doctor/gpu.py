"""Checks of the GPUs against torch and mmcv."""
import shutil
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import torch

from .environment import INSTALL, REBUILD, severity_of
from .finding import FATAL, OK, WARNING, Finding
from .stack import GPU_OPS, OPS, Stack

DRIVER = Path('/proc/driver/nvidia/version')


def runs_on(archs: Sequence[str], capability: Tuple[int, int]) -> bool:
    """Whether a torch built for ``archs`` has kernels for a GPU.

    Machine code (``sm_86``) runs on its own minor version and later ones of
    the same major; intermediate code (``compute_90``) on all later GPUs.
    """
    major, minor = capability
    for arch in archs:
        kind, _, number = arch.partition('_')
        digits = ''.join(c for c in number if c.isdigit())
        built = int(digits[:-1]), int(digits[-1])
        if number != digits:  # sm_90a: that GPU only
            fits = built == capability
        elif kind == 'sm':
            fits = built[0] == major and built[1] <= minor
        else:
            fits = built <= capability
        if fits:
            return True
    return False


def _without_cuda() -> Optional[Finding]:
    """What hides an NVIDIA GPU from torch, where there is one."""
    if not DRIVER.exists() and shutil.which('nvidia-smi') is None:
        return None
    if torch.version.cuda is None:
        return Finding(
            WARNING, 'gpu', f'this machine has an NVIDIA driver and torch '
            f'{torch.__version__} is a build without CUDA: all runs use the '
            'CPU', 'install the CUDA build of torch and torchvision, and an '
            'mmcv built against it')
    return Finding(
        WARNING, 'gpu', f'torch is built for CUDA {torch.version.cuda} and '
        'sees no GPU, although there is an NVIDIA driver',
        'look at nvidia-smi and CUDA_VISIBLE_DEVICES; a driver older than '
        'that CUDA needs an update, or a torch for an older CUDA')


def check_gpu(stack: Stack, needed: set) -> List[Finding]:
    """torch and mmcv have kernels for every GPU."""
    if not torch.cuda.is_available():
        return [_without_cuda() or Finding(OK, 'gpu', 'no GPU: runs use the '
                                           'CPU')]
    findings = []
    archs = torch.cuda.get_arch_list()
    for i in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(i)
        major, minor = torch.cuda.get_device_capability(i)
        if torch.version.hip is None and not runs_on(archs, (major, minor)):
            findings.append(
                Finding(
                    FATAL, 'gpu', f'GPU {i} ({name}) is sm_{major}{minor} '
                    f'and this torch has kernels for {", ".join(archs)}',
                    'install a torch build that lists this architecture '
                    '(newer GPUs need newer CUDA builds)'))
        else:
            findings.append(
                Finding(OK, 'gpu', f'GPU {i} is {name}, sm_{major}{minor}'))
    return findings + _check_ops(stack, needed)


def _check_ops(stack: Stack, needed: set) -> List[Finding]:
    """mmcv's operators on the GPUs, where they can be imported."""
    if not stack.sound(OPS):
        return []
    severity = severity_of(OPS, stack, needed)
    rebuild = REBUILD.format(mmcv=INSTALL[stack.flavour()]['mmcv'])
    built = stack.trials[OPS].said
    cuda = torch.version.cuda
    if built == 'not available':
        return [
            Finding(severity, 'gpu', 'mmcv\'s operators were built without '
                    'CUDA: NMS, RoIAlign and the like fail on the GPU',
                    rebuild + ' with FORCE_CUDA=1')
        ]
    error = stack.trials.get(GPU_OPS)
    if error is not None and error.error:
        shown = ' '.join(error.error.split())
        fix = rebuild + (' with TORCH_CUDA_ARCH_LIST of these GPUs'
                         if 'no kernel image' in shown else '')
        return [
            Finding(severity, 'gpu', 'mmcv\'s NMS, built for CUDA '
                    f'{built}, fails on the GPU: {shown}', fix)
        ]
    if cuda and built and built.split('.')[0] != cuda.split('.')[0]:
        return [
            Finding(WARNING, 'gpu', f'mmcv was built for CUDA {built}, torch '
                    f'for {cuda}', rebuild)
        ]
    return []
