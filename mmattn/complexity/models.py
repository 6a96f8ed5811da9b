"""Builds the model of a config without numbers, and runs its parts."""
from typing import Optional, Tuple

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..engine.build import build_model
from .counter import OperatorCounter

# Inputs that the papers count at; (H, W).
CLASSIFIER, CIFAR = (224, 224), (32, 32)
DETECTOR = (800, 1280)
SEGMENTOR, CITYSCAPES = (512, 512), (512, 1024)


def build(cfg: Config) -> nn.Module:
    """Build the model of a config on the meta device, in eval mode.

    Nothing is allocated, initialised or read, so missing checkpoints do not
    matter.

    Raises:
        ValueError: The config has no model, or it cannot be built.
    """
    if not isinstance(cfg.get('model'), dict) or 'type' not in cfg.model:
        raise ValueError('the config has no model: nothing to count; give a '
                         "config with model=dict(type=...)")
    try:
        with torch.device('meta'):
            model = build_model(cfg)
    except Exception as error:  # a constructor may raise anything
        raise ValueError(f'the model cannot be built: {error}') from error
    return model.eval()  # a backbone freezes its stages when its mode is set


def kind_of(model: nn.Module) -> str:
    """``'two-stage'``, ``'one-stage'``, ``'segmentor'`` or ``'classifier'``.

    Raises:
        ValueError: It is none of them.
    """
    for kind, head in (('two-stage', 'roi_head'), ('segmentor', 'decode_head'),
                       ('one-stage', 'bbox_head'), ('classifier', 'head')):
        if hasattr(model, 'extract_feat') and hasattr(model, head):
            return kind
    raise ValueError(
        f'{type(model).__name__} is neither a classifier, a one-stage or '
        'two-stage detector nor a segmentor: no rule says which of its parts '
        'to run')


def _test_data(cfg: Config) -> dict:
    data = cfg.get('test_dataloader') or {}
    while 'dataset' in data:
        data = data['dataset']
    return data


def default_size(cfg: Config, kind: str) -> Tuple[int, int]:
    """The (H, W) that papers count a model of this kind at.

    Classifiers at 224x224, for CIFAR at 32x32; segmentors at 512x512, for
    Cityscapes at 512x1024; detectors at the size their test data are resized
    to regardless of the image (SSDLite: 320x320), else at 800x1280.
    """
    data = _test_data(cfg)
    name = str(data.get('type', ''))
    if kind == 'classifier':
        return CIFAR if 'CIFAR' in name else CLASSIFIER
    if kind == 'segmentor':
        return CITYSCAPES if 'Cityscapes' in name else SEGMENTOR
    for step in data.get('pipeline', ()):
        if step['type'] == 'Resize' and step.get('keep_ratio') is False:
            width, height = step['scale']
            return height, width
    return DETECTOR


def _heads(heads: Optional[nn.Module]) -> list:
    """One head, or a cascade of them, as a list."""
    return list(heads) if isinstance(heads, nn.ModuleList) else [heads]


def _rois(number: int, extractor: nn.Module) -> Tensor:
    """Dummy features of proposals, as a roi extractor would cut them."""
    extractor = _heads(extractor)[0]
    size = extractor.roi_layers[0].output_size
    return torch.empty(number, extractor.out_channels, *size)


def _run_two_stage(model: nn.Module, image: Tensor, counter: OperatorCounter,
                   proposals: Tuple[int, int]) -> None:
    maps = model.extract_feat(image)
    if model.with_rpn:
        model.rpn_head(maps)
    roi_head = model.roi_head
    for task, number in zip(('bbox', 'mask'), proposals):
        if not getattr(roi_head, f'with_{task}'):
            continue
        rois = _rois(number, getattr(roi_head, f'{task}_roi_extractor'))
        counter.batch = number
        if roi_head.with_shared_head:
            rois = roi_head.shared_head(rois)
        for head in _heads(getattr(roi_head, f'{task}_head')):
            head(rois)


def count(model: nn.Module, kind: str, size: Tuple[int, int],
          proposals: Tuple[int, int]) -> OperatorCounter:
    """Run one image through a model and count.

    A two-stage detector's heads see dummy features of a declared number of
    proposals, of the shape that its roi extractors cut; proposals are neither
    chosen nor cut. A segmentor's auxiliary heads serve training only and are
    not run.

    Args:
        model: As ``build`` returns it.
        kind: Of ``kind_of``.
        size: (H, W) of the image.
        proposals: For the box heads and for the mask heads.

    Raises:
        ValueError: The model cannot run at that size.
    """
    with torch.device('meta'), torch.no_grad():
        image = torch.empty(1, 3, *size)
        try:
            with OperatorCounter(model) as counter:
                if kind == 'two-stage':
                    _run_two_stage(model, image, counter, proposals)
                elif kind == 'classifier':
                    model(image, mode='tensor')
                else:
                    head = (model.bbox_head if kind == 'one-stage' else
                            model.decode_head)
                    head(model.extract_feat(image))
        except Exception as error:  # a layer may raise anything
            raise ValueError(
                f'{type(model).__name__} cannot be counted at '
                f'{size[0]}x{size[1]}: {error}') from error
    return counter
