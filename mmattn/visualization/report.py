"""One page of the curves, best results and pictures of training runs.

``tools/make_report.py`` is :func:`make_report`. Reads what mmengine's logger
and its local visualisation backend leave in a work dir.
"""
import base64
import html
import io
import math
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import cv2

from ..engine.launch import UsageError
from .drawing import STYLE, new_figure, table_html
from .loading import PICTURES, read_image
from .run_logs import GROUPS, Curve, Run, read_run

# Of a metric's name, what says that less is better.
LESS = ('loss', 'error', 'mae', 'mse')
NOTE = f"""\
<p>The best value is the highest, or the lowest of names with {', '.join(LESS)}.
A metric stands at the last training iteration logged before it.</p>"""
COLUMNS = 3
# Width and height of one plot, in inches; width of one picture, in pixels.
PLOT = (3.9, 2.7)
WIDTH = 480


def _names(work_dirs: Sequence[Path]) -> List[str]:
    """The folders' names, with as many parents as tell them apart."""
    parts = [path.resolve().parts for path in work_dirs]
    if len(set(parts)) < len(parts):
        raise UsageError('a work dir is named twice')
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ['/'.join(part[-depth:]) for part in parts]


def _best(key: str, curve: Curve) -> Optional[Tuple[int, float]]:
    finite = [point for point in curve if math.isfinite(point[1])]
    less = any(word in key.lower() for word in LESS)
    choose = min if less else max
    return choose(finite, key=lambda point: point[1]) if finite else None


def results_table(runs: Sequence[Run]) -> Tuple[List[str], List[list]]:
    """Header and rows: the best and the last value of each metric."""
    rows = []
    for key in _keys(runs, 'Metrics'):
        for run in runs:
            curve = run.curves['Metrics'].get(key)
            if not curve:
                continue
            place, value = _best(key, curve) or ('-', math.nan)
            rows.append([
                key, run.name, value, place, run.epochs.get(place, '-'),
                curve[-1][1], len(curve)
            ])
    return ['metric', 'run', 'best', 'at iteration', 'epoch', 'last',
            'evaluations'], rows


def _runs_table(runs: Sequence[Run]) -> Tuple[List[str], List[list]]:
    rows = []
    for run in runs:
        losses = run.curves['Losses']
        loss = losses.get('loss') or next(iter(losses.values()), [])
        rows.append([
            run.name, str(run.log), run.lines, loss[-1][0] if loss else '-',
            loss[-1][1] if loss else '-', run.earlier
        ])
    return ['run', 'log', 'lines', 'last iteration', 'last loss',
            'earlier runs there, not shown'], rows


def _keys(runs: Sequence[Run], group: str) -> List[str]:
    return list(dict.fromkeys(
        key for run in runs for key in run.curves[group]))


def _plots(runs: Sequence[Run], group: str) -> Optional[str]:
    """All curves of a group as a PNG in base64, one plot for each name.

    A name with one value in every run is no curve; tables have it.
    """
    keys = [
        key for key in _keys(runs, group)
        if any(len(run.curves[group].get(key, ())) > 1 for run in runs)
    ]
    if not keys:
        return None
    rows = math.ceil(len(keys) / COLUMNS)
    columns = min(len(keys), COLUMNS)
    figure, axes = new_figure(rows, columns, PLOT)
    for ax in axes.flat[len(keys):]:
        ax.axis('off')
    for ax, key in zip(axes.flat, keys):
        ax.set_title(key, fontsize=9)
        for i, run in enumerate(runs):
            curve = run.curves[group].get(key)
            if curve:
                # A few points, as of metrics, are seen with markers only.
                ax.plot(*zip(*curve), color=f'C{i % 10}', label=run.name,
                        linewidth=1.2, markersize=4,
                        linestyle=('-', '--', ':')[i // 10 % 3],
                        marker='o' if len(curve) < 12 else None)
        ax.set_xlabel('iteration', fontsize=8)
        ax.tick_params(labelsize=7)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    figure.tight_layout()
    data = io.BytesIO()
    figure.savefig(data, format='png')
    return base64.b64encode(data.getvalue()).decode()


def find_pictures(work_dir: Path, count: int) -> List[Path]:
    """Up to ``count`` pictures of the newest run that has some, spread."""
    found: Dict[str, List[Path]] = {}
    for path in sorted(work_dir.rglob('*')):
        if path.suffix.lower() in PICTURES and path.is_file():
            run = path.relative_to(work_dir).parts[0]
            found.setdefault(run, []).append(path)
    if not found:
        return []
    pictures = found[max(found)]
    count = min(count, len(pictures))
    return [pictures[i * len(pictures) // count] for i in range(count)]


def _picture(path: Path) -> str:
    image = read_image(path)
    if image.shape[1] > WIDTH:
        height = max(round(image.shape[0] * WIDTH / image.shape[1]), 1)
        image = cv2.resize(image, (WIDTH, height),
                           interpolation=cv2.INTER_AREA)
    return base64.b64encode(cv2.imencode('.jpg', image)[1]).decode()


def _figure(kind: str, data: str, caption: str) -> str:
    return (f'<figure><img src="data:image/{kind};base64,{data}">'
            f'<figcaption>{html.escape(caption)}</figcaption></figure>')


def make_report(work_dirs: Sequence[str], out: str, pictures: int = 6) -> None:
    """Write curves, best results and pictures of runs as one HTML page.

    The page needs no other file. Every name has one plot, in which all runs
    are drawn. A metric stands at the last training iteration that was logged
    before it; its best value is the highest, or the lowest where its name
    holds a word of ``LESS``.

    Args:
        work_dirs: What trainings wrote to. Of each the newest training is
            shown, or the newest test where there is none.
        out: The page.
        pictures: At most so many of each run.

    Raises:
        UsageError: No such folder, no log in it, a damaged line, or a page
            that cannot be written.
    """
    places = [Path(work_dir) for work_dir in work_dirs]
    runs = [
        read_run(place, name) for place, name in zip(places, _names(places))
    ]
    title = html.escape(', '.join(run.name for run in runs))
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}'
        f'</title><style>{STYLE}</style><h1>{title}</h1>',
        table_html(*_runs_table(runs)), '<h2>Best results</h2>'
    ]
    header, rows = results_table(runs)
    parts.append(table_html(header, rows) + NOTE if rows else
                 '<p>The logs hold no metrics.</p>')
    for group in GROUPS:
        data = _plots(runs, group)
        if data is not None:
            parts.append(f'<h2>{group}</h2>' + _figure('png', data, ''))
    for place, run in zip(places, runs):
        found = find_pictures(place, pictures)
        if found:
            parts.append(f'<h2>Pictures: {html.escape(run.name)}</h2>')
        parts += [
            _figure('jpeg', _picture(path),
                    path.relative_to(place).as_posix()) for path in found
        ]
    try:
        Path(out).write_text('\n'.join(parts) + '</html>\n',
                             encoding='utf-8')
    except OSError as error:
        raise UsageError(f'report {out} cannot be written: '
                         f'{error.strerror}') from None
