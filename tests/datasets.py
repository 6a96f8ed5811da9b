"""Two images a split in the layout of each dataset that configs name.

One is dark and one bright: a batch norm on pooled vectors (AFF, SK, depth
attention) would blow up the difference of two images that are alike.

``make(root)`` fills ``root`` as configs expect it of ``data``;
``point(cfg, root)`` has a config read it, small.
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


def _boxes(width, height):
    """Two objects: label, left, top, right and bottom, from 0, outside."""
    return ((0, 3, 5, 74, 65), (1, 40, 11, width - 5, height - 7))


def _write_labels(path, width, height, values):
    """The two objects on a background of 0, and a part to ignore."""
    labels = np.zeros((height, width), np.uint8)
    for label, left, top, right, bottom in _boxes(width, height):
        labels[top:bottom, left:right] = values[label]
    labels[-3:] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), labels)


def _write_list(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{name}\n' for name in names))


def voc(root, rng):
    """2007 and 2012; train and aug lists share no image, as in the real."""
    from mmdet.datasets import VOCDataset
    names = VOCDataset.METAINFO['classes']
    for year, split, lists in (
        ('VOC2007', 'Main', dict(trainval='0', test='01')),
        ('VOC2012', 'Main', dict(trainval='1')),
        ('VOC2012', 'Segmentation', dict(train='0', aug='1', val='01')),
    ):
        for name, images in lists.items():
            _write_list(root / year / 'ImageSets' / split / f'{name}.txt',
                        images)
    for year in ('VOC2007', 'VOC2012'):
        for i, size in enumerate(SIZES):
            _write_picture(
                root / year / 'JPEGImages' / f'{i}.jpg', rng, *size, 127 * i)
            objects = []
            for label, *box in _boxes(*size):
                sides = zip(('xmin', 'ymin', 'xmax', 'ymax'), box)
                objects.append(
                    f'<object><name>{names[19 * label]}</name>'
                    f'<difficult>{int(label and i)}</difficult><bndbox>' +
                    ''.join(f'<{k}>{v}</{k}>' for k, v in sides) +
                    '</bndbox></object>')
            path = root / year / 'Annotations' / f'{i}.xml'
            path.parent.mkdir(exist_ok=True)
            path.write_text(
                f'<annotation><size><width>{size[0]}</width><height>{size[1]}'
                '</height><depth>3</depth></size>' + ''.join(objects) +
                '</annotation>')
    for i, size in enumerate(SIZES):
        for folder in ('SegmentationClass', 'SegmentationClassAug')[:i + 1]:
            _write_labels(
                root / 'VOC2012' / folder / f'{i}.png', *size, values=(1, 20))


def cityscapes(root, rng):
    """A town for each split, with the label maps that are trained on."""
    for split in SPLITS:
        for i, size in enumerate(SIZES):
            name = f'{split}/town/town_{i}'
            _write_picture(root / f'leftImg8bit/{name}_leftImg8bit.png', rng,
                           *size, 127 * i)
            _write_labels(
                root / f'gtFine/{name}_gtFine_labelTrainIds.png',
                *size,
                values=(7, 18))


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
    for layout in (coco, imagenet, cifar100, toy, cityscapes):
        layout(root / layout.__name__, np.random.default_rng(0))
    voc(root / 'VOCdevkit', np.random.default_rng(0))


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
    elif kind == 'RandomCrop' and 'padding' not in step:
        step['crop_size'] = SCALE
    elif kind == 'ResizeEdge':
        step['scale'] = max(SCALE)
    elif kind == 'CenterCrop':
        step['crop_size'] = SCALE


def point(cfg, root):
    """Have a config read the datasets below ``root``, both images at once.

    Its pipelines stay what they are, but for the scale.
    """
    folder = Path(cfg.val_dataloader.dataset.data_root).relative_to('data')
    set_data_root(cfg, str(root / folder))
    if 'size' in cfg.model.data_preprocessor:  # what crops are padded to
        cfg.model.data_preprocessor.size = SCALE
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(
            batch_size=2, num_workers=0, persistent_workers=False)
        for dataset in loader.dataset.get('datasets', [loader.dataset]):
            for step in dataset.get('pipeline', ()):
                _shrink(step)
    if cfg.default_scope == 'mmseg':  # tests images of any size, one by one
        cfg.val_dataloader.batch_size = 1
