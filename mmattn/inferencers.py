"""The inferencers of the three toolboxes, asked for one picture at a time.

Toolboxes are imported where they are used.
"""
import warnings
from typing import Any, Dict, NamedTuple, Optional, Tuple

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS

from .engine.configs import (UsageError, read_config, require_file,
                             require_model)
from .engine.launch import revert_sync_bn, type_name
from .visualization.loading import SHORT, load_weights, scope_of, task_of

SCORE_THR = 0.3
TOP = 5


class Result(NamedTuple):
    """What a model says of one picture."""
    entry: Dict[str, Any]  # for the JSON
    drawn: np.ndarray  # (H, W, 3), red first
    labels: Optional[np.ndarray] = None  # (H, W), a segmentation


def _strip(cfg: Config) -> None:
    """Leave in a config what inference needs; changed in place."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while dataset and 'dataset' in dataset:  # wrappers
        dataset = dataset.dataset
    if not dataset or not dataset.get('pipeline'):
        raise UsageError(f'{cfg.filename} has no test_dataloader with a '
                         'pipeline, which says how pictures are prepared')
    dataset.pipeline = [
        step for step in dataset.pipeline
        if 'Annotation' not in type_name(step)
    ]
    cfg.test_dataloader.dataset = dataset
    revert_sync_bn(cfg.model)


def _meta(cfg: Config, meta: dict) -> dict:
    """Classes and colours: the checkpoint's, else the config's dataset's."""
    found = {
        key.lower(): value
        for key, value in (meta.get('dataset_meta') or {}).items()
    }
    for key in ('classes', 'palette'):  # the toolboxes' older releases
        if found.get(key) is None and meta.get(key.upper()) is not None:
            found[key] = meta[key.upper()]
    if found.get('classes') is None:
        dataset = dict(cfg.test_dataloader.dataset, lazy_init=True)
        with scope_of(cfg):
            found = dict(DATASETS.build(dataset).metainfo)
    return found


class Model:
    """A toolbox's inferencer, asked for one picture at a time.

    A subclass has ``build(cfg, device)``, which returns the inferencer, and
    ``__call__(path)``, which returns a :class:`Result`.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str) -> None:
        _strip(cfg)
        # Without weights: the toolboxes run what a file pickles, and leave
        # what does not fit at a random start.
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            self.inferencer = self.build(cfg, device)
        self.inferencer.show_progress = False
        meta = load_weights(
            self.inferencer.model, checkpoint, str(cfg.filename))
        self.meta = _meta(cfg, meta)

    def name(self, label: int) -> str:
        classes = self.meta.get('classes') or ()
        return (str(classes[label]) if label < len(classes) else
                f'class {label}')


class _Detector(Model):

    def __init__(self, cfg, checkpoint, device, score_thr):
        self.score_thr = score_thr
        super().__init__(cfg, checkpoint, device)
        model = self.inferencer.model
        model.dataset_meta = dict(self.meta)
        if model.dataset_meta.get('palette') is None:
            model.dataset_meta['palette'] = 'random'
        self.inferencer.visualizer.dataset_meta = model.dataset_meta

    def build(self, cfg, device):
        from mmdet.apis import DetInferencer
        cfg.visualizer = dict(
            type='DetLocalVisualizer', name='infer', vis_backends=[])
        return DetInferencer(cfg, device=device)

    def __call__(self, path: str) -> Result:
        result = self.inferencer(
            path, return_vis=True, pred_score_thr=self.score_thr)
        found = result['predictions'][0]
        objects = []
        for i, score in enumerate(found['scores']):
            if score < self.score_thr:
                continue
            label = found['labels'][i]
            entry = dict(label=label, score=score)
            entry['class'] = self.name(label)
            entry['box'] = found['bboxes'][i]
            if 'masks' in found:
                entry['mask'] = found['masks'][i]
            objects.append(entry)
        return Result(dict(objects=objects), result['visualization'][0])


class _Segmentor(Model):

    def __init__(self, cfg, checkpoint, device):
        super().__init__(cfg, checkpoint, device)
        classes = self.meta.get('classes')
        if not classes:  # a label map holds no more
            classes = [self.name(i) for i in range(256)]
        palette = self.meta.get('palette')
        if not palette or len(palette) != len(classes):
            palette = np.random.default_rng(0).integers(
                0, 256, (len(classes), 3)).tolist()
        self.inferencer.model.dataset_meta = dict(
            classes=classes, palette=palette)

    def build(self, cfg, device):
        from mmseg.apis import MMSegInferencer
        cfg.visualizer = dict(
            type='SegLocalVisualizer', name='infer', vis_backends=[])
        return MMSegInferencer(cfg, device=device)

    def __call__(self, path: str) -> Result:
        result = self.inferencer(path, return_vis=True, opacity=0.6)
        labels = result['predictions'].astype(np.uint8)
        values, counts = np.unique(labels, return_counts=True)
        shares = {
            self.name(value): count / labels.size
            for value, count in zip(values.tolist(), counts.tolist())
        }
        return Result(dict(shares=shares), result['visualization'], labels)


class _Classifier(Model):

    def build(self, cfg, device):
        from mmpretrain.apis import ImageClassificationInferencer
        from mmpretrain.utils import progress
        from mmpretrain.visualization import UniversalVisualizer
        progress.disable_progress_bar = True  # one for each picture
        self.visualizer = UniversalVisualizer(vis_backends=[])
        return ImageClassificationInferencer(
            cfg, pretrained=False, device=device)

    def __call__(self, path: str) -> Result:
        sample, = self.inferencer([path], return_datasamples=True)
        scores, labels = sample.pred_score.cpu().sort(descending=True)
        top = [
            {'label': label, 'class': self.name(label), 'score': score}
            for label, score in zip(labels[:TOP].tolist(),
                                    scores[:TOP].tolist())
        ]
        image = mmcv.imread(path)[..., ::-1]
        short = min(image.shape[:2])
        drawn = self.visualizer.visualize_cls(
            image, sample, classes=self.meta.get('classes'), draw_gt=False,
            resize=SHORT if short < SHORT else None)
        return Result(dict(top=top), drawn)


def build(config: str, checkpoint: str, device: Optional[str],
          score_thr: Optional[float]) -> Tuple[str, Model]:
    """A model's task and the model, with weights that fit it exactly."""
    cfg = read_config(config)
    require_model(cfg)
    require_file(checkpoint, 'checkpoint')
    task = task_of(cfg)
    if score_thr is not None and task != 'detection':
        raise UsageError(f'--score-thr is for boxes, and {config} describes '
                         f'a model for {task}')
    device = device or get_device()
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # its kinds differ by device
        raise UsageError(f'device {device!r} cannot be used: '
                         f'{str(error).splitlines()[0]}') from None
    try:
        if task == 'detection':
            return task, _Detector(
                cfg, checkpoint, device,
                SCORE_THR if score_thr is None else score_thr)
        kind = _Segmentor if task == 'segmentation' else _Classifier
        return task, kind(cfg, checkpoint, device)
    except UsageError:
        raise
    except Exception as error:  # the toolbox's own, whatever it is
        raise UsageError(f'the model of {config} does not build: '
                         f'{type(error).__name__}: {error}') from error
