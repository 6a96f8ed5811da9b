"""Grad-CAMs of several models beside each other."""
from pathlib import Path
from typing import Any, List, Optional, Sequence

import cv2
import numpy as np
from mmengine.utils import track_iter_progress
from torch import Tensor

from ..engine.launch import UsageError
from . import drawing
from .grad_cam import Seen, Target
from .loading import Loaded, Prepared, class_name, prepare


def _iou(a: Tensor, b: Tensor) -> float:
    low, high = a[:2].maximum(b[:2]), a[2:].minimum(b[2:])
    inter = (high - low).clamp(min=0).prod()
    total = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter
    return float(inter / total) if total > 0 else 0.


def _same(target: Target, others: List[Target]) -> Optional[Target]:
    """The prediction of another model that is of the same thing."""
    alike = [other for other in others if other.label == target.label]
    if target.box is None:
        return alike[0] if alike else None
    overlaps = [_iou(target.box, other.box) for other in alike]
    if max(overlaps, default=0) < 0.5:
        return None
    return alike[int(np.argmax(overlaps))]


def _picture(image: Prepared, heat: np.ndarray,
             target: Target) -> np.ndarray:
    heat = drawing.stretched(image.over(heat))
    shown = drawing.overlay(image.picture, heat)
    line = max(1, min(shown.shape[:2]) // 200)
    if target.mask is not None:
        mask = target.mask.cpu().numpy().astype(np.uint8)
        edges, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL,
                                    cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(shown, edges, -1, (255, 255, 255), line)
    if target.box is not None:
        x1, y1, x2, y2 = (int(v) for v in target.box.round().tolist())
        cv2.rectangle(shown, (x1, y1), (x2, y2), (255, 255, 255), line)
    return shown


def draw_cams(models: Sequence[Loaded],
              path: Path,
              out: Path,
              count: int = 3,
              **options: Any) -> int:
    """Grad-CAMs of one picture: a row for each prediction of the first model.

    A column for each model, with what the others have of the same class (for
    boxes: that overlaps by half). A map is stretched to its own range; its
    title has its size, or that nothing speaks for the prediction.

    Args:
        models, path, out: The models, the picture and the PNG.
        count: How many predictions, the best first.
        options: See :class:`Seen`.

    Returns:
        How many rows were drawn; without any, nothing is written.
    """
    seen = [Seen(model, prepare(model, path), **options) for model in models]
    rows, titles = [], []
    for first in seen[0].targets[:count]:
        rows.append([seen[0].image.picture])
        titles.append([path.name])
        for each in seen:
            name = each.loaded.name
            same = first if each is seen[0] else _same(first, each.targets)
            if same is None:
                rows[-1].append(None)
                titles[-1].append(f'{name}\nnothing of the kind')
                continue
            layer, heat = each.cam(same)
            rows[-1].append(_picture(each.image, heat, same))
            where = f'{heat.shape[0]}x{heat.shape[1]}' if heat.any() else (
                'nothing for it')
            titles[-1].append(
                f'{name}\n{class_name(each.loaded, same.label)} '
                f'{same.value:.2f}, {layer.removeprefix("backbone.")}: '
                f'{where}')
    if rows:
        drawing.save_grid(out, rows, titles)
    return len(rows)


def cam(models: Sequence[Loaded],
        images: Sequence[Path],
        out: Path,
        layers: Sequence[str] = (),
        count: int = 3,
        threshold: float = 0.3,
        method: Optional[str] = None) -> List[str]:
    """Draw Grad-CAMs of pictures into ``out``, a PNG for each.

    Args:
        models: Shown beside each other; of one task.
        images: The pictures.
        out: A folder.
        layers, threshold, method: See :class:`Seen`.
        count: How many predictions of the first model are traced.

    Returns:
        The pictures for which the first model predicts nothing.

    Raises:
        UsageError: Models of several tasks; see :class:`Seen`.
    """
    tasks = sorted({loaded.task for loaded in models})
    if len(tasks) > 1:
        raise UsageError(
            f'cam compares models of one task, not of {" and ".join(tasks)}')
    return [
        path.name for path in track_iter_progress(list(images))
        if not draw_cams(models, path, out / f'{path.stem}.png', count,
                         layers=layers, threshold=threshold, method=method)
    ]
