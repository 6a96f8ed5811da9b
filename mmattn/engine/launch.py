"""What tools/train.py and tools/test.py do before and around a Runner.

Imports torch and mmengine only: the tools serve configs of any toolbox.
"""
import argparse
import datetime
import gc
import inspect
import os
from pathlib import Path
from typing import List, Optional

import torch.distributed
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import MODEL_WRAPPERS, RUNNERS
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel

from .configs import require_file  # noqa: F401  (the tools find it here)
from .configs import Options, UsageError, read_config, require_model

REPORT_HOOK = dict(type='mmattn.LoadReportHook')
# Names and classes that ask for batch statistics over all processes.
SYNC_BN = ('SyncBN', 'MMSyncBN', 'SyncBatchNorm')
# Where the data of a config is, unless --cfg-options data_root says so.
DATA_ROOT = 'MMATTN_DATA_ROOT'
# What each launcher tells its processes.
LAUNCHER_VARIABLES = dict(
    pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE')


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments both tools have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help='folder for logs and results; default: work_dir '
        'of the config, else ./work_dirs/<name of the config file>')
    parser.add_argument(
        '--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
        help='entries that replace those of the config, such as '
        'optim_wrapper.optimizer.lr=0.01; lists as key="[1,2]"; data_root '
        'moves all paths below it')
    parser.add_argument(
        '--launcher', choices=['none', *LAUNCHER_VARIABLES], default='none',
        help='what started the processes of a distributed run')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0,
        help='set by old launchers; LOCAL_RANK of the environment wins')
    return parser


def type_name(node: dict, default: str = '') -> str:
    """Return the bare class name in ``node['type']``, string or class."""
    kind = node.get('type', default)
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def _data_roots(node) -> set:
    """Every ``data_root`` below a config node."""
    if isinstance(node, dict):
        here = {v for k, v in node.items() if k == 'data_root' and v}
        return here.union(*map(_data_roots, node.values()))
    if isinstance(node, (list, tuple)):
        return set().union(*map(_data_roots, node))
    return set()


def _moved(node, old: str, new: str):
    """The node with every path at or below ``old`` put below ``new``."""
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = _moved(value, old, new)
    elif isinstance(node, (list, tuple)):
        return type(node)(_moved(value, old, new) for value in node)
    elif isinstance(node, str) and (node + '/').startswith(old + '/'):
        return new + node[len(old):]
    return node


def set_data_root(cfg: Config, root: str) -> None:
    """Move the data of a config to another folder.

    A config copies its ``data_root`` into datasets and evaluators while it is
    read, so all paths below it are changed.

    Args:
        cfg: The config, changed in place.
        root: The folder that holds the data.

    Raises:
        UsageError: The config's datasets do not share one root.
    """
    loaders = [cfg.get(f'{split}_dataloader')
               for split in ('train', 'val', 'test')]
    roots = {root.rstrip('/') for root in _data_roots(loaders)}
    if len(roots) != 1:
        raise UsageError(
            f'data_root (or {DATA_ROOT}) moves the one root that all datasets '
            f'of a config share, and this config has {sorted(roots)}; set '
            'train_dataloader.dataset.data_root and its like instead')
    _moved(cfg._cfg_dict, roots.pop(), root.rstrip('/'))


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply what both tools' arguments say.

    Args:
        args: Parsed arguments of :func:`make_parser`.

    Raises:
        UsageError: The config cannot be read, the launcher named did not
            start this process, or the data cannot be moved.
    """
    variable = LAUNCHER_VARIABLES.get(args.launcher)
    if variable and variable not in os.environ:
        raise UsageError(
            f'--launcher {args.launcher} needs the environment variable '
            f'{variable}, which its launcher sets; start the job with '
            'tools/dist_*.sh, tools/slurm_*.sh or mpirun')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    options = args.cfg_options or {}
    root = options.get('data_root', os.environ.get(DATA_ROOT))
    if root is not None:
        set_data_root(cfg, root)
    cfg.merge_from_dict(options)
    cfg.launcher = args.launcher
    if (cfg.get('randomness') or {}).get('deterministic'):
        # Without it PyTorch refuses matrix products on a GPU.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    hooks = list(cfg.get('custom_hooks') or [])
    # A config dumped by an earlier run has the hook already.
    if REPORT_HOOK not in hooks:
        hooks.append(REPORT_HOOK)
    cfg.custom_hooks = hooks
    return cfg


def revert_sync_bn(node) -> int:
    """Replace every SyncBN in a model config by BN, in place.

    Args:
        node: A config dict or list of any depth, or any leaf of one.

    Returns:
        How many were replaced.
    """
    if isinstance(node, dict):
        found = type_name(node) in SYNC_BN
        if found:
            node['type'] = 'BN'
        return found + sum(revert_sync_bn(v) for v in node.values())
    if isinstance(node, (list, tuple)):
        return sum(revert_sync_bn(v) for v in node)
    return 0


def wrapper_for_cpu(cfg: Config) -> ConfigDict:
    """Return the ``model_wrapper_cfg`` that wraps a model on the CPU.

    The Runner passes the local rank as device unless the config names
    ``device_ids`` itself. The user's other settings stay, and so does a
    wrapper that is no DistributedDataParallel.
    """
    wrapper = ConfigDict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    own = cfg.get('model_wrapper_cfg') or {}
    kind = own.get('type', wrapper.type)
    if isinstance(kind, str):
        kind = MODEL_WRAPPERS.get(kind)
    if not (inspect.isclass(kind)
            and issubclass(kind, DistributedDataParallel)):
        return own
    wrapper.update(own)
    wrapper.device_ids = None
    return wrapper


def prepare_cpu(cfg: Config) -> List[str]:
    """Start gloo where a distributed run finds no accelerator.

    mmengine selects a CUDA device before it starts a process group, so
    without one the group must exist before the Runner. With an accelerator,
    or without a launcher, nothing is done.

    Args:
        cfg: The config, changed in place.

    Returns:
        What was changed, one line each.

    Raises:
        UsageError: The launcher is not ``pytorch``.
    """
    if cfg.launcher == 'none' or get_device() != 'cpu':
        return []
    if cfg.launcher != 'pytorch':
        raise UsageError(
            f'--launcher {cfg.launcher} needs GPUs and this machine has '
            'none; CPU processes are started by tools/dist_*.sh')
    notes = []
    count = revert_sync_bn(cfg.model)
    if cfg.get('sync_bn'):
        cfg.sync_bn = None
        count += 1
    if count:
        notes.append(f'SyncBN needs GPUs: {count} setting(s) of the config '
                     'changed to BN for this CPU run')
    cfg.model_wrapper_cfg = wrapper_for_cpu(cfg)
    options = {}
    timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
    if timeout is not None:
        options['timeout'] = datetime.timedelta(seconds=timeout)
    torch.distributed.init_process_group('gloo', **options)
    return notes


def build_runner(cfg: Config) -> Runner:
    """Build the Runner, or the class that ``runner_type`` names.

    Raises:
        UsageError: The config has no model.
    """
    from .images import check_runner
    require_model(cfg)
    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    return check_runner(build(cfg))


def finish() -> None:
    """Close the process group, where there is one.

    Call it when nothing holds the Runner any more. A wrapped model that
    lives until the interpreter ends keeps gloo's threads alive as long, and
    now and then these abort a process that has done its work.
    """
    gc.collect()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def lr_warning(cfg: Config, processes: int) -> Optional[str]:
    """Compare the run's total batch with the one the learning rate is for.

    The total is ``processes * batch_size * accumulative_counts``; the
    learning rate belongs to ``auto_scale_lr.base_batch_size``.

    Args:
        cfg: The training config.
        processes: How many processes train together.

    Returns:
        The warning, or None where the rate fits, will be scaled to fit, or
        the config does not say which batch it is for.
    """
    scale = cfg.get('auto_scale_lr') or {}
    base = scale.get('base_batch_size')
    batch = (cfg.get('train_dataloader') or {}).get('batch_size')
    if base is None or batch is None:
        return None
    wrapper = cfg.get('optim_wrapper') or {}
    steps = wrapper.get('accumulative_counts', 1)
    total = processes * batch * steps
    sizes = f'{processes} process(es) x batch_size {batch}'
    if steps != 1:
        sizes += f' x accumulative_counts {steps}'
    lr = (wrapper.get('optimizer') or {}).get('lr')
    if lr is None:
        rule = f'{total / base:g} times the learning rate'
    else:
        rule = f'lr={lr * total / base:g} instead of {lr:g}'
    if scale.get('enable', False):
        if steps == 1:
            return None
        # mmengine's own scaling counts processes and batch_size only.
        return (f'auto_scale_lr scales for a batch of {processes * batch} '
                f'and does not count accumulative_counts: the total batch '
                f'is {total} ({sizes}), for which the linear rule gives '
                f'{rule}; switch auto_scale_lr off and set '
                'optim_wrapper.optimizer.lr')
    if total == base:
        return None
    advice = ('add --auto-scale-lr' if steps == 1 else
              'set optim_wrapper.optimizer.lr (--auto-scale-lr does not '
              'count accumulative_counts)')
    return (f'the learning rate of the config is for a total batch of {base}'
            f' (auto_scale_lr.base_batch_size), this run has {total} '
            f'({sizes}); the linear rule gives {rule}: {advice}')
