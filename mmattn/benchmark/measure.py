"""Run candidates in turn, and say how long each took."""
import math
import statistics
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from ..engine.launch import UsageError
from .candidates import Candidate, num_maps
from .memory import CAN_COUNT, LiveStorages
from .traffic import attended_bytes

MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """How candidates are run.

    Args:
        mode: ``'inference'``, or ``'training'``: a forward and a backward;
            no optimizer.
        size: Height and width of the images, or of a part's map.
        batch: How many.
        channels: Of a map that callables take instead of an image; None is
            3, and what a part says it takes.
        device: ``'cpu'`` or ``'cuda'``.
        amp: None, ``'bf16'`` or ``'fp16'``.
        channels_last: Lay out maps and weights so.
        compiled: Run through ``torch.compile``.
    """
    mode: str
    size: Tuple[int, int] = (224, 224)
    batch: int = 1
    channels: Optional[int] = None
    device: str = 'cpu'
    amp: Optional[str] = None
    channels_last: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Row:
    """What was measured of one candidate; times are of one step.

    ``ratio`` is the median over the rounds of its time over the baseline's
    in the same round. ``q1`` and ``q3`` are quartiles. ``peak_mib`` is what
    a step holds at most beyond parameters and inputs. ``floor_ms`` is one
    read and one write of each attended map; ``over_floor`` is the time beyond
    the baseline's in floors.
    """
    candidate: str
    setting: Setting
    baseline: str
    params_m: float
    ms: float
    ms_q1: float
    ms_q3: float
    images_per_s: float
    ratio: float
    ratio_q1: float
    ratio_q3: float
    peak_mib: Optional[float]
    attended_mib: Optional[float] = None
    floor_ms: Optional[float] = None
    over_floor: Optional[float] = None


def check_device(setting: Setting) -> None:
    """Raise UsageError for what the machine cannot do."""
    if setting.device == 'cuda' and not torch.cuda.is_available():
        raise UsageError('--device cuda: this machine or this build of torch '
                         'has no CUDA device; use --device cpu')
    if setting.amp == 'fp16' and setting.device == 'cpu':
        raise UsageError('--amp fp16 is for CUDA; on a CPU use --amp bf16')


class Case:
    """A candidate in a setting, ready to run: ``step()``."""

    def __init__(self, candidate: Candidate, setting: Setting):
        training = setting.mode == 'training'
        if training and candidate.fused:
            raise UsageError(f'{candidate.text!r} is for inference; give '
                             '--mode inference')
        if setting.compiled and candidate.kind == 'model':
            raise UsageError(
                f'{candidate.text!r} is a whole model, whose pre- and '
                'post-processing does not compile; give CONFIG:backbone')
        torch.manual_seed(0)
        self.label, self.setting = candidate.label, setting
        model = candidate.build().to(setting.device)
        model.train(training)  # mmpretrain's returns None
        if setting.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model = model
        self.params = sum(p.numel() for p in model.parameters())
        self.whole = candidate.kind == 'model'
        if self.whole:
            from .toolboxes import random_batch
            self.inputs: Any = random_batch(model, setting.batch,
                                            setting.size, training)
        else:
            self.inputs = self._maps(candidate)
        self.run = torch.compile(model) if setting.compiled else model

    def _maps(self, candidate: Candidate) -> Any:
        s = self.setting
        channels = s.channels or candidate.channels
        part = candidate.kind == 'part' or s.channels is not None

        def one() -> Tensor:
            x = torch.randn(s.batch, channels, *s.size, device=s.device)
            if s.channels_last:
                x = x.to(memory_format=torch.channels_last)
            # Inside a network a part's input needs a gradient.
            return x.requires_grad_(part and s.mode == 'training')

        count = num_maps(self.model)
        return one() if count is None else tuple(one() for _ in range(count))

    def forward(self) -> Any:
        if not self.whole:
            return self.run(self.inputs)
        if self.setting.mode == 'inference':
            return self.model(**self.inputs, mode='predict')
        from .toolboxes import loss_of
        return loss_of(self.model, self.inputs)

    def step(self) -> None:
        s = self.setting
        dtype = dict(bf16=torch.bfloat16, fp16=torch.float16).get(s.amp)
        training = s.mode == 'training'
        with torch.set_grad_enabled(training), torch.autocast(
                s.device, dtype=dtype, enabled=dtype is not None):
            out = self.forward()
        if not training:
            return
        sum(t.float().mean() for t in tree_flatten(out)[0]
            if isinstance(t, Tensor) and t.requires_grad).backward()
        self.model.zero_grad(set_to_none=True)
        for t in tree_flatten(self.inputs)[0]:
            if isinstance(t, Tensor):
                t.grad = None

    def seconds(self, repeat: int) -> float:
        """Time of one of ``repeat`` steps."""
        if self.setting.device == 'cuda':
            start, end = (
                torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(repeat):
                self.step()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1000 / repeat
        begin = time.perf_counter()
        for _ in range(repeat):
            self.step()
        return (time.perf_counter() - begin) / repeat

    def peak(self) -> Optional[int]:
        """Bytes that a step holds at most; None where nothing can tell."""
        if self.setting.device == 'cuda':
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self.step()
            return torch.cuda.max_memory_allocated() - before
        # A dispatch mode would undo compilation.
        if self.setting.compiled or not CAN_COUNT:
            return None
        with LiveStorages() as storages:
            self.step()
        return storages.peak

    def attended(self) -> int:
        with torch.no_grad():
            return attended_bytes(self.model, self.forward)


def interleave(cases: Sequence[Any], repeats: Sequence[int], rounds: int,
               tick: Callable[[], None]) -> List[List[float]]:
    """Times of each case: all cases once a round, A B A B ...

    What changes on the machine meanwhile hits all alike.
    """
    times: List[List[float]] = [[] for _ in cases]
    for _ in range(rounds):
        for case, repeat, own in zip(cases, repeats, times):
            own.append(case.seconds(repeat))
            tick()
    return times


def compare(candidates: Sequence[Candidate],
            setting: Setting,
            *,
            rounds: int = 20,
            warmup: int = 3,
            min_time: float = 0.05,
            baselines: Sequence[str] = (),
            bandwidth: Optional[float] = None,
            tick: Callable[[], None] = lambda: None) -> List[Row]:
    """Measure candidates in turn, under one setting.

    Args:
        candidates: What to measure.
        setting: How.
        rounds: How often each is timed.
        warmup: Steps of each before.
        min_time: Seconds; shorter steps are repeated within one timing.
        baselines: Labels; a candidate's ratio is to the last of them that
            stands at or before it. Without any, the first candidate.
        bandwidth: Bytes per second, to give floors; None gives none.
        tick: Called after each timing.
    """
    check_device(setting)
    base = baseline_of([c.label for c in candidates], baselines)
    if setting.compiled:
        torch.compiler.reset()  # each setting has the process's limit
    cases = [Case(candidate, setting) for candidate in candidates]
    repeats, peaks = [], []
    for case in cases:
        for _ in range(warmup):
            case.step()
        peaks.append(case.peak())
        repeats.append(max(1, math.ceil(min_time / case.seconds(1))))
    times = interleave(cases, repeats, rounds, tick)
    rows = []
    for i, (case, peak, own) in enumerate(zip(cases, peaks, times)):
        other = times[base[i]]
        ms = _quartiles([1000 * t for t in own])
        ratio = _quartiles([t / u for t, u in zip(own, other)])
        floor = {}
        if bandwidth is not None:
            attended = case.attended()
            floor_ms = 2 * attended / bandwidth * 1000
            beyond = 1000 * statistics.median(
                t - u for t, u in zip(own, other))
            floor = dict(
                attended_mib=attended / MIB,
                floor_ms=floor_ms,
                over_floor=beyond / floor_ms if attended else None)
        rows.append(
            Row(case.label, setting, cases[base[i]].label, case.params / 1e6,
                ms[1], ms[0], ms[2], setting.batch * 1000 / ms[1], ratio[1],
                ratio[0], ratio[2], None if peak is None else peak / MIB,
                **floor))
    return rows


def baseline_of(labels: Sequence[str],
                baselines: Sequence[str]) -> Dict[int, int]:
    """For each candidate the place of what it is compared with.

    Raises:
        UsageError: A label twice; a baseline that is none of them.
    """
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UsageError(f'two candidates are called {", ".join(twice)}; '
                         "give labels, 'NAME := CANDIDATE'")
    unknown = [name for name in baselines if name not in labels]
    if unknown:
        raise UsageError(f'--baseline {", ".join(unknown)} is no label of a '
                         f'candidate; there are {", ".join(labels)}')
    last, found = 0, {}
    for i, label in enumerate(labels):
        last = i if label in baselines else last
        found[i] = last
    return found


def _quartiles(values: Sequence[float]) -> List[float]:
    return statistics.quantiles(values, n=4, method='inclusive')
