"""Predictions of several models beside the ground truth."""
import copy
from pathlib import Path
from typing import List, Sequence

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import VISUALIZERS
from mmengine.utils import track_iter_progress

from ..engine.launch import UsageError
from . import drawing
from .loading import SHORT, Loaded, build_dataset, read_image, scope_of


def _build(loaded: Loaded):
    """The config's test dataset and visualizer."""
    cfg = loaded.cfg
    if not cfg.get('test_dataloader') or not cfg.get('visualizer'):
        raise UsageError(f'{cfg.filename} needs a test_dataloader, which has '
                         'the ground truth, and a visualizer, which draws')
    dataset = build_dataset(cfg, cfg.test_dataloader.dataset, '--data-root')
    with scope_of(cfg):
        visualizer = VISUALIZERS.build(
            dict(copy.deepcopy(cfg.visualizer), vis_backends=[],
                 name=f'visualize-{id(loaded)}'))
    visualizer.dataset_meta = dataset.metainfo
    return dataset, visualizer


def _draw(loaded: Loaded, visualizer, image: np.ndarray, sample, file: Path,
          truth: bool, threshold: float) -> np.ndarray:
    # The toolboxes' own drawing, which only a file gives back alike.
    rgb = np.ascontiguousarray(image[..., ::-1])
    options = dict(draw_gt=truth, draw_pred=not truth, show=False)
    if loaded.task == 'classification':
        visualizer.visualize_cls(
            rgb, sample, visualizer.dataset_meta.get('classes'),
            resize=SHORT if min(rgb.shape[:2]) < SHORT else None,
            out_file=str(file), **options)
    else:
        if loaded.task == 'detection':
            options['pred_score_thr'] = threshold
        visualizer.add_datasample(
            file.stem, rgb, sample, out_file=str(file), **options)
    drawn = read_image(file)
    file.unlink()
    return drawn


@torch.no_grad()
def predictions(models: Sequence[Loaded],
                out: Path,
                count: int = 8,
                threshold: float = 0.3) -> List[Path]:
    """Draw what models predict for the test data of the first one's config.

    The ground truth first, then a column for each model; detections, masks,
    segmentations and classes, drawn by the toolbox.

    Args:
        models: Of one task, trained on the same classes.
        out: A folder; one PNG for each picture.
        count: How many pictures, spread over the dataset.
        threshold: Lowest score of a box that is drawn.

    Returns:
        The files.

    Raises:
        UsageError: The data are not there; models of several tasks.
        ImageError: A picture of theirs is damaged.
    """
    tasks = sorted({loaded.task for loaded in models})
    if len(tasks) > 1:
        raise UsageError('predictions compares models of one task, not of '
                         f'{" and ".join(tasks)}')
    first = models[0]
    built = [_build(loaded) for loaded in models]
    total = len(built[0][0])
    chosen = np.linspace(0, total - 1, min(count, total)).round().astype(int)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for index in track_iter_progress(chosen.tolist()):
        row, titles = [], []
        for loaded, (dataset, visualizer) in zip(models, built):
            with scope_of(loaded.cfg):
                data = pseudo_collate([dataset[index]])
                sample = loaded.model.test_step(data)[0]
                if not sample.get('img_path'):
                    raise UsageError(f'the test data of {loaded.name} are no '
                                     'files of pictures (CIFAR is not)')
                path = Path(sample.img_path)
                image = read_image(path)
                draw = (loaded, visualizer, image, sample,
                        out / f'{path.stem}.drawing.png')
                if loaded is first:
                    row.append(_draw(*draw, True, threshold))
                    titles.append(f'{path.name}\nground truth')
                row.append(_draw(*draw, False, threshold))
                titles.append(f'{path.name}\n{loaded.name}')
        files.append(out / f'{path.stem}.png')
        drawing.save_grid(files[-1], [row], [titles], width=4.)
    return files
