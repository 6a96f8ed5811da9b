"""Effective receptive fields: what the centre of a map sees of a picture.

The gradient of the sum over the channels of a stage's output at its central
position, with respect to the picture: its positive part, summed over the
colours and averaged over pictures. ``side at t`` is the side of the smallest
square around that position that holds the share t of it, over the picture's.

A network at a random start whose residual branches end in zero
(``zero_init_residual``, the default) sees through its shortcuts only.

Source: Luo et al., arXiv:1701.04128; Ding et al., "RepLKNet",
    arXiv:2203.06717, section 5, for positive part, square and thresholds.
"""
import csv
import json
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import cv2
import numpy as np
import torch
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

from ..engine.launch import UsageError
from . import drawing
from .loading import (Loaded, find_layer, normalised, read_image,
                      stage_layers)

THRESHOLDS = (0.2, 0.3, 0.5, 0.99)


def central_gradients(backbone: nn.Module, layers: Dict[str, nn.Module],
                      x: Tensor) -> Dict[str, Tuple[np.ndarray, int]]:
    """For each layer, what its centre sees of ``x`` and where that centre is.

    Args:
        backbone: Called with ``x``.
        layers: Modules in it, by name.
        x: One picture, ``(1, 3, S, S)``.

    Returns:
        The field ``(S, S)``, from 0 on, and the row and column of ``x`` that
        the layer's central position is for: the i-th of n is for ``i S / n``,
        where padded convolutions put it.

    Raises:
        UsageError: A layer returns no map.
    """
    maps: Dict[str, Tensor] = {}

    def keep(name: str):

        def hook(module, args, output):
            maps[name] = output[0] if isinstance(output, tuple) else output

        return hook

    x = x.detach().requires_grad_()
    handles = [m.register_forward_hook(keep(n)) for n, m in layers.items()]
    try:
        with torch.enable_grad():
            backbone(x)
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for name, y in maps.items():
        if not isinstance(y, Tensor) or y.dim() != 4:
            raise UsageError(f'layer {name!r} returns no map (B, C, H, W); '
                             'name one that does')
        middle = len(y[0, 0]) // 2
        gradient, = torch.autograd.grad(
            y[:, :, middle, middle].sum(), x, retain_graph=True)
        field = gradient.relu().sum((0, 1)).double().cpu().numpy()
        found[name] = field, middle * len(field) // len(y[0, 0])
    return found


def side_at(field: np.ndarray, middle: int, share: float) -> float:
    """The side of the smallest square that holds a share of a field.

    Args:
        field: ``(S, S)``, not negative.
        middle: Row and column that the squares are around. What lies outside
            of the picture counts in the side only up to S.
        share: From 0 to 1.

    Returns:
        The side over S, from 0 to 1; 0 for a field of zeros.
    """
    total = field.sum()
    if total <= 0:
        return 0.
    size = len(field)
    for r in range(size):
        low, high = max(middle - r, 0), middle + r + 1
        if field[low:high, low:high].sum() >= share * total * (1 - 1e-12):
            return min(2 * r + 1, size) / size
    return 1.


def erf(models: Sequence[Loaded],
        images: Sequence[Path],
        out: Path,
        layers: Sequence[str] = (),
        size: int = 224) -> List[dict]:
    """Write effective receptive fields of backbones into ``out``.

    ``fields.png`` has a row for each model and a column for each stage, the
    fourth root of the field, stretched; ``erf.json`` and ``erf.csv`` hold the
    sides at ``THRESHOLDS``.

    Args:
        models: Any; a segmentor's backbone beside a detector's.
        images: Pictures, each resized to a square.
        out: A folder.
        layers: Full names of layers; without any, the backbone's stages.
        size: The side of the square.

    Returns:
        The table: ``model``, ``layer`` and a column for each threshold.

    Raises:
        UsageError: No such layer; ``size`` is below 32.
    """
    if size < 32:
        raise UsageError(f'size must be at least 32 pixels, got {size}')
    sums: List[Dict[str, np.ndarray]] = [{} for _ in models]
    middles: List[Dict[str, int]] = [{} for _ in models]
    for path in track_iter_progress(list(images)):
        image = cv2.resize(read_image(path), (size, size))
        for loaded, fields, middle in zip(models, sums, middles):
            names = list(layers) or stage_layers(loaded)
            modules = {name: find_layer(loaded, name) for name in names}
            found = central_gradients(loaded.model.backbone, modules,
                                      normalised(loaded, image))
            unused = [name for name in layers if name not in found]
            if unused:
                raise UsageError(
                    f'layer {unused[0]!r} of {loaded.name} does not run in '
                    'its backbone; name one that does')
            for name, (field, middle[name]) in found.items():
                fields[name] = fields.get(name, 0) + field / len(images)
    table, rows, titles = [], [], []
    for loaded, fields, middle in zip(models, sums, middles):
        rows.append([])
        titles.append([])
        for name, field in fields.items():
            sides = {f'side at {t:.0%}': side_at(field, middle[name], t)
                     for t in THRESHOLDS}
            table.append(dict(model=loaded.name, layer=name, **sides))
            heat = (drawing.stretched(field**0.25) * 255).astype(np.uint8)
            rows[-1].append(cv2.applyColorMap(heat, cv2.COLORMAP_VIRIDIS))
            titles[-1].append(f'{loaded.name}\n'
                              f'{name.removeprefix("backbone.")}: half of it '
                              f'in {sides["side at 50%"]:.0%} of the side')
    out.mkdir(parents=True, exist_ok=True)
    drawing.save_grid(out / 'fields.png', rows, titles, width=2.6)
    (out / 'erf.json').write_text(json.dumps(table, indent=1))
    with open(out / 'erf.csv', 'w', newline='') as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    (out / 'table.html').write_text(
        drawing.table_html(list(table[0]),
                           [list(row.values()) for row in table]))
    return table
