"""Train what a config of mmdet, mmsegmentation or mmpretrain describes."""
import argparse
import sys
from typing import List, Optional, Tuple

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from torch.distributed.elastic.multiprocessing.errors import record

import mmattn  # noqa: F401 (config lookups)
from mmattn.checkpoints import CheckpointError, install_safe_loading
from mmattn.engine.faults import (check_writable, disk_errors,
                                  fail_on_log_errors, image_errors,
                                  peer_errors)
from mmattn.engine.launch import (UsageError, build_runner, finish,
                                  load_config, lr_warning, make_parser,
                                  prepare_cpu, type_name)
from mmattn.engine.resume import check, find, keep_seed

RESUME_HOOK = dict(type='mmattn.ResumeHook')
# How configs name the hook that ours takes the place of.
HOST_CHECKPOINT_HOOK = (
    'CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true',
        help='scale the learning rate by total batch / '
        'auto_scale_lr.base_batch_size')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='continue a run from this file; without a value or with '
        '"auto", from the latest checkpoint in the work directory')
    return parser.parse_args(argv)


def enable_amp(cfg: Config, device: str) -> List[str]:
    """Switch the optimizer wrapper to mixed precision.

    Args:
        cfg: The config, changed in place.
        device: Where the run computes.

    Returns:
        What to tell the user, one line each.

    Raises:
        UsageError: No accelerator, or a wrapper of another kind.
    """
    if device == 'cpu':
        raise UsageError(
            '--amp needs a GPU and this machine has none; train without it')
    kind = type_name(cfg.optim_wrapper, 'OptimWrapper')
    if kind == 'AmpOptimWrapper':
        return ['--amp changes nothing: the config has AmpOptimWrapper']
    if kind != 'OptimWrapper':
        raise UsageError(
            f'--amp replaces optim_wrapper.type OptimWrapper, but the config '
            f'has {kind}; set its mixed precision in the config')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.loss_scale = 'dynamic'
    return []


def enable_lr_scaling(cfg: Config) -> None:
    """Switch ``auto_scale_lr`` on; UsageError where its base is missing."""
    if (cfg.get('auto_scale_lr') or {}).get('base_batch_size') is None:
        raise UsageError(
            '--auto-scale-lr needs auto_scale_lr.base_batch_size, the total '
            "batch that the config's learning rate is for; set it in the "
            'config or with --cfg-options')
    cfg.auto_scale_lr.enable = True


def set_resume(cfg: Config, resume: str) -> List[str]:
    """Continue from ``resume``, a checkpoint or ``'auto'``.

    Returns:
        What to tell the user, one line each.

    Raises:
        UsageError: The checkpoint is not a file, or is damaged.
    """
    meta, notes = {}, []
    if resume == 'auto':
        resume, meta, notes = find(cfg.work_dir)
        # Nothing to resume yet: the first start of a job that restarts
        # itself must still read the config's own load_from.
        if not resume:
            cfg.resume = False
            return notes
    elif '://' not in resume:
        meta = check(resume)
    cfg.resume = True
    cfg.load_from = resume
    return notes + keep_seed(cfg, meta)


def set_hooks(cfg: Config) -> None:
    """Add what a run needs to be stopped at any moment and resumed."""
    hooks = list(cfg.get('custom_hooks') or [])
    if RESUME_HOOK not in hooks:  # as in a config dumped by an earlier run
        cfg.custom_hooks = [*hooks, RESUME_HOOK]
    defaults = dict(cfg.get('default_hooks') or {})
    own = defaults.get('checkpoint', dict(type='CheckpointHook', interval=1))
    if own and own.get('type') in HOST_CHECKPOINT_HOOK:
        defaults['checkpoint'] = dict(own, type='mmattn.AtomicCheckpointHook')
        cfg.default_hooks = defaults


def prepare(args: argparse.Namespace) -> Tuple[Config, List[str]]:
    """Read the config and apply the arguments.

    Returns:
        The config and what to tell the user, one line each.
    """
    cfg = load_config(args)
    set_hooks(cfg)
    notes = enable_amp(cfg, get_device()) if args.amp else []
    if args.auto_scale_lr:
        enable_lr_scaling(cfg)
    if args.resume is not None:
        notes += set_resume(cfg, args.resume)
    check_writable(cfg.work_dir, 'work directory')
    notes += prepare_cpu(cfg)
    return cfg, notes


def run(cfg: Config, notes: List[str]) -> None:
    """Build the Runner, log the notes and train."""
    runner = build_runner(cfg)
    fail_on_log_errors(runner.logger)
    warning = lr_warning(cfg, runner.world_size)
    for note in notes + [warning] * (warning is not None):
        runner.logger.warning(note)  # printed by rank 0, kept in the log
    runner.train()


@record
def main() -> None:
    args = parse_args()
    install_safe_loading()
    try:
        cfg, notes = prepare(args)
        with disk_errors(cfg.work_dir), peer_errors(), image_errors():
            run(cfg, notes)
    except (UsageError, CheckpointError) as error:
        sys.exit(f'train.py: error: {error}')
    finish()


if __name__ == '__main__':
    main()
