"""Tables, files and plots of what was measured."""
import csv
import datetime
import importlib
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from ..engine.launch import UsageError
from .candidates import need
from .measure import Row

# Column, how it is written, and whether it is left out where all are empty.
COLUMNS = (
    ('candidate', '{}'), ('mode', '{}'), ('size', '{}'), ('batch', '{}'),
    ('options', '{}'), ('params_m', '{:.2f}'), ('ms', '{:.2f}'),
    ('ms_q1', '{:.2f}'), ('ms_q3', '{:.2f}'), ('images_per_s', '{:.1f}'),
    ('ratio', '{:.3f}'), ('ratio_q1', '{:.3f}'), ('ratio_q3', '{:.3f}'),
    ('baseline', '{}'), ('peak_mib', '{:.1f}'), ('attended_mib', '{:.1f}'),
    ('floor_ms', '{:.2f}'), ('over_floor', '{:.2f}'))
OPTIONAL = ('options', 'peak_mib', 'attended_mib', 'floor_ms', 'over_floor')


def environment(device: str, argv: Sequence[str]) -> Dict[str, str]:
    """What a reader needs to judge the numbers."""
    found = dict(
        command='python tools/benchmark.py ' + shlex.join(argv),
        date=datetime.date.today().isoformat(),
        cpu=f'{_cpu()}, {len(os.sched_getaffinity(0))} cores, '
        f'{torch.get_num_threads()} threads',
        python=platform.python_version())
    if device == 'cuda':
        found['gpu'] = (f'{torch.cuda.get_device_name()}, CUDA '
                        f'{torch.version.cuda}')
    for name in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain',
                 'timm', 'torchvision'):
        if name in sys.modules:  # what this run used
            module = importlib.import_module(name)
            found[name] = getattr(module, '__version__', 'unknown')
    return found


def _cpu() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [x.partition(':')[2].strip() for x in lines if 'model name' in x]
    return names[0] if names else platform.processor() or 'unknown'


def record(row: Row) -> Dict[str, Any]:
    """A row as one value for each column."""
    s = row.setting
    options = [s.device] * (s.device != 'cpu') + [s.amp] * bool(s.amp)
    options += ['channels_last'] * s.channels_last
    options += ['compiled'] * s.compiled
    values = dict(
        vars(row),
        mode=s.mode,
        size=f'{s.size[0]}x{s.size[1]}',
        batch=s.batch,
        options=' '.join(options) or None)
    return {name: values[name] for name, _ in COLUMNS}


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, aligned so that it reads in a terminal too."""
    records = [record(row) for row in rows]
    shown = [(name, form) for name, form in COLUMNS if name not in OPTIONAL
             or any(r[name] is not None for r in records)]
    cells = [[name for name, _ in shown]]
    for r in records:
        cells.append([
            '' if r[name] is None else form.format(r[name]).replace('|', '/')
            for name, form in shown
        ])
    widths = [max(map(len, column)) for column in zip(*cells)]
    words = ('candidate', 'mode', 'size', 'options', 'baseline')
    left = [name in words for name, _ in shown]

    def line(row: List[str]) -> str:
        padded = (c.ljust(w) if is_left else c.rjust(w)
                  for c, w, is_left in zip(row, widths, left))
        return '| ' + ' | '.join(padded) + ' |'

    rule = '|' + '|'.join('-' * (w + 1) + ('-' if is_left else ':')
                          for w, is_left in zip(widths, left)) + '|'
    return '\n'.join([line(cells[0]), rule, *map(line, cells[1:])])


def write_csv(path: str, rows: Sequence[Row], header: Dict[str, str]) -> None:
    """Write all columns; the header is in lines that start with ``#``."""
    make_folder(path)
    with open(path, 'w', newline='') as file:
        for key, value in header.items():
            file.write(f'# {key}: {value}\n')
        writer = csv.DictWriter(file, [name for name, _ in COLUMNS])
        writer.writeheader()
        writer.writerows(record(row) for row in rows)


def write_markdown(path: str, rows: Sequence[Row],
                   header: Dict[str, str]) -> None:
    """Write the header as a list, then the table."""
    make_folder(path)
    lines = [f'- {key}: `{value}`' for key, value in header.items()]
    Path(path).write_text('\n'.join(lines) + '\n\n' + table(rows) + '\n')


def make_folder(path: str) -> None:
    """Make the folder of a file that will be written.

    Raises:
        UsageError: It cannot be made.
    """
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f'cannot write to {folder}: {error.strerror}; give '
                         'another path') from None


def depth_of(label: str) -> Tuple[str, float]:
    """Split ``'ours/12'`` in a line's name and a place on the x axis.

    Raises:
        UsageError: It is no such label.
    """
    name, _, number = label.rpartition('/')
    if not name or not number.isdigit():
        raise UsageError(
            "--plot-x depth needs labels that end in a number, 'ours/12 := "
            f"CANDIDATE'; got {label!r}")
    return name, float(number)


def series(rows: Sequence[Row], x: str,
           y: str) -> Dict[str, List[Tuple[float, float, str]]]:
    """Points of a plot by the name of their line.

    Args:
        x: ``'params'``, or ``'depth'``: as ``depth_of`` the label.
        y: ``'throughput'`` or ``'time'``.
    """
    lines: Dict[str, List[Tuple[float, float, str]]] = {}
    for row in rows:
        s = row.setting
        name, place = '', row.params_m
        if x == 'depth':
            name, place = depth_of(row.candidate)
        size = f'{s.mode} {s.size[0]}x{s.size[1]}, batch {s.batch}'
        key = ', '.join(filter(None, [name, size, 'compiled' * s.compiled]))
        value = row.images_per_s if y == 'throughput' else row.ms
        lines.setdefault(key, []).append((place, value, row.candidate))
    return {name: sorted(points) for name, points in lines.items()}


def plot(path: str, rows: Sequence[Row], x: str, y: str,
         header: Optional[Dict[str, str]] = None) -> None:
    """Draw time or throughput against parameters or depth."""
    lines = series(rows, x, y)
    need('matplotlib', '--plot')
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name, points in lines.items():
        xs, ys, labels = zip(*points)
        axes.plot(xs, ys, 'o-' if x == 'depth' else 'o', label=name)
        if x == 'params':
            for place in zip(labels, xs, ys):
                axes.annotate(place[0], place[1:], fontsize=7)
    axes.set_xlabel('blocks' if x == 'depth' else 'parameters (M)')
    axes.set_ylabel('images / s' if y == 'throughput' else 'ms')
    axes.set_ylim(bottom=0)
    if header:
        axes.set_title(f'{header.get("gpu", header["cpu"])}, '
                       f'{header["date"]}', fontsize=8)
    axes.legend(fontsize=7)
    figure.tight_layout()
    make_folder(path)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
