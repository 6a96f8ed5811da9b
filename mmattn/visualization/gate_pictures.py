"""Drawings of what ``gates`` counts."""
from pathlib import Path
from typing import Dict, Optional

import numpy as np

from . import drawing
from .loading import Prepared
from .stats import HIGH, LOW, group_of


def _short(name: str) -> str:
    return name.removeprefix('backbone.')


def draw_distributions(numbers: dict, path: Path) -> None:
    """Histograms of the gates, a field for each stage, a line for each."""
    groups: Dict[str, list] = {}
    for name in numbers['histograms']:
        groups.setdefault(group_of(name), []).append(name)
    if not groups:
        return
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = drawing.new_figure(rows, columns, (3.6, 2.8))
    for ax in axes.flat[len(groups):]:
        ax.axis('off')
    for ax, (group, names) in zip(axes.flat, groups.items()):
        for name in names:
            counts = np.asarray(numbers['histograms'][name], float)
            centres = (np.arange(len(counts)) + 0.5) / len(counts)
            # from the stage: 0.attention
            label = name.removeprefix(group).lstrip('.')
            ax.plot(centres, counts / counts.sum(), lw=1, label=label)
        for edge in (LOW, HIGH):
            ax.axvline(edge, color='0.7', lw=0.6, ls=':')
        ax.set_title(f'{_short(group)}', fontsize=9)
        ax.set_xlim(0, 1)
        ax.tick_params(labelsize=7)
        ax.legend(fontsize=5)
    figure.supxlabel('gate (share of its range)', fontsize=8)
    figure.supylabel('share of values', fontsize=8)
    drawing.save(figure, path)


def draw_maps(name: str, image: Prepared,
              maps: Dict[str, Optional[np.ndarray]], path: Path) -> None:
    """Gates over a picture: of each stage the last attention that has some."""
    last = {group_of(part): (part, heat) for part, heat in maps.items()
            if heat is not None}
    if not last:
        return
    cells, titles = [image.picture], [name]
    for part, heat in last.values():
        cells.append(drawing.overlay(
            image.picture, drawing.stretched(image.over(heat))))
        titles.append(f'{_short(part)}\n{heat.shape[0]}x{heat.shape[1]}, '
                      f'{heat.min():.3f} to {heat.max():.3f}')
    columns = min(5, len(cells))
    chunks = range(0, len(cells), columns)
    drawing.save_grid(path, [cells[i:i + columns] for i in chunks],
                      [titles[i:i + columns] for i in chunks])


def draw_shares(numbers: dict, path: Path) -> None:
    """The share of each map, a field for each fusion, bars by object size."""
    fusions = numbers['map_shares']
    if not fusions:
        return
    columns = min(4, len(fusions))
    rows = -(-len(fusions) // columns)
    figure, axes = drawing.new_figure(rows, columns, (3.2, 2.6))
    for ax in axes.flat[len(fusions):]:
        ax.axis('off')
    for ax, (name, shares) in zip(axes.flat, fusions.items()):
        width = 0.8 / len(shares)
        for i, (size, values) in enumerate(shares.items()):
            offset = (i - (len(shares) - 1) / 2) * width
            ax.bar(np.arange(len(values)) + offset, values, width, label=size)
        ax.set_xticks(range(len(values)))
        ax.set_title(_short(name), fontsize=8)
        ax.set_xlabel('map (block or branch)', fontsize=7)
        ax.set_ylabel('mean share', fontsize=7)
        ax.tick_params(labelsize=7)
        if len(shares) > 1:
            ax.legend(fontsize=6)
    drawing.save(figure, path)


def draw_recycled(numbers: dict, path: Path) -> None:
    """What each link took from the previous attention."""
    recycled = numbers['recycled']
    if not recycled:
        return
    figure, ((ax, ), ) = drawing.new_figure(
        1, 1, (6, 0.8 + 0.18 * len(recycled)))
    names = [_short(name) for name in recycled]
    ax.barh(names, list(recycled.values()))
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel('share of the previous attention in the mix', fontsize=8)
    ax.tick_params(labelsize=7)
    drawing.save(figure, path)
