"""Two images a split in the layout of each dataset that configs name.

One is dark and one bright: a batch norm on pooled vectors (AFF, SK, depth
attention) would blow up the difference of two images that are alike.

``make(root)`` fills ``root/coco``, ``root/imagenet``, ``root/cifar100`` and
``root/toy``; ``point(cfg, root)`` has a config read them, small.
"""
import hashlib
import importlib.util
import json
import pickle
from pathlib import Path

import cv2
import numpy as np

from mmattn.engine.launch import set_data_root

SIZES = ((131, 97), (113, 83))  # width and height: odd, and not the same
# Width and height of what the networks see; a random crop's the other way.
SCALE = (97, 65)
# COCO numbers its 80 categories from 1 to 90 and leaves these out.
COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
SPLITS = ('train', 'val')


def picture(rng, width, height, low=0):
    """Smooth noise from ``low`` up by 128; survives resizing and JPEG."""
    noise = rng.integers(low, low + 128, (height // 8, width // 8, 3))
    return cv2.resize(noise.astype(np.uint8), (width, height))


def _write_picture(path, *args):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(*args))


def coco(root, rng):
    """Two objects an image, and in one a crowd, which has no polygon."""
    from mmdet.datasets import CocoDataset
    names = CocoDataset.METAINFO['classes']
    ids = [i for i in range(1, 91) if i not in COCO_GAPS]
    assert len(ids) == len(names) == 80
    for split in SPLITS:
        images, annotations = [], []
        for i, (width, height) in enumerate(SIZES):
            name = f'{i + 1:012d}.jpg'
            _write_picture(
                root / f'{split}2017' / name, rng, width, height, 127 * i)
            images.append(
                dict(id=i + 1, file_name=name, width=width, height=height))
            for x, y, w, h, category in ((3, 5, 71, 60, ids[0]),
                                         (40, 11, 50, 47, ids[-1])):
                annotations.append(
                    dict(
                        image_id=i + 1,
                        category_id=category,
                        iscrowd=0,
                        bbox=[x, y, w, h],
                        area=w * h / 2,
                        segmentation=[[x, y, x + w, y, x, y + h]]))
        runs = [7, 50 * height, (width - 50) * height - 7]  # off, on, off
        annotations.append(
            dict(
                image_id=2,
                category_id=ids[0],
                iscrowd=1,
                bbox=[0, 7, 51, height - 7],
                area=runs[1],
                segmentation=dict(counts=runs, size=[height, width])))
        for i, annotation in enumerate(annotations):
            annotation['id'] = i + 1
        path = root / 'annotations' / f'instances_{split}2017.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            json.dumps(
                dict(
                    images=images,
                    annotations=annotations,
                    categories=[
                        dict(id=i, name=name) for i, name in zip(ids, names)
                    ])))


def imagenet(root, rng):
    """Images beside a list of names and labels: the first, the last class."""
    for split in SPLITS:
        lines = []
        for i, size in enumerate(SIZES):
            _write_picture(root / split / f'{i}.JPEG', rng, *size, 127 * i)
            lines.append(f'{i}.JPEG {999 * i}\n')
        path = root / 'meta' / f'{split}.txt'
        path.parent.mkdir(exist_ok=True)
        path.write_text(''.join(lines))


def cifar100(root, rng):
    """The pickles of the python version."""
    folder = root / 'cifar-100-python'
    folder.mkdir(parents=True)
    for split in ('train', 'test'):
        data = np.stack([picture(rng, 32, 32, low) for low in (0, 127)])
        entry = dict(
            filenames=['a.png', 'b.png'],
            fine_labels=[0, 99],
            coarse_labels=[0, 19],
            data=data.transpose(0, 3, 1, 2).reshape(2, 3072))
        (folder / split).write_bytes(pickle.dumps(entry))


def toy(root, rng):
    """What the quickstart generates."""
    path = Path(__file__).parents[1] / 'tools' / 'make_toy_dataset.py'
    spec = importlib.util.spec_from_file_location('make_toy_dataset', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make_toy_dataset(
        root, 'coco', num_train=2, num_val=2, size=SIZES[0])


def make(root):
    """Make all of them below ``root``."""
    for layout in (coco, imagenet, cifar100, toy):
        layout(root / layout.__name__, np.random.default_rng(0))


def accept_cifar100(root, monkeypatch):
    """Have mmpretrain expect the checksums of our two files."""
    from mmpretrain.datasets import CIFAR100
    for split in ('train', 'test'):
        file = root / 'cifar100' / CIFAR100.base_folder / split
        digest = hashlib.md5(file.read_bytes()).hexdigest()
        monkeypatch.setattr(CIFAR100, f'{split}_list', [[split, digest]])


def _shrink(step):
    """Give a pipeline's step the small scale, if it has a scale."""
    kind = step['type']
    if kind in ('Resize', 'FixScaleResize', 'RandomResizedCrop'):
        step['scale'] = SCALE
    elif kind == 'ResizeEdge':
        step['scale'] = max(SCALE)
    elif kind == 'CenterCrop':
        step['crop_size'] = SCALE


def point(cfg, root):
    """Have a config read the datasets below ``root``, both images at once.

    Its pipelines stay what they are, but for the scale.
    """
    name = Path(cfg.train_dataloader.dataset.data_root).name
    set_data_root(cfg, str(root / name))
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(
            batch_size=2, num_workers=0, persistent_workers=False)
        for step in loader.dataset.get('pipeline', ()):
            _shrink(step)
