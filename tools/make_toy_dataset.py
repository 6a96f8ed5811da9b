"""Draw a small dataset of shapes with exact masks, in a layout of your choice.

    python tools/make_toy_dataset.py data/toy --layout coco

Each image has a textured ground and one to six objects. An object's class is
its shape; colour, texture, size and rotation are random. Objects hide each
other, and annotations describe the pixels that can be seen. The same seed
gives the same images in all layouts but ``imagenet``. Below OUT_DIR:

coco        train/ val/ annotations/instances_{train,val}.json
voc         VOCdevkit/VOC2007; trainval.txt is train.txt and test.txt is
            val.txt, so that no image is both trained on and tested
voc_seg     VOCdevkit/VOC2012; background 0, then the classes from 1
cityscapes  leftImg8bit/ gtFine/; background 0 (road), then TRAIN_IDS
imagenet    {train,val}/<class>/, one object per image

The two segmentation layouts mark what is too hidden to be annotated as 255.
For coco and voc, a dataset's config needs ``metainfo=dict(classes=CLASSES)``.
``toy_dataset.json``, written last, says what was made.
"""
import argparse
import io
import json
import math
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

VERSION = 1  # raise it whenever the same request gives other data
MANIFEST = 'toy_dataset.json'
CLASSES = ('disc', 'ring', 'square', 'triangle')  # alphabetical, as folders
TRAIN_IDS = (7, 8, 11, 13)  # Cityscapes: sign, vegetation, person, car
# COCO's small, medium and large: lowest and highest sqrt(area), parts of draws
SCALES = ((16, 31, 6), (36, 92, 64), (100, 4096, 30))
MAX_SIDE = 0.6  # highest sqrt(area) over the image's shorter side
MAX_OVERLAP = 0.15  # share of a new object that may lie on earlier ones
MIN_VISIBLE = 0.2  # objects of which less can be seen are not annotated
IGNORED = 255
GROUND, OBJECT = (0, 100), (100, 256)  # ranges of the channels' values

# ids: 0 is background, n the n-th object; things: the annotated objects
Scene = namedtuple('Scene', 'name image ids labels things')
Thing = namedtuple('Thing', 'number label box area')

# -- draw ------------------------------------------------------------------
# Bits must not depend on the machine. Hence RandomState, whose streams NumPy
# has frozen, and only operations that IEEE 754 rounds exactly: no sin, no
# exp, no sums of floats.


def _between(rng, low, high):
    return low + (high - low) * rng.random_sample()


def _pick(rng, count):
    return int(rng.random_sample() * count)


def _turned(rng, x, y):
    """Coordinates turned by -90 to 90 degrees."""
    t = _between(rng, -1, 1)
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    return x * cos + y * sin, y * cos - x * sin


def _inside(shape, u, v):
    """Where points lie inside a shape of circumradius 1."""
    if shape == 'disc':
        return u * u + v * v <= 1
    if shape == 'ring':
        return abs(u * u + v * v - 0.65) <= 0.35
    if shape == 'square':
        return np.maximum(abs(u), abs(v)) <= math.sqrt(0.5)
    return (v <= 0.5) & (abs(u) * math.sqrt(3) - v <= 1)  # triangle


AREAS = dict(disc=3.14, ring=2.2, square=2.0, triangle=1.3)


def _mask(rng, shape, width, height, side):
    """An object of about ``side * side`` pixels, mostly inside the image."""
    radius = side / math.sqrt(AREAS[shape])
    cx = _between(rng, 0.7 * radius, width - 0.7 * radius)
    cy = _between(rng, 0.7 * radius, height - 0.7 * radius)
    u, v = _turned(rng, np.arange(width) - cx, np.arange(height)[:, None] - cy)
    stretch = _between(rng, 0.9, 1.1)
    return _inside(shape, u / (radius * stretch), v / radius * stretch)


def _side(rng, width, height):
    """Draw one of the scales that fit into the image, then a side."""
    limit = MAX_SIDE * min(width, height)
    fitting = [scale for scale in SCALES if scale[0] < limit]
    draws = [scale for scale in fitting for _ in range(scale[2])]
    low, high, _ = draws[_pick(rng, len(draws))]
    return _between(rng, low, min(high, limit))


def _colour(rng, channels, used):
    """Of eight random colours, the one farthest from those in use."""
    colours = [[int(_between(rng, *channels)) for _ in range(3)]
               for _ in range(8)]
    return max(colours, key=lambda colour: min(
        (sum((a - b) * (a - b) for a, b in zip(colour, other))
         for other in used), default=0))


def _texture(rng, width, height, colour, swing):
    """Fill an image with a pattern, at most ``swing`` away from a colour."""
    u, v = _turned(rng, np.arange(width), np.arange(height)[:, None])
    period = _between(rng, 8, 40)

    def clouds():
        cells = int(height / period) + 2, int(width / period) + 2
        grid = (rng.random_sample(cells) * 256).astype(np.uint8)
        return cv2.resize(grid, (width, height),
                          interpolation=cv2.INTER_LINEAR_EXACT) / 255

    patterns = (lambda: np.zeros((height, width)),  # plain
                lambda: u / (width + height),  # a gradient
                lambda: np.floor(u / period) % 2,  # stripes
                lambda: abs(u / period % 2 - 1),  # ripples
                lambda: (np.floor(u / period) + np.floor(v / period)) % 2,
                clouds)
    pattern = patterns[_pick(rng, len(patterns))]()
    towards = np.array([_between(rng, -swing, swing) for _ in range(3)])
    return colour + (pattern[..., None] * 2 - 1) * towards


# -- scene -----------------------------------------------------------------


def draw_scene(name, seeds, width, height, single=None):
    """Draw one image and its objects, the later ones in front.

    Args:
        name: The image's name, without directory and suffix.
        seeds: Integers that decide everything random.
        width, height: Of the image.
        single: Draw one large object with this label instead of several.
    """
    rng = np.random.RandomState(seeds)
    used = [_colour(rng, GROUND, [])]
    image = _texture(rng, width, height, used[0], 25)
    ids = np.zeros((height, width), np.int32)
    labels, full = [], []
    for _ in range(1 + _pick(rng, 6) if single is None else 1):
        label = _pick(rng, len(CLASSES)) if single is None else single
        for _ in range(12):  # attempts before doing without this object
            side = (_side(rng, width, height) if single is None else
                    _between(rng, 0.35, MAX_SIDE) * min(width, height))
            mask = _mask(rng, CLASSES[label], width, height, side)
            if (ids[mask] > 0).sum() <= MAX_OVERLAP * mask.sum():
                used.append(_colour(rng, OBJECT, used))
                image[mask] = _texture(rng, width, height, used[-1], 25)[mask]
                labels.append(label)
                full.append(int(mask.sum()))
                ids[mask] = len(labels)
                break
    noise = rng.random_sample((height, width, 1)) * 2 - 1
    image += noise * _between(rng, 2, 10)
    image = np.floor(image.clip(0, 255) + 0.5).astype(np.uint8)

    things = []
    for number, (label, area) in enumerate(zip(labels, full), 1):
        mask = ids == number
        visible = int(mask.sum())
        if visible >= MIN_VISIBLE * area:
            box = list(cv2.boundingRect(mask.astype(np.uint8)))
            things.append(Thing(number, label, box, visible))
    return Scene(name, image, ids, labels, things)


def _label_map(scene, values):
    """Background 0, a value per class; objects not annotated are ignored."""
    table = np.full(len(scene.labels) + 1, IGNORED, np.uint8)
    table[0] = 0
    for thing in scene.things:
        table[thing.number] = values[thing.label]
    return table[scene.ids]


# -- writers: one per layout, called once per split ------------------------


class _Output:
    """Writes below one directory, never over a file, and keeps a list."""

    def __init__(self, root):
        self.root, self.files = root, []

    def write(self, name, data):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, 'xb') as file:
            self.files.append(name)
            file.write(data)

    def write_lines(self, name, lines):
        self.write(name, ''.join(f'{line}\n' for line in lines).encode())

    def write_image(self, name, image):
        options = [cv2.IMWRITE_JPEG_QUALITY, 95] if name[-3:] == 'jpg' else []
        self.write(name, cv2.imencode(name[-4:], image, options)[1].tobytes())


def write_coco(output, split, scenes):
    images, annotations = [], []
    for image_id, scene in enumerate(scenes, 1):
        height, width = scene.ids.shape
        file_name = f'{scene.name}.jpg'
        output.write_image(f'{split}/{file_name}', scene.image)
        images.append(dict(id=image_id, file_name=file_name, width=width,
                           height=height, license=1))
        for thing in scene.things:
            rle = coco_mask.encode(np.asfortranarray(
                scene.ids == thing.number, np.uint8))
            annotations.append(dict(
                id=len(annotations) + 1, image_id=image_id,
                category_id=thing.label + 1, bbox=thing.box, area=thing.area,
                iscrowd=0, segmentation=dict(size=[height, width],
                                             counts=rle['counts'].decode())))
    output.write(f'annotations/instances_{split}.json', json.dumps(dict(
        info=dict(description='toy shapes', version=str(VERSION)),
        licenses=[dict(id=1, name='CC0-1.0', url='')], images=images,
        categories=[dict(id=i, name=name, supercategory='shape')
                    for i, name in enumerate(CLASSES, 1)],
        annotations=annotations)).encode())


def write_voc(output, split, scenes):
    root, names = 'VOCdevkit/VOC2007', []
    for scene in scenes:
        height, width = scene.ids.shape
        names.append(scene.name)
        output.write_image(f'{root}/JPEGImages/{scene.name}.jpg', scene.image)
        lines = ['<annotation>', '<folder>VOC2007</folder>',
                 f'<filename>{scene.name}.jpg</filename>',
                 f'<size><width>{width}</width><height>{height}</height>'
                 '<depth>3</depth></size>', '<segmented>0</segmented>']
        for thing in scene.things:
            x, y, w, h = thing.box  # VOC counts from 1, both ends included
            lines.append(
                f'<object><name>{CLASSES[thing.label]}</name>'
                '<difficult>0</difficult>'
                f'<bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>'
                f'<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>')
        output.write_lines(f'{root}/Annotations/{scene.name}.xml',
                           lines + ['</annotation>'])
    for name in dict(train=('train', 'trainval'), val=('val', 'test'))[split]:
        output.write_lines(f'{root}/ImageSets/Main/{name}.txt', names)


def write_voc_seg(output, split, scenes):
    root, names = 'VOCdevkit/VOC2012', []
    # VOC's colour map: bits 0 to 2 of an index are the top bits of R, G, B,
    # bits 3 to 5 the next ones
    palette = [((i >> c) & 1) << 7 | ((i >> c + 3) & 1) << 6
               | ((i >> c + 6) & 1) << 5 for i in range(256) for c in range(3)]
    for scene in scenes:
        names.append(scene.name)
        output.write_image(f'{root}/JPEGImages/{scene.name}.jpg', scene.image)
        label_map = Image.fromarray(
            _label_map(scene, range(1, len(CLASSES) + 1)))
        label_map.putpalette(palette)
        data = io.BytesIO()
        label_map.save(data, 'PNG')
        output.write(f'{root}/SegmentationClass/{scene.name}.png',
                     data.getvalue())
    output.write_lines(f'{root}/ImageSets/Segmentation/{split}.txt', names)


def write_cityscapes(output, split, scenes):
    for scene in scenes:
        name = f'{split}/toycity/{scene.name}_000000'
        output.write_image(f'leftImg8bit/{name}_leftImg8bit.png', scene.image)
        output.write_image(f'gtFine/{name}_gtFine_labelTrainIds.png',
                           _label_map(scene, TRAIN_IDS))


def write_imagenet(output, split, scenes):
    for scene in scenes:
        folder = f'{split}/{CLASSES[scene.labels[0]]}'
        output.write_image(f'{folder}/{scene.name}.jpg', scene.image)


WRITERS = dict(coco=write_coco, voc=write_voc, voc_seg=write_voc_seg,
               cityscapes=write_cityscapes, imagenet=write_imagenet)

# -- request, manifest, command line ---------------------------------------


def _check(layout, counts, size, seed):
    if layout not in WRITERS:
        raise ValueError(f'unknown layout {layout!r}: choose one of '
                         f'{", ".join(WRITERS)}')
    if min(size) < 32:
        raise ValueError(f'size {size[0]}x{size[1]} is too small: both sides '
                         'must be at least 32')
    if min(counts) < 0 or max(counts) == 0:
        raise ValueError(f'{counts[0]} train and {counts[1]} val images: ask '
                         'for none in at most one split, and no less')
    if layout == 'imagenet' and any(0 < n < len(CLASSES) for n in counts):
        raise ValueError(f'{counts[0]} train and {counts[1]} val images: a '
                         f'split needs one for each of {len(CLASSES)} classes')
    if not 0 <= seed < 2 ** 32:
        raise ValueError(f'seed {seed} is outside 0 ... 2**32 - 1')


def _read_manifest(out_dir):
    """What an earlier call made in ``out_dir``; None where nothing lies."""
    if not out_dir.exists() or out_dir.is_dir() and not any(out_dir.iterdir()):
        return None
    try:
        manifest = json.loads((out_dir / MANIFEST).read_text())
        root = out_dir.resolve()
        for name in manifest['files']:  # to be removed with --overwrite
            (root / name).resolve().relative_to(root)
        return {key: manifest[key] for key in ('request', 'summary', 'files')}
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f'{out_dir} is in use, but not by this tool (no '
                         f'valid {MANIFEST}): choose another OUT_DIR')


def _remove(out_dir, files):
    """Remove these files and the directories that this leaves empty."""
    for name in files:
        (out_dir / name).unlink(missing_ok=True)
    parents = {parent for name in files for parent in Path(name).parents[:-1]}
    for parent in sorted(parents, reverse=True):  # the deepest first
        directory = out_dir / parent
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def make_toy_dataset(out_dir, layout, num_train=160, num_val=40, size=192,
                     seed=0, overwrite=False):
    """Make the dataset, unless ``out_dir`` already holds just this one.

    Args:
        out_dir: Directory to fill; made where it is missing.
        layout: A key of ``WRITERS``.
        num_train, num_val: Images per split; image k does not depend on them.
        size: Side of the square images, or ``(width, height)``.
        seed: Decides all images; train and val draw from different streams.
        overwrite: Replace the files that an earlier call made here.

    Returns:
        dict: ``made`` (False where nothing was to do), ``images`` per split,
        ``objects`` per class and ``sizes`` (annotated objects in COCO's area
        ranges).

    Raises:
        ValueError: A bad argument, or ``out_dir`` holds something else.
    """
    out_dir = Path(out_dir)
    size = [size, size] if isinstance(size, int) else list(size)
    counts = dict(train=num_train, val=num_val)
    _check(layout, (num_train, num_val), size, seed)
    request = dict(version=VERSION, layout=layout, images=counts, size=size,
                   seed=seed)
    manifest = _read_manifest(out_dir)
    if manifest and not overwrite:
        if manifest['request'] != request or not all(
                (out_dir / name).exists() for name in manifest['files']):
            raise ValueError(
                f'{out_dir} holds another dataset, or only a part of it '
                f'({manifest["request"]}; asked: {request}): choose another '
                'OUT_DIR, or replace it with --overwrite')
        return dict(manifest['summary'], made=False)
    if manifest:
        _remove(out_dir, [MANIFEST] + manifest['files'])

    output = _Output(out_dir)
    summary = dict(images=counts, objects=dict.fromkeys(CLASSES, 0),
                   sizes=dict(small=0, medium=0, large=0))

    def scenes(stream, split):
        for index in range(counts[split]):
            single = index % len(CLASSES) if layout == 'imagenet' else None
            scene = draw_scene(f'{split}_{index + 1:06d}',
                               [seed, stream, index], *size, single)
            for thing in scene.things:
                summary['objects'][CLASSES[thing.label]] += 1
                scale = (thing.area >= 32 ** 2) + (thing.area >= 96 ** 2)
                summary['sizes'][('small', 'medium', 'large')[scale]] += 1
            yield scene
            progress.update()

    try:
        with tqdm(total=num_train + num_val, unit='image') as progress:
            for stream, split in enumerate(counts):
                WRITERS[layout](output, split, scenes(stream, split))
        output.write(MANIFEST, json.dumps(dict(
            request=request, summary=summary, files=output.files)).encode())
    except BaseException:  # Ctrl-C too: leave no half of a dataset
        _remove(out_dir, output.files)
        raise
    return dict(summary, made=True)


class _Parser(argparse.ArgumentParser):

    def error(self, message):  # one line, without the usage
        self.exit(2, f'{self.prog}: error: {message}\n')


def _size(text):
    sides = text.split('x')
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither a side (192) nor WxH (224x160)')
    return int(sides[0]), int(sides[-1])


def main(args=None):
    parser = _Parser(description='Draw a small dataset of shapes with exact '
                     'masks; the head of this file describes the layouts.')
    parser.add_argument('out_dir', metavar='OUT_DIR')
    parser.add_argument('--layout', required=True, help=', '.join(WRITERS))
    parser.add_argument('--train', type=int, default=160, metavar='N',
                        dest='num_train', help='images (default: 160)')
    parser.add_argument('--val', type=int, default=40, metavar='N',
                        dest='num_val', help='images (default: 40)')
    parser.add_argument('--size', type=_size, default=192, metavar='N|WxH',
                        help='of an image, in pixels (default: 192)')
    parser.add_argument('--seed', type=int, default=0, help='(default: 0)')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace what an earlier run made in OUT_DIR')
    args = parser.parse_args(args)
    try:
        summary = make_toy_dataset(**vars(args))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f'{args.out_dir}: made' if summary['made'] else
          f'{args.out_dir} already holds this dataset: nothing to do')
    for key in ('images', 'objects', 'sizes'):
        print(f'{key}: ' + ', '.join(f'{count} {name}' for name, count
                                     in summary[key].items()))


if __name__ == '__main__':
    main()
