"""Gates in the logs of a training run."""
from contextlib import ExitStack
from typing import Any, Dict, List, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

from ..checks import is_int
from ..registry import HOOKS
from . import stats
from .record import Record, record


def gate_health(model: nn.Module, kept: Record) -> Dict[str, float]:
    """Saturation, dead channels and entropy of each stage's gates.

    Args:
        model: What was recorded.
        kept: The record.

    Returns:
        ``<stage>/saturation``, ``/dead_channels``, ``/entropy``, means over
        the stage's gates, and ``<stage>/recycled``, the mean share that its
        links took from the previous attention; ``stats`` defines them.
    """
    found: Dict[str, List[float]] = {}
    for name in stats.outermost(kept.weights):
        module = model.get_submodule(name)
        for weights in kept.weights[name]:
            tensors = stats.gates(module, weights)
            if tensors is None:
                continue
            values = dict(
                saturation=stats.saturation(tensors),
                dead_channels=stats.dead(stats.highest(tensors)),
                entropy=stats.entropy(
                    tensors, stats.shares_out(module, weights)))
            for key, value in values.items():
                found.setdefault(f'{stats.group_of(name)}/{key}',
                                 []).append(value)
    for name, shares in kept.shares.items():
        found.setdefault(f'{stats.group_of(name)}/recycled', []).extend(
            each.mean().item() for each in shares)
    return {key: sum(values) / len(values) for key, values in found.items()}


@HOOKS.register_module()
class GateHealthHook(Hook):
    """Logs every ``interval`` iterations how a network's gates are doing.

    ``gates/<stage>/saturation``, ``/dead_channels``, ``/entropy`` and, of
    linked networks, ``/recycled`` go to every visualisation backend of the
    run (files, TensorBoard, ...). They describe the main process's batch of
    that iteration; the others cost nothing. What is added to a map (GC) is
    no gate. In a config::

        custom_hooks = [dict(type='mmattn.GateHealthHook', interval=50)]

    Args:
        interval: Iterations from one to the next.

    Raises:
        ValueError: ``interval`` is no positive integer; when training starts,
            the model has no attention or fusion.
    """

    # Before the hooks that validate and save.
    priority = 'NORMAL'

    def __init__(self, interval: int = 50):
        if not is_int(interval) or interval < 1:
            raise ValueError(
                f'interval must be a positive integer, got {interval!r}')
        self.interval = interval
        self._open = ExitStack()
        self._kept: Optional[Record] = None

    @staticmethod
    def _model(runner: Any) -> nn.Module:
        wrapped = is_model_wrapper(runner.model)
        return runner.model.module if wrapped else runner.model

    def before_train(self, runner: Any) -> None:
        self.after_train(runner)  # a run that an error ended
        with record(self._model(runner)) as kept:
            if not kept.names:
                raise ValueError(
                    'GateHealthHook found no attention or fusion that decides '
                    'anything in this model; give the backbone one '
                    "(attention=dict(type='SE')), or drop the hook")

    def before_train_iter(self, runner: Any, batch_idx: int,
                          data_batch: Any = None) -> None:
        if (runner.iter + 1) % self.interval == 0 and is_main_process():
            self._kept = self._open.enter_context(
                record(self._model(runner)))

    def after_train_iter(self, runner: Any, batch_idx: int,
                         data_batch: Any = None,
                         outputs: Any = None) -> None:
        if self._kept is None:
            return
        kept, self._kept = self._kept, None
        self._open.close()
        health = gate_health(self._model(runner), kept)
        if not health:
            runner.logger.warning(
                'GateHealthHook: what this model decides is added to its '
                'maps (GC, A2); there are no gates to log')
            return
        runner.visualizer.add_scalars(
            {f'gates/{key}': value for key, value in health.items()},
            step=runner.iter + 1)

    def after_train(self, runner: Any) -> None:
        self._open.close()
        self._kept = None
