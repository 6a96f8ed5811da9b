"""Looks for what keeps a config, or the whole stack, from working."""
from pathlib import Path
from typing import List, Optional, Union

from mmengine.config import Config

from .config import Case, check_model, read_config
from .data import check_data
from .environment import ENVIRONMENT_CHECKS
from .finding import FATAL, OK, WARNING, Finding, run_checks
from .gpu import check_gpu
from .names import check_types
from .shapes import check_build, check_shapes
from .stack import TOOLBOXES, inspect_stack
from .training import check_learning_rate, check_scratch, check_sync_bn
from .weights import check_weights

__all__ = ['Finding', 'diagnose', 'FATAL', 'OK', 'WARNING']

# Those that build the model come behind the one that looks names up.
CONFIG_CHECKS = (check_model, check_types, check_weights, check_data,
                 check_learning_rate, check_sync_bn)
MODEL_CHECKS = (check_build, check_shapes, check_scratch)


def diagnose(config: Union[None, str, Path, Config] = None,
             gpus: Optional[int] = None,
             offline: bool = False,
             options: Optional[dict] = None) -> List[Finding]:
    """Check the installed stack and, where one is given, a config.

    Args:
        config: A path, ``'mmdet::folder/name.py'``, or a config that was
            read; None for the stack alone.
        gpus: How many processes will train.
        offline: Ask no server whether it has the weights.
        options: Entries that replace those of the config.

    Returns:
        What was found, the stack first.

    Raises:
        FileNotFoundError: ``config`` names no file.
    """
    stack = inspect_stack()
    cfg, findings = None, []
    if config is not None:
        cfg, findings = read_config(config, stack, options)
    needed = set()
    if cfg is not None:
        needed = {cfg.get('default_scope')} & set(TOOLBOXES)
    environment = run_checks((*ENVIRONMENT_CHECKS, check_gpu), stack, needed)
    findings = environment + findings
    if cfg is None:
        return findings
    case = Case(cfg, stack, gpus, offline)
    findings += run_checks(CONFIG_CHECKS, case)
    if not any(f.severity == FATAL and f.check in ('model', 'types', 'imports')
               for f in findings):
        findings += run_checks(MODEL_CHECKS, case)
    return findings
