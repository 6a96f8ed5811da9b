"""Check a downloaded dataset and convert what the mm toolboxes need of it.

    python tools/prepare_data.py cityscapes data/cityscapes

Downloads, deletes and overwrites nothing; converts if all is well. Exit status
0: usable, 1: missing, damaged or another folder, 2: bad arguments. Below ROOT:

coco        {train,val}2017/ annotations/instances_{train,val}2017.json
voc         VOCdevkit/VOC2007 (trainval and test) VOCdevkit/VOC2012
voc12aug    VOCdevkit/VOC2012, and SBD as VOCdevkit/VOCaug/dataset; writes
            SegmentationClassAug/ and ImageSets/Segmentation/{aug,trainaug}.txt
cityscapes  leftImg8bit/ gtFine/; writes gtFine/*/*/*_gtFine_labelTrainIds.png
imagenet    {train,val}/<wnid>/, or {train,val}/ and meta/{train,val}.txt
cifar100    cifar-100-python/
"""
import argparse
import hashlib
import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

# The folder that tells where a dataset begins
MARKS = dict(coco='train2017', voc='VOCdevkit', voc12aug='VOCdevkit',
             cityscapes='leftImg8bit', imagenet='train',
             cifar100='cifar-100-python')
COCO = 'http://images.cocodataset.org/'
VOC = 'http://host.robots.ox.ac.uk/pascal/VOC/'
CITY = 'https://www.cityscapes-dataset.com/downloads/ (needs an account): '
IMAGENET = 'https://image-net.org/download.php (account): ILSVRC2012_img_'
# What to unpack in ROOT for paths that start so; the first match counts
SOURCES = {
    'train2017': COCO + 'zips/train2017.zip',
    'val2017': COCO + 'zips/val2017.zip',
    'annotations': COCO + 'annotations/annotations_trainval2017.zip',
    'VOCdevkit/VOC2007': VOC + 'voc2007/VOC{trainval,test}_06-Nov-2007.tar',
    'VOCdevkit/VOC2012': VOC + 'voc2012/VOCtrainval_11-May-2012.tar',
    'VOCdevkit': 'http://www.eecs.berkeley.edu/Research/Projects/CS/vision/'
                 'grouping/semantic_contours/benchmark.tgz (rename its '
                 'benchmark_RELEASE to VOCdevkit/VOCaug)',
    'leftImg8bit': CITY + 'leftImg8bit_trainvaltest.zip',
    'gtFine': CITY + 'gtFine_trainvaltest.zip',
    'meta': 'http://dl.caffe.berkeleyvision.org/caffe_ilsvrc12.tar.gz (move '
            'its train.txt and val.txt to meta/)',
    'train': IMAGENET + 'train.tar (each tar in it as train/<its name>/)',
    'val': IMAGENET + 'val.tar (as val/)',
    'cifar': 'https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz'}
COCO_IDS = set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
VOC_CLASSES = set(
    'aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog '
    'horse motorbike person pottedplant sheep sofa train tvmonitor'.split())
# What is trained for each of Cityscapes' 34 ids; 255: ignored
TRAIN_IDS = np.full(34, 255, np.uint8)
TRAIN_IDS[[7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]] = range(19)
CIFAR_MD5 = dict(train='16019d7e3df5f24257cddd939b257f8d',
                 test='f0ef6b0ae62326f3e7ffdfab6717acfc',
                 meta='7973b15100ade9c7d40fb424638fde48')


def read_image(path):
    with Image.open(path) as image:
        image.load()  # opening reads no more than the header
        return np.array(image)


def read_labels(path, allowed=(*range(21), 255)):
    if path.suffix == '.mat':
        try:
            from scipy.io import loadmat
        except ImportError:
            sys.exit('prepare_data: SBD needs scipy: pip install scipy')
        labels = loadmat(path)['GTcls'][0]['Segmentation'][0]
    else:
        labels = read_image(path)
    if labels.ndim != 2 or not np.isin(labels, allowed).all():
        raise ValueError('not a map of this dataset\'s labels')
    return labels.astype(np.uint8)


def read_xml(path):
    names = ElementTree.parse(path).getroot().iterfind('object/name')
    if not {name.text for name in names} <= VOC_CLASSES:
        raise ValueError('a class that VOC has not')


def read_md5(path):
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if md5 != CIFAR_MD5[path.name]:
        raise ValueError(f'md5 {md5} instead of {CIFAR_MD5[path.name]}')


def parse_coco(text):
    data = json.loads(text)
    names = {item['id']: str(item['file_name']) for item in data['images']}
    if {item['id'] for item in data['categories']} != COCO_IDS:
        raise ValueError('its categories are not those of COCO')
    for item in tqdm(data['annotations'], leave=False):
        for key, known in (('image_id', names), ('category_id', COCO_IDS)):
            if item[key] not in known:
                raise ValueError(f'annotation of unknown {key} {item[key]}')
    return names.values()


def parse_meta(text):
    pairs = (line.rsplit(' ', 1) for line in text.splitlines())
    labels = {name: int(label) for name, label in pairs}
    if labels.get('ILSVRC2012_val_00000001.JPEG', 65) != 65 or not set(
            labels.values()) <= set(range(1000)):
        raise ValueError('labels must count sorted wnids from 0')
    return labels


def write(root, path, data):
    """Write a whole file or none; unlike tempfile's, others may read it."""
    if not path.parent.resolve().is_relative_to(root.resolve()):
        raise ValueError(f'{path} would lie behind a link out of ROOT')
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class Look:
    """The arguments; prints what it finds below them, counts the errors."""
    errors = 0

    def error(self, path, fault, names=('',)):
        """Print one error about a path, or none if it is about no names."""
        if names:
            more = f' and {len(names) - 1} more' * (len(names) > 1)
            print(f'error: {path}: {fault}{min(names)}{more}; unpack in ROOT:',
                  next(v for k, v in SOURCES.items() if path.startswith(k)))
            self.errors += 1

    def count(self, path, found, total):
        if found == total or self.partial and 0 < found < total:
            print('warning: ' * (found < total) + path, found, 'of', total)
        else:
            self.error(path, f'{found} instead of {total} (see --partial)')

    def names(self, path, total, parse=str.split):
        try:
            names = set(parse((self.root / path).read_text('utf-8')))
        except (ValueError, KeyError, TypeError, OSError) as error:
            self.error(path, f'missing or damaged ({error!r})')
            return set()
        self.count(path, len(names), total)
        return names

    def listing(self, folder):
        top = self.root / folder
        walk = tqdm(os.walk(top, followlinks=True), folder, leave=False)
        return {os.path.join(path, file)[len(f'{top}/'):]
                for path, _, files in walk for file in files}

    def files(self, folder, names, origin, read, suffix=''):
        names, files = {n + suffix for n in names}, self.listing(folder)
        if not files:
            return self.error(folder, 'missing or empty')
        self.error(folder, f'lacks files of {origin}: ', names - files)
        self.each(folder, names & files, read)

    def each(self, folder, names, act, sample=True):
        """Act on evenly spread paths; one error about all that raise."""
        names, bad = sorted(names), []
        count = min(self.sample, len(names)) if sample else len(names)
        for i in tqdm(range(count), folder, leave=False):
            name = names[i * len(names) // count]
            try:
                act(self.root / folder / name)
            except Exception as error:  # decoders raise nearly everything
                bad.append(f'{name} ({error})')
        print(f'{folder}: opened {count} of {len(names)}')
        self.error(folder, 'damaged: ', bad)
        return count - len(bad)

    def convert(self, folder, target, pairs, read=read_labels):
        """Write the label maps that are not there; pairs: old to new name."""
        if not self.errors:
            todo = {self.root / folder / old: self.root / target / new
                    for old, new in pairs.items()
                    if not os.path.lexists(self.root / target / new)}
            wrote = self.each(folder, todo, lambda old: write(self.root, todo[
                old], cv2.imencode('.png', read(old))[1].tobytes()), 0)
            print(f'{target}: kept {len(pairs) - len(todo)}, wrote {wrote}')

    def coco(self):
        for split, total in (('train2017', 118287), ('val2017', 5000)):
            origin = f'annotations/instances_{split}.json'
            names = self.names(origin, total, parse_coco)
            self.files(split, names, origin, read_image)

    def voc(self):
        for year, split, total in ((2007, 'trainval', 5011), (
                2007, 'test', 4952), (2012, 'trainval', 11540)):
            voc = f'VOCdevkit/VOC{year}'
            origin = f'{voc}/ImageSets/Main/{split}.txt'
            names = self.names(origin, total)
            self.files(f'{voc}/JPEGImages', names, origin, read_image, '.jpg')
            self.files(f'{voc}/Annotations', names, origin, read_xml, '.xml')

    def voc12aug(self):
        voc, sbd = 'VOCdevkit/VOC2012', 'VOCdevkit/VOCaug/dataset'
        sets, labels = f'{voc}/ImageSets/Segmentation', 'SegmentationClass'
        train = self.names(f'{sets}/train.txt', 1464)
        val = self.names(f'{sets}/val.txt', 1449)
        more = (self.names(f'{sbd}/train.txt', 8498)
                | self.names(f'{sbd}/val.txt', 2857))
        every = train | val | more
        self.files(f'{voc}/JPEGImages', every, sets, read_image, '.jpg')
        self.files(f'{voc}/{labels}', train | val, sets, read_labels, '.png')
        self.files(f'{sbd}/cls', more, sbd, read_labels, '.mat')
        self.count(sbd, len(every - val), 10582)
        self.convert('VOCdevkit', f'{voc}/{labels}Aug', {
            f'VOCaug/dataset/cls/{name}.mat' if name in more else
            f'VOC2012/{labels}/{name}.png': f'{name}.png' for name in every})
        for name, names in () if self.errors else (
                ('trainaug', every - val), ('aug', every - train - val)):
            path = self.root / sets / f'{name}.txt'
            if not os.path.lexists(path):
                write(self.root, path, ''.join(
                    f'{line}\n' for line in sorted(names)).encode())
                print(f'{path}: wrote {len(names)} names')
            elif set(path.read_text().split()) != names:
                raise ValueError(f'{path} lists other images: move it away')

    def cityscapes(self):
        pairs, end = {}, '_leftImg8bit.png'
        for split, total in (('train', 2975), ('val', 500)):
            folder = f'leftImg8bit/{split}'
            names = [n for n in self.listing(folder) if n.endswith(end)]
            self.count(folder, len(names), total)
            self.each(folder, names, read_image)
            stems = [f'{split}/{n[:-len(end)]}_gtFine_label' for n in names]
            pairs.update({f'{s}Ids.png': f'{s}TrainIds.png' for s in stems})
        self.files('gtFine', pairs, 'leftImg8bit', read_image)
        self.convert('gtFine', 'gtFine', pairs, lambda path: TRAIN_IDS[
            read_labels(path, range(34))])

    def imagenet(self):
        for split, total in (('train', 1281167), ('val', 50000)):
            meta = f'meta/{split}.txt'
            if (self.root / meta).exists():  # mmpretrain then reads this
                names = self.names(meta, total, parse_meta)
                self.files(split, names, meta, read_image)
                continue
            names = [name for name in self.listing(split)
                     if name.lower().endswith(('.jpeg', '.jpg', '.png'))]
            self.count(split, len(names), total)
            self.error(meta, 'missing, but needed to label ', [
                name for name in names if '/' not in name])
            wnids = next(os.walk(self.root / split), (0, ()))[1]
            self.count(f'{split}/*', len(wnids), 1000)
            self.error(split, 'all folders must be wnids, unlike ', [
                n for n in wnids if n[0] != 'n' or not n[1:].isdecimal()])
            self.each(split, names, read_image)

    def cifar100(self):
        self.each('cifar-100-python', CIFAR_MD5, read_md5, sample=False)

    def find_root(self, mark):
        root = Path(os.path.abspath(self.root))
        if not root.is_dir():
            raise ValueError(f'{root} ' + ('is a file, not a folder' if
                                           root.exists() else 'is missing'))
        for path in (root.parent, root.parent.parent, *sorted(root.iterdir())):
            if os.path.isdir(path / mark) and not os.path.isdir(root / mark):
                level = 'high' if path.parent == root else 'low'
                raise ValueError(f'{root} lies too {level}: give {path}')
        return root


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('dataset', choices=MARKS)
    parser.add_argument('root', metavar='ROOT')
    parser.add_argument('--partial', action='store_true', help='accept less')
    parser.add_argument('--sample', type=int, default=200, help='files opened')
    look = parser.parse_args(args, Look())
    if look.sample < 0:
        parser.error(f'--sample {look.sample} is below 0')
    try:
        look.root = look.find_root(MARKS[look.dataset])
        getattr(look, look.dataset)()
    except (OSError, ValueError) as error:
        sys.exit(f'prepare_data: {error}')
    if look.errors:
        sys.exit(f'prepare_data: {look.errors} errors, not usable')
    print(f'{look.root}: usable')


if __name__ == '__main__':
    main()
