"""Random weights, and random batches in each toolbox's own structures."""
from copy import deepcopy

import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from mmengine.utils import digit_version

SIZE = (65, 97)


def randomise(module, seed=0):
    """Leave no parameter and no running statistic at a special value.

    Most biases are positive, so that a narrow relu stays alive.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            if value.dim() < 2:
                value.uniform_(-0.5, 1, generator=generator)
            else:
                value.normal_(std=0.5, generator=generator)
        for key, value in module.named_buffers():
            if key.endswith('running_mean'):
                value.normal_(generator=generator)
            elif key.endswith('running_var'):
                value.uniform_(0.5, 2, generator=generator)
    return module


def in_one_graph(module):
    """A compiled copy; each test has the process's limit for itself."""
    if digit_version(torch.__version__) < digit_version('2.4'):
        pytest.skip(f'the compiler of torch {torch.__version__} breaks graphs '
                    'that those since 2.4 do not')
    torch.compiler.reset()
    return torch.compile(deepcopy(module), backend='eager', fullgraph=True)


def boxes(num_classes: int, with_mask: bool = False):
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    sample = DetDataSample(
        metainfo=dict(
            img_shape=SIZE, ori_shape=SIZE, scale_factor=(1., 1.),
            batch_input_shape=SIZE, img_id=0))
    corners = torch.tensor([[3., 5., 41., 60.], [30., 11., 90., 47.]])
    sample.gt_instances = InstanceData(
        bboxes=corners, labels=torch.tensor([0, num_classes - 1]))
    if with_mask:
        masks = np.zeros((2, *SIZE), dtype=np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, corners.int().tolist()):
            mask[y1:y2, x1:x2] = 1
        sample.gt_instances.masks = BitmapMasks(masks, *SIZE)
    return sample


def segments(num_classes: int):
    from mmseg.structures import SegDataSample
    sample = SegDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE))
    sample.gt_sem_seg = PixelData(data=torch.randint(num_classes, (1, *SIZE)))
    return sample


def label(num_classes: int):
    from mmpretrain.structures import DataSample
    sample = DataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE))
    return sample.set_gt_label(num_classes - 1)


def batch(make_sample) -> dict:
    """Two images with a sample each, as a data loader hands them on."""
    images = torch.randint(256, (2, 3, *SIZE), dtype=torch.uint8)
    return dict(
        inputs=list(images.unbind()),
        data_samples=[make_sample() for _ in images])
