"""The toy dataset: the same bits each time, exact masks, loadable layouts."""
import hashlib
import importlib.util
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

_PATH = Path(__file__).parents[1] / 'tools' / 'make_toy_dataset.py'
_SPEC = importlib.util.spec_from_file_location('make_toy_dataset', _PATH)
toy = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(toy)

WIDTH, HEIGHT = 131, 97
TRAIN, VAL, SEED = 7, 5, 3
LAYOUTS = tuple(toy.WRITERS)
# Which split an image belongs to, as draw_scene is told
STREAMS = dict(train=0, val=1)


def make(out_dir, layout, **kwargs):
    request = dict(num_train=TRAIN, num_val=VAL, size=(WIDTH, HEIGHT),
                   seed=SEED)
    return toy.make_toy_dataset(out_dir, layout, **{**request, **kwargs})


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """One small dataset in every layout, with the same request otherwise."""
    root = tmp_path_factory.mktemp('toy')
    for layout in LAYOUTS:
        make(root / layout, layout)
    return root


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob('*')) if path.is_file()}


def scene(split, image, single=None):
    return toy.draw_scene('name', [SEED, STREAMS[split], image], WIDTH, HEIGHT,
                          single)


def coco_images(root):
    """Yield split, index, image, its annotations and their decoded masks."""
    for split in STREAMS:
        coco = COCO(root / 'coco' / f'annotations/instances_{split}.json')
        for index, image_id in enumerate(coco.getImgIds()):
            annotations = coco.imgToAnns[image_id]
            yield (split, index, coco.imgs[image_id], annotations,
                   [coco.annToMask(annotation) for annotation in annotations])


# -- determinism -----------------------------------------------------------


@pytest.mark.parametrize('layout', LAYOUTS)
def test_same_request_gives_the_same_bytes(made, layout, tmp_path):
    make(tmp_path, layout)
    assert contents(tmp_path) == contents(made / layout)


def test_drawing_has_not_changed():
    # Made once by this generator: data must not differ between machines.
    # Raise VERSION and renew the digest when the drawing changes on purpose.
    digest = hashlib.sha256()
    for index in range(12):
        drawn = toy.draw_scene('name', [0, 0, index], 131, 97)
        digest.update(drawn.image.tobytes())
        digest.update(drawn.ids.astype('<i4').tobytes())
    assert (toy.VERSION, digest.hexdigest()[:16]) == (1, '2d1d372b2e035ef3')


def test_images_depend_on_seed_split_and_index_only(made, tmp_path):
    make(tmp_path / 'more', 'coco', num_train=TRAIN + 2, num_val=0)
    more, base = contents(tmp_path / 'more'), contents(made / 'coco')
    trained = [name for name in base if name.startswith('train')]
    assert len(trained) == TRAIN
    assert all(more[name] == base[name] for name in trained)
    make(tmp_path / 'other', 'coco', seed=SEED + 1)
    other = contents(tmp_path / 'other')
    images = [name for name in base if name.endswith('.jpg')]
    assert not {base[name] for name in images} & {other[name]
                                                 for name in images}
    assert len({base[name] for name in images}) == TRAIN + VAL


# -- what is drawn ---------------------------------------------------------


def test_coco_masks_are_the_visible_pixels(made):
    seen = 0
    for split, index, image, annotations, masks in coco_images(made):
        drawn = scene(split, index)
        pixels = cv2.imread(str(made / 'coco' / split / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3)
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        # JPEG moves values a little, but never an object
        assert abs(pixels.astype(int) - drawn.image).mean() < 8
        assert (np.sum(masks, 0) <= 1).all()  # one object per pixel
        assert len(annotations) == len(drawn.things) > 0
        for annotation, mask, thing in zip(annotations, masks, drawn.things):
            assert (mask == (drawn.ids == thing.number)).all()
            assert annotation['category_id'] == thing.label + 1
            assert annotation['iscrowd'] == 0
            assert annotation['area'] == mask.sum() > 0
            rows, columns = np.nonzero(mask)
            left, top = columns.min(), rows.min()
            assert annotation['bbox'] == [
                left, top, columns.max() + 1 - left, rows.max() + 1 - top]
            assert coco_mask.area(annotation['segmentation']) == mask.sum()
            seen += 1
    assert seen > TRAIN + VAL  # several objects per image


def test_ids_are_the_pixels_that_show_each_object(monkeypatch):
    colours = []

    def plain(rng, width, height, colour, swing):
        colours.append(colour)
        return np.full((height, width, 3), colour, float)

    monkeypatch.setattr(toy, '_texture', plain)
    for index in range(12):
        colours.clear()
        drawn = scene('train', index)
        apart = abs(drawn.image[:, :, None].astype(int) - colours).max(-1)
        assert (apart.argmin(-1) == drawn.ids).all()
        assert apart.min(-1).max() <= 14  # the noise


@pytest.mark.parametrize('label, filled', [(0, 1), (1, 0), (2, 1), (3, 1)])
def test_only_the_ring_has_a_hole(label, filled):
    for seed in range(5):
        drawn = toy.draw_scene('name', [seed], 131, 97, single=label)
        rows, columns = np.nonzero(drawn.ids)
        centre = int(rows.mean().round()), int(columns.mean().round())
        assert drawn.ids[centre] == filled


def test_later_objects_hide_earlier_ones(monkeypatch):
    masks, draw_mask = [], toy._mask
    monkeypatch.setattr(toy, 'MAX_OVERLAP', 1)  # no attempt is given up
    monkeypatch.setattr(toy, '_mask', lambda *args: masks.append(
        draw_mask(*args)) or masks[-1])
    hidden = 0
    for index in range(40):
        masks.clear()
        drawn = scene('train', index)
        ids = np.zeros((HEIGHT, WIDTH), int)
        for number, mask in enumerate(masks, 1):
            ids[mask] = number
        assert (drawn.ids == ids).all()
        left_out = {number for number, mask in enumerate(masks, 1)
                    if (ids == number).sum() < 0.2 * mask.sum()}
        kept = {thing.number for thing in drawn.things}
        assert kept == set(range(1, len(masks) + 1)) - left_out
        ignored = toy._label_map(drawn, (1, 2, 3, 4)) == 255
        assert (ignored == np.isin(ids, list(left_out))).all()
        hidden += len(left_out)
    assert hidden


def test_sizes_follow_the_image():
    def areas(width, height):
        return [thing.area for index in range(60) for thing in
                toy.draw_scene('name', [0, index], width, height).things]

    assert max(areas(37, 32)) < 32 ** 2
    middle = np.array(areas(192, 192))
    assert 0.05 < (middle < 32 ** 2).mean() < 0.2
    assert 0.1 < (middle >= 96 ** 2).mean() < 0.4


# -- layouts agree with one another ----------------------------------------


def test_voc_boxes_are_the_coco_boxes(made):
    root = made / 'voc/VOCdevkit/VOC2007'
    for split, index, image, annotations, _ in coco_images(made):
        name = Path(image['file_name']).stem
        tree = ElementTree.parse(root / 'Annotations' / f'{name}.xml')
        size = [int(tree.find(f'size/{key}').text)
                for key in ('width', 'height', 'depth')]
        assert size == [WIDTH, HEIGHT, 3]
        found = []
        for item in tree.findall('object'):
            x1, y1, x2, y2 = (int(item.find(f'bndbox/{key}').text) for key in
                              ('xmin', 'ymin', 'xmax', 'ymax'))
            found.append((item.find('name').text,
                          [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]))
        assert found == [(toy.CLASSES[annotation['category_id'] - 1],
                          annotation['bbox']) for annotation in annotations]
    lists = {name: (root / 'ImageSets/Main' / f'{name}.txt').read_text()
             for name in ('train', 'val', 'trainval', 'test')}
    assert lists['trainval'] == lists['train'] != lists['val']
    assert lists['test'] == lists['val']


def test_label_maps_are_the_coco_masks(made):
    voc = made / 'voc_seg/VOCdevkit/VOC2012/SegmentationClass'
    cities = made / 'cityscapes/gtFine'
    Image = pytest.importorskip('PIL.Image')
    for split, index, image, annotations, masks in coco_images(made):
        name = Path(image['file_name']).stem
        found = Image.open(voc / f'{name}.png')
        assert found.mode == 'P'
        assert found.getpalette()[:12] == [0, 0, 0, 128, 0, 0,
                                           0, 128, 0, 128, 128, 0]
        city = cv2.imread(str(cities / split / 'toycity' / (
            f'{name}_000000_gtFine_labelTrainIds.png')), cv2.IMREAD_UNCHANGED)
        expected = np.zeros((2, HEIGHT, WIDTH), np.uint8)
        for annotation, mask in zip(annotations, masks):
            label = annotation['category_id'] - 1
            expected[0][mask > 0] = label + 1
            expected[1][mask > 0] = toy.TRAIN_IDS[label]
        for values, wanted in zip((np.array(found), city), expected):
            clear = values != toy.IGNORED
            assert clear.mean() > 0.9
            assert (values[clear] == wanted[clear]).all()
            assert (wanted[~clear] == 0).all()


# -- the toolboxes read them -----------------------------------------------


def test_mmdet_reads_coco_and_voc(made):
    datasets = pytest.importorskip('mmdet.datasets')
    metainfo = dict(classes=toy.CLASSES)
    boxes = {}
    coco = datasets.CocoDataset(
        data_root=str(made / 'coco'), data_prefix=dict(img='train/'),
        ann_file='annotations/instances_train.json', metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True, min_size=32), pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmdet.LoadAnnotations', with_bbox=True,
                 with_mask=True)])
    assert len(coco) == TRAIN
    for index in range(TRAIN):
        results = coco[index]
        assert results['img'].shape == (HEIGHT, WIDTH, 3)
        masks = results['gt_masks'].to_ndarray()
        drawn = scene('train', index)
        assert [int(mask.sum()) for mask in masks] == [
            thing.area for thing in drawn.things]
        boxes[index] = results['gt_bboxes'].tensor.numpy()
    voc = datasets.VOCDataset(
        data_root=str(made / 'voc/VOCdevkit'), metainfo=metainfo,
        ann_file='VOC2007/ImageSets/Main/trainval.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32), pipeline=[])
    assert len(voc) == TRAIN
    for index in range(TRAIN):
        info = voc.get_data_info(index)
        assert Path(info['img_path']).is_file()
        found = np.array([item['bbox'] for item in info['instances']])
        # mmdet takes VOC's inclusive ends as they are
        assert (found + [0, 0, 1, 1] == boxes[index]).all()


def test_mmseg_reads_voc_and_cityscapes(made):
    datasets = pytest.importorskip('mmseg.datasets')
    for split, count in (('train', TRAIN), ('val', VAL)):
        voc = datasets.PascalVOCDataset(
            data_root=str(made / 'voc_seg/VOCdevkit/VOC2012'),
            ann_file=f'ImageSets/Segmentation/{split}.txt', pipeline=[],
            data_prefix=dict(img_path='JPEGImages',
                             seg_map_path='SegmentationClass'))
        city = datasets.CityscapesDataset(
            data_root=str(made / 'cityscapes'), pipeline=[],
            data_prefix=dict(img_path=f'leftImg8bit/{split}',
                             seg_map_path=f'gtFine/{split}'))
        for dataset, values in ((voc, range(1, 5)), (city, toy.TRAIN_IDS)):
            assert len(dataset) == count
            load = datasets.LoadAnnotations()
            for index in range(count):
                info = dataset.get_data_info(index)
                assert cv2.imread(info['img_path']).shape[:2] == (HEIGHT,
                                                                  WIDTH)
                wanted = toy._label_map(scene(split, index), values)
                assert (load(info)['gt_seg_map'] == wanted).all()


def test_mmpretrain_reads_imagenet(made):
    datasets = pytest.importorskip('mmpretrain.datasets')
    for split, count in (('train', TRAIN), ('val', VAL)):
        found = datasets.ImageNet(data_root=str(made / 'imagenet'),
                                  split=split, pipeline=[],
                                  metainfo=dict(classes=toy.CLASSES))
        assert len(found) == count
        for index in range(count):
            info = found.get_data_info(index)
            path = Path(info['img_path'])
            assert toy.CLASSES[info['gt_label']] == path.parent.name
            number = int(path.stem[-6:]) - 1
            drawn = scene(split, number, number % len(toy.CLASSES))
            assert drawn.labels == [info['gt_label']]
            pixels = cv2.imread(str(path)).astype(int)
            assert abs(pixels - drawn.image).mean() < 8


# -- requests --------------------------------------------------------------


def test_same_request_does_nothing(tmp_path, capsys):
    args = [str(tmp_path / 'deep' / 'toy'), '--layout', 'voc', '--size',
            '45x33', '--train', '3', '--val', '2']
    toy.main(args)
    first = capsys.readouterr().out.splitlines()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    toy.main(args)
    second = capsys.readouterr().out.splitlines()
    assert first[0].endswith(': made')
    assert second[0].endswith('already holds this dataset: nothing to do')
    assert first[1:] == second[1:]
    assert first[1] == 'images: 3 train, 2 val'
    assert times == {path: path.stat().st_mtime_ns
                     for path in tmp_path.rglob('*')}


def test_summary_counts_the_annotations(made):
    summary = json.loads((made / 'coco' / toy.MANIFEST).read_text())['summary']
    found = [annotation for _, _, _, annotations, _ in coco_images(made)
             for annotation in annotations]
    assert summary['images'] == dict(train=TRAIN, val=VAL)
    assert sum(summary['objects'].values()) == len(found)
    for label, name in enumerate(toy.CLASSES, 1):
        assert summary['objects'][name] == sum(
            annotation['category_id'] == label for annotation in found)
    assert list(summary['sizes'].values()) == [
        sum(low <= annotation['area'] < high for annotation in found)
        for low, high in ((0, 1024), (1024, 9216), (9216, 1e9))]


def test_other_request_is_refused_then_replaced(tmp_path):
    make(tmp_path, 'imagenet')
    (tmp_path / 'train' / 'disc' / 'mine.txt').write_text('kept')
    before = contents(tmp_path)
    with pytest.raises(ValueError, match='holds another dataset.*--overwrite'):
        make(tmp_path, 'imagenet', seed=SEED + 1)
    assert contents(tmp_path) == before
    make(tmp_path, 'coco', overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'annotations', toy.MANIFEST, 'train', 'val']
    assert [path.name for path in (tmp_path / 'train').iterdir()
            if path.is_dir()] == ['disc']  # only for the foreign file
    assert (tmp_path / 'train/disc/mine.txt').read_text() == 'kept'


def test_lost_files_are_noticed(tmp_path):
    make(tmp_path, 'coco')
    before = contents(tmp_path)
    (tmp_path / 'val' / 'val_000002.jpg').unlink()
    with pytest.raises(ValueError, match='only a part'):
        make(tmp_path, 'coco')
    make(tmp_path, 'coco', overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize('name', [
    '../other/file', '{root}/other/file', 'link/file', '\0', 7])
def test_a_manifest_cannot_have_other_files_removed(name, tmp_path):
    make(tmp_path / 'toy', 'coco')
    other = tmp_path / 'other' / 'file'
    other.parent.mkdir()
    other.touch()
    (tmp_path / 'toy' / 'link').symlink_to(other.parent)
    path = tmp_path / 'toy' / toy.MANIFEST
    manifest = json.loads(path.read_text())
    manifest['files'].append(
        name.format(root=tmp_path) if isinstance(name, str) else name)
    path.write_text(json.dumps(manifest))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match='not by this tool'):
        make(tmp_path / 'toy', 'coco', overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize('text', [None, '{}', '[', '[]'])
def test_foreign_directories_are_left_alone(tmp_path, text):
    name = 'mine.txt' if text is None else toy.MANIFEST
    (tmp_path / name).write_text(text or 'mine')
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match='is in use, but not by this'):
            make(tmp_path, 'coco', overwrite=overwrite)
    with pytest.raises(ValueError, match='is in use, but not by this'):
        make(tmp_path / name, 'coco')  # a file
    assert contents(tmp_path) == before


def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(output, split, scenes):
        for drawn in scenes:
            output.write_image(f'{split}/{drawn.name}.jpg', drawn.image)
            if split == 'val':
                raise KeyboardInterrupt

    monkeypatch.setitem(toy.WRITERS, 'coco', stop)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / 'toy', 'coco')
    assert not list((tmp_path / 'toy').iterdir())


@pytest.mark.parametrize('args, message', [
    (['--layout', 'lvis'], "unknown layout 'lvis'"),
    ([], 'required: --layout'),
    (['--layout', 'coco', '--size', '64x31'], 'size 64x31 is too small'),
    (['--layout', 'coco', '--size', '8'], 'size 8x8 is too small'),
    (['--layout', 'coco', '--size', '64x64x3'], 'neither a side'),
    (['--layout', 'coco', '--size', 'big'], 'neither a side'),
    (['--layout', 'coco', '--train', '-1'], '-1 train and 40 val'),
    (['--layout', 'coco', '--val', '-2'], '160 train and -2 val'),
    (['--layout', 'coco', '--train', '0', '--val', '0'], '0 train and 0 val'),
    (['--layout', 'coco', '--train', 'x'], 'invalid int value'),
    (['--layout', 'imagenet', '--val', '3'], 'one for each of 4 classes'),
    (['--layout', 'coco', '--seed', '-1'], 'seed -1 is outside'),
    (['--layout', 'coco', '--colour', 'red'], 'unrecognized arguments'),
])
def test_bad_arguments_give_one_line(tmp_path, capsys, args, message):
    with pytest.raises(SystemExit) as stopped:
        toy.main([str(tmp_path / 'toy')] + args)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in error and error.count('\n') == 1
    assert not (tmp_path / 'toy').exists()
