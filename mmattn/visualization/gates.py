"""What a network's attentions, fusions and links decide about pictures."""
import csv
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from mmengine.utils import track_iter_progress
from torch import Tensor

from ..engine.launch import UsageError
from ..fusions import Fusion
from . import drawing, stats
from .gate_pictures import (draw_distributions, draw_maps, draw_recycled,
                            draw_shares)
from .loading import Loaded, prepare
from .record import Record, record

BINS = 50
# COCO's bounds of small and of medium objects, sides in pixels.
SIZES = dict(small=32, medium=96, large=float('inf'))
COLUMNS = ('name', 'stage', 'kind', 'mean', 'std', 'saturation',
           'dead_channels', 'entropy')


class _Module:
    """Sums over pictures of what one attention or fusion decided."""

    def __init__(self, name: str, module: torch.nn.Module):
        self.name, self.module = name, module
        self.count = self.total = self.squares = 0.
        self.calls = 0
        self.saturation = self.entropy = 0.
        self.histogram = np.zeros(BINS)
        self.peaks: Optional[Tensor] = None
        self.is_gate = True

    def add(self, weights: Any) -> None:
        tensors = weights if isinstance(weights, tuple) else (weights, )
        for a in tensors:
            self.count += a.numel()
            self.total += a.double().sum().item()
            self.squares += a.double().square().sum().item()
        gates = stats.gates(self.module, weights)
        if gates is None:
            self.is_gate = False
            return
        self.calls += 1
        self.saturation += stats.saturation(gates)
        self.entropy += stats.entropy(
            gates, stats.shares_out(self.module, weights))
        peaks = stats.highest(gates)
        self.peaks = peaks if self.peaks is None else self.peaks.maximum(peaks)
        for a in gates:
            self.histogram += torch.histc(
                a.float().flatten(), BINS, 0, 1).cpu().numpy()

    def row(self) -> dict:
        mean = self.total / self.count
        row = dict(
            name=self.name,
            stage=stats.group_of(self.name),
            kind=type(self.module).__name__,
            mean=mean,
            std=max(self.squares / self.count - mean**2, 0)**0.5)
        values = (None, ) * 3
        if self.is_gate:
            values = (self.saturation / self.calls, stats.dead(self.peaks),
                      self.entropy / self.calls)
        return {**row, **dict(zip(COLUMNS[5:], values))}


def spatial_map(weights: Any) -> Optional[np.ndarray]:
    """The mean gate of each position of the first image; None if it has none.

    Gates of rows and of columns are multiplied first.
    """
    tensors = weights if isinstance(weights, tuple) else (weights, )
    maps = [a[0].float() for a in tensors
            if a.dim() == 4 and a.shape[2:].numel() > 1]
    if not maps:
        return None
    product = maps[0]
    if len(maps) == 2 and maps[0].shape[2] == maps[1].shape[1] == 1:
        product = maps[0] * maps[1]  # (C, H, 1) and (C, 1, W)
    elif len(maps) > 1:
        product = maps[-1]
    return product.mean(0).cpu().numpy()


def object_sizes(annotations: Path) -> Dict[str, str]:
    """``small``, ``medium`` or ``large`` for each picture of a COCO file.

    By the median area of the picture's boxes, at COCO's bounds of 32 and 96
    pixels squared.

    Raises:
        UsageError: It is no such file.
    """
    try:
        data = json.loads(Path(annotations).read_text())
        names = {i['id']: Path(i['file_name']).name for i in data['images']}
        areas: Dict[str, List[float]] = {}
        for box in data['annotations']:
            width, height = box['bbox'][2:]
            areas.setdefault(names[box['image_id']],
                             []).append(width * height)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f'boxes {annotations} cannot be read as annotations of COCO '
            f'({type(error).__name__}: {error})') from None
    return {
        name: next(size for size, side in SIZES.items()
                   if np.median(found) < side**2)
        for name, found in areas.items()
    }


class Gates:
    """Numbers of one model over pictures.

    Args:
        loaded: The model.

    Attributes:
        modules: Statistics by name, of attentions and fusions.
        depths: For each fusion of more than two maps or of a stage, the mean
            share of each map, an entry for each picture.
        recycled: For each link, the mean share that it took from the
            previous attention, an entry for each picture.
    """

    def __init__(self, loaded: Loaded):
        self.loaded = loaded
        self.modules: Dict[str, _Module] = {}
        self.depths: Dict[str, List[List[float]]] = {}
        self.recycled: Dict[str, List[float]] = {}

    def add(self, kept: Record) -> None:
        """Count what was recorded for one picture."""
        for name in stats.outermost(kept.weights):
            module = self.loaded.model.get_submodule(name)
            if name not in self.modules:
                self.modules[name] = _Module(name, module)
            for weights in kept.weights[name]:
                self.modules[name].add(weights)
                if isinstance(module, Fusion) and isinstance(weights, tuple):
                    self.depths.setdefault(name, []).append(
                        [a.float().mean().item() for a in weights])
        for name, shares in kept.shares.items():
            self.recycled.setdefault(name, []).extend(
                each.mean().item() for each in shares)

    def rows(self) -> List[dict]:
        return [module.row() for module in self.modules.values()]

    def numbers(self, sizes: Sequence[Optional[str]]) -> dict:
        """All of it as plain values, ``sizes`` naming each picture's."""
        depths = {}
        for name, shares in self.depths.items():
            shares = np.asarray(shares)
            depths[name] = dict(all=shares.mean(0).tolist())
            for size in SIZES:
                chosen = [s == size for s in sizes]
                if any(chosen) and len(chosen) == len(shares):
                    depths[name][size] = shares[chosen].mean(0).tolist()
        return dict(
            model=self.loaded.name,
            images=len(sizes),
            modules=self.rows(),
            map_shares=depths,
            recycled={
                name: float(np.mean(values))
                for name, values in self.recycled.items()
            },
            histograms={
                name: module.histogram.astype(int).tolist()
                for name, module in self.modules.items() if module.is_gate
            })


@torch.no_grad()
def gates(loaded: Loaded,
          images: Sequence[Path],
          out: Path,
          boxes: Optional[Path] = None,
          maps: int = 4) -> dict:
    """Write what a model's attentions decide about pictures into ``out``.

    ``distributions.png``: the gates of each stage; ``maps_<picture>.png``:
    gates over the picture, for attentions that have one for each position;
    ``shares.png``: which block of a stage, or branch, is read from, by the
    size of objects if boxes are known; ``recycled.png``: what links take from
    the previous attention. ``gates.json`` and ``gates.csv`` hold the numbers;
    ``stats`` defines them.

    Args:
        loaded: The model.
        images: The pictures.
        out: A folder.
        boxes: Annotations of COCO for these pictures.
        maps: For how many pictures maps are drawn.

    Returns:
        What ``gates.json`` holds.

    Raises:
        UsageError: The model decides nothing; ``boxes`` fits no picture.
    """
    sizes = [None] * len(images)
    if boxes is not None:
        known = object_sizes(boxes)
        sizes = [known.get(path.name) for path in images]
        if not any(sizes):
            raise UsageError(f'boxes {boxes} name none of the pictures, such '
                             f'as {images[0].name}')
    found = Gates(loaded)
    with record(loaded.model) as kept:
        if not kept.names:
            raise UsageError(f'{loaded.name} has no attention or fusion that '
                             'decides anything; give a model that has')
        for i, path in enumerate(track_iter_progress(list(images))):
            kept.clear()
            image = prepare(loaded, path)
            loaded.model(image.inputs, image.samples, mode='predict')
            found.add(kept)
            if i < maps:
                drawn = {
                    name: spatial_map(kept.weights[name][-1])
                    for name in stats.outermost(kept.weights)
                }
                draw_maps(path.name, image, drawn,
                          out / f'maps_{path.stem}.png')
    numbers = found.numbers(sizes)
    out.mkdir(parents=True, exist_ok=True)
    draw_distributions(numbers, out / 'distributions.png')
    draw_shares(numbers, out / 'shares.png')
    draw_recycled(numbers, out / 'recycled.png')
    (out / 'gates.json').write_text(json.dumps(numbers, indent=1))
    with open(out / 'gates.csv', 'w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(numbers['modules'])
    (out / 'table.html').write_text(
        drawing.table_html(COLUMNS, [list(row.values())
                                     for row in numbers['modules']]))
    return numbers
