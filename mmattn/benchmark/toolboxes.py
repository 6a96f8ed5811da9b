"""Whole models of toolbox configs, and random batches for them."""
from typing import Any, Tuple

import torch
from torch import nn

from ..engine.build import build_model
from ..engine.configs import UsageError, read_config
from .candidates import need

TOOLBOXES = ('mmdet', 'mmseg', 'mmpretrain')


def config_model(path: str, backbone: bool) -> nn.Module:
    """Build the model of a config, or its backbone; no weights are read."""
    if '::' in path:
        from mmengine.hub import get_config
        need(path.partition('::')[0], f'candidate {path!r}')
        cfg = get_config(path)
    else:
        cfg = read_config(path)
    if 'model' not in cfg:
        raise UsageError(f'{path!r} describes no model')
    scope = cfg.get('default_scope')
    if scope in TOOLBOXES:
        need(scope, f'candidate {path!r}')
    if backbone:  # which has no preprocessor
        cfg.pop('data_preprocessor', None)
        cfg.model = cfg.model.backbone
    return build_model(cfg)


def random_batch(model: nn.Module, batch: int, size: Tuple[int, int],
                 training: bool) -> dict:
    """Random images and targets, preprocessed as the model asks.

    Raises:
        UsageError: The model belongs to no toolbox known here.
    """
    toolbox = type(model).__module__.split('.')[0]
    if toolbox == 'mmattn':  # ours extend a toolbox's class
        toolbox = next((cls.__module__.split('.')[0]
                        for cls in type(model).__mro__
                        if cls.__module__.startswith(TOOLBOXES)), toolbox)
    images = list(
        torch.randint(256, (batch, 3, *size), dtype=torch.uint8).unbind())
    if toolbox == 'mmdet':
        samples = _boxes(model, batch, size)
    elif toolbox == 'mmseg':
        samples = _label_maps(model, batch, size)
    elif toolbox == 'mmpretrain':
        samples = _labels(batch, size)
    else:
        raise UsageError(f'no random batch is known for a model of {toolbox}; '
                         f'only for those of {", ".join(TOOLBOXES)}')
    if getattr(model.data_preprocessor, 'size', None) is not None:
        model.data_preprocessor.size = size  # else it pads to the crop
    return model.data_preprocessor(
        dict(inputs=images, data_samples=samples), training)


def _meta(size: Tuple[int, int]) -> dict:
    return dict(img_shape=size, ori_shape=size, pad_shape=size,
                batch_input_shape=size, scale_factor=(1., 1.), img_id=0)


def _boxes(model: nn.Module, batch: int, size: Tuple[int, int]) -> list:
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData
    height, width = size
    count = 8  # objects in an image of COCO
    samples = []
    for _ in range(batch):
        corner = torch.rand(count, 2) * 0.6
        boxes = torch.cat((corner, corner + 0.1 + 0.3 * torch.rand(count, 2)),
                          1) * torch.tensor([width, height] * 2)
        masks = np.zeros((count, height, width), dtype=np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
            mask[y1:y2, x1:x2] = 1
        sample = DetDataSample(metainfo=_meta(size))
        sample.gt_instances = InstanceData(
            bboxes=boxes,
            labels=torch.zeros(count, dtype=torch.long),
            masks=BitmapMasks(masks, height, width))
        samples.append(sample)
    return samples


def _label_maps(model: nn.Module, batch: int, size: Tuple[int, int]) -> list:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    samples = []
    for _ in range(batch):
        sample = SegDataSample(metainfo=_meta(size))
        labels = torch.randint(model.decode_head.num_classes, (1, *size))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return samples


def _labels(batch: int, size: Tuple[int, int]) -> list:
    from mmpretrain.structures import DataSample
    return [
        DataSample(metainfo=_meta(size)).set_gt_label(0)
        for _ in range(batch)
    ]


def loss_of(model: nn.Module, data: dict) -> Any:
    """The sum of a toolbox model's losses."""
    losses = model(**data, mode='loss')
    return model.parse_losses(losses)[0]
