"""Checks of how a config trains."""
import re
from typing import List

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from .config import Case, walk
from .finding import OK, WARNING, Finding
from .weights import starts


def _trains(case: Case) -> bool:
    return bool(case.cfg.get('train_dataloader') and case.cfg.get('train_cfg'))


def has_start(case: Case) -> bool:
    """Whether anything but chance sets the backbone's weights."""
    places = [place for place, _ in starts(case)]
    whole = ('load_from', 'model.init_cfg', 'model.pretrained')
    if case.cfg.get('resume') or any(
            place.startswith((*whole, 'model.backbone')) for place in places):
        return True
    backbone = (case.cfg.get('model') or {}).get('backbone') or {}
    return bool(backbone.get('pretrained'))  # timm's is True


def check_scratch(case: Case) -> List[Finding]:
    """Nothing is frozen that starts at random."""
    backbone = getattr(case.model, 'backbone', None)
    if not _trains(case) or backbone is None or has_start(case):
        return []
    case.model.train()  # where networks freeze
    fixed = []
    if getattr(backbone, 'norm_eval', False) and any(
            isinstance(m, _BatchNorm) for m in backbone.modules()):
        fixed.append(('norm_eval=True', 'norm_eval=False'))
    # Whether 0 freezes the stem or nothing differs from network to network.
    frozen = getattr(backbone, 'frozen_stages', None)
    if isinstance(frozen, int) and frozen >= 0 and not all(
            p.requires_grad for p in backbone.parameters()):
        fixed.append((f'frozen_stages={frozen}', 'frozen_stages=-1'))
    if not fixed:
        return []
    given, better = zip(*fixed)
    return [
        Finding(
            WARNING, 'scratch', 'the backbone starts from random weights (no '
            'init_cfg, pretrained or load_from names a checkpoint) with '
            f'{" and ".join(given)}: batch norms then never see the data\'s '
            'statistics, and frozen layers stay random',
            f'name a checkpoint, or set {" and ".join(better)} in '
            'model.backbone')
    ]


def check_learning_rate(case: Case) -> List[Finding]:
    """The learning rate is for the batch that will be trained with."""
    from ..engine.launch import lr_warning
    if not _trains(case):
        return []
    cfg = case.cfg
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    batch = cfg.train_dataloader.get('batch_size')
    if base is None or batch is None:
        return [
            Finding(OK, 'learning_rate', 'the config does not say which '
                    'batch its learning rate is for '
                    '(auto_scale_lr.base_batch_size)')
        ]
    if case.gpus is not None:
        message = lr_warning(cfg, case.gpus)
        if message is None:
            return [
                Finding(OK, 'learning_rate', f'the learning rate fits '
                        f'{case.gpus} process(es) x batch_size {batch}, or '
                        'is scaled to')
            ]
        parts = re.split('[:;] (?=(?:add|set|switch) )', message)
        return [Finding(WARNING, 'learning_rate', *parts)]
    steps = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    count, left = divmod(base, batch * steps)
    if left or not count:
        return [
            Finding(
                WARNING, 'learning_rate', 'the learning rate is for a total '
                f'batch of {base}, which no number of processes x batch_size '
                f'{batch}'
                f'{f" x accumulative_counts {steps}" if steps > 1 else ""} '
                'gives', 'change train_dataloader.batch_size, or add '
                '--auto-scale-lr')
        ]
    return [
        Finding(OK, 'learning_rate', f'the learning rate is for a total batch '
                f'of {base}: {count} process(es) x batch_size {batch}',
                'with another number add --auto-scale-lr; --gpus N here says '
                'what it gives')
    ]


def check_sync_bn(case: Case) -> List[Finding]:
    """No SyncBN where there is no GPU, nor will be."""
    from ..engine.launch import SYNC_BN, type_name
    if torch.cuda.is_available() or case.gpus or not _trains(case):
        return []
    count = sum(
        type_name(node) in SYNC_BN
        for _, node in walk(case.cfg.get('model'), 'model'))
    count += bool(case.cfg.get('sync_bn'))
    if not count:
        return []
    return [
        Finding(
            WARNING, 'sync_bn', f'{count} setting(s) ask for SyncBN, which '
            'needs GPUs, and this machine has none: a single process and '
            'our tools train with BN, each process on its own batch',
            'train on GPUs, or read the results as those of BN '
            '(--gpus N says that the run will be elsewhere)')
    ]
