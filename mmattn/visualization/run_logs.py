"""What the logs of training runs say."""
import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

from ..engine.launch import UsageError

# Of a line of a log, what is no result.
CLOCKS = ('data_time', 'epoch', 'eta', 'iter', 'memory', 'step', 'time')
RATES = ('lr', 'base_lr')
GROUPS = ('Losses', 'Metrics', 'Learning rate', 'Gates', 'Others')
GATES = 'gates/'  # what GateHealthHook logs

# Places in a training and values there.
Curve = List[Tuple[int, float]]


class Run(NamedTuple):
    """What a log says."""
    name: str
    log: Path
    curves: Dict[str, Dict[str, Curve]]  # by group and name
    lines: int
    earlier: int  # runs of the same work dir that are not shown
    epochs: Dict[int, int]  # of an iteration, where the log says so


def find_logs(work_dir: Path) -> List[Path]:
    """The logs in a work dir, or in one run's folder of it, oldest first.

    mmengine names a run's folder by its time and writes the same lines to
    ``vis_data/scalars.json`` and, the lines of tests included, to
    ``vis_data/<time>.json`` (training) or ``<time>.json`` (tests).

    Raises:
        UsageError: There is no such folder, or no log in it.
    """
    if not work_dir.is_dir():
        raise UsageError(f'work dir {str(work_dir)!r} is not a folder; check '
                         'the path')
    folders = [work_dir, *sorted(p for p in work_dir.iterdir() if p.is_dir())]
    logs = []
    for folder in folders:
        found = [
            log for log in (
                folder / 'vis_data' / 'scalars.json',
                folder / 'vis_data' / f'{folder.name}.json',
                folder / f'{folder.name}.json') if log.is_file()
        ]
        logs += found[:1]
    if not logs:
        raise UsageError(
            f'work dir {str(work_dir)!r} holds no log (TIME/vis_data/'
            'scalars.json or TIME/TIME.json, where TIME is a run\'s folder); '
            'give the folder that a training wrote to')
    return logs


def read_lines(log: Path) -> List[dict]:
    """The lines of a log.

    Raises:
        UsageError: One is damaged; says which.
    """
    lines = []
    text = log.read_text(encoding='utf-8', errors='replace')
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            entry = error
        if not isinstance(entry, dict):
            raise UsageError(
                f'{log}, line {number}: {line[:60]!r} is not a JSON object '
                '(one for each line is the format); if a crash cut it off, '
                'take the line out')
        lines.append(entry)
    return lines


def _group(key: str, training: bool) -> str:
    if key.startswith(GATES):
        return 'Gates'
    last = key.split('/')[-1].split('.')[-1]
    if last in RATES:
        return 'Learning rate'
    if not training:
        return 'Metrics'
    return 'Losses' if 'loss' in last else 'Others'


def _is_training(line: dict) -> bool:
    return 'iter' in line or any(
        key.split('/')[-1] in RATES for key in line)


def _curves(lines: Sequence[dict]):
    """Curves by group and name, and the epochs of iterations.

    A metric's own ``step`` counts epochs or iterations, or stays 0, as the
    logger's options have it. So it stands at the last training line before;
    the hook that logs gates counts iterations.
    """
    curves: Dict[str, Dict[str, Curve]] = {group: {} for group in GROUPS}
    epochs: Dict[int, int] = {}
    place = 0
    for line in lines:
        training = _is_training(line)
        if training:
            place = line.get('step', line.get('iter', place))
            if 'epoch' in line:
                epochs[place] = line['epoch']
        for key, value in line.items():
            number = isinstance(value, (int, float)) and not isinstance(
                value, bool)
            if number and key not in CLOCKS:
                group = _group(key, training)
                at = line.get('step', place) if group == 'Gates' else place
                curves[group].setdefault(key, []).append((at, float(value)))
    return curves, epochs


def read_run(work_dir: Path, name: str) -> Run:
    """The newest training of a work dir, and the tests after it.

    The metrics of these are called ``test NAME`` and stand at its end. Where
    there is no training, the newest test is the run.

    Raises:
        UsageError: No log, a damaged one, or one without numbers.
    """
    logs = find_logs(work_dir)
    tests: List[dict] = []
    for log in reversed(logs):
        lines = read_lines(log)
        if any(map(_is_training, lines)):
            break
        tests = [
            {key if key in CLOCKS else f'test {key}': value
             for key, value in line.items()} for line in lines
        ] + tests
    else:
        log, tests = logs[-1], []
        lines = read_lines(log)
    curves, epochs = _curves([*lines, *tests])
    if not any(curves.values()):
        raise UsageError(f'{log} holds no losses and no metrics; the run '
                         'may have ended before its first line')
    return Run(name, log, curves, len(lines), logs.index(log), epochs)
