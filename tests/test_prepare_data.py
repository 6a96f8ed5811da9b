"""Checks of downloads, on miniature layouts, and what is converted."""
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from datasets import COCO_GAPS
from PIL import Image

_PATH = Path(__file__).parents[1] / 'tools' / 'prepare_data.py'
_SPEC = importlib.util.spec_from_file_location('prepare_data', _PATH)
tool = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tool)

WIDTH, HEIGHT = 37, 23
VOC = 'VOCdevkit/VOC2012'
SBD = 'VOCdevkit/VOCaug/dataset'
END = '_leftImg8bit.png'
CITY_IDS = dict(
    road=7, sidewalk=8, building=11, wall=12, fence=13, pole=17, light=19,
    sign=20, vegetation=21, terrain=22, sky=23, person=24, rider=25, car=26,
    truck=27, bus=28, train=31, motorcycle=32, bicycle=33)


def put(path, data=b''):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    cv2.imwrite(str(path), rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def label_map(name, values):
    """Labels that differ between names, with each of the values."""
    rng = np.random.default_rng(sum(map(ord, name)))
    ids = rng.choice(values, (HEIGHT, WIDTH))
    ids.flat[:len(values)] = values
    return ids.astype(np.uint8)


def coco(root):
    for split, count in (('train', 3), ('val', 2)):
        names = [f'{i:012d}.jpg' for i in range(count)]
        for name in names:
            picture(root / f'{split}2017' / name)
        put(root / f'annotations/instances_{split}2017.json', json.dumps(dict(
            images=[dict(id=i + 7, file_name=name)
                    for i, name in enumerate(names)],
            categories=[dict(id=i) for i in range(1, 91)
                        if i not in COCO_GAPS],
            annotations=[dict(id=1, image_id=7, category_id=90),
                         dict(id=2, image_id=8, category_id=1)])))


def voc(root):
    for year, split, names in ((2007, 'trainval', ('000005', '000007')),
                               (2007, 'test', ('000001',)),
                               (2012, 'trainval', ('2008_02', '2008_03'))):
        base = root / f'VOCdevkit/VOC{year}'
        put(base / f'ImageSets/Main/{split}.txt', '\n'.join([*names, '']))
        for name in names:
            picture(base / f'JPEGImages/{name}.jpg')
            put(base / f'Annotations/{name}.xml',
                '<annotation><object><name>sofa</name><part><name>head</name>'
                '</part></object></annotation>')


def voc12aug(root):
    """VOC's a and b to train, c to validate; SBD has b and d, c and e."""
    savemat = pytest.importorskip('scipy.io').savemat
    for split, names in (('train', 'ab'), ('val', 'c')):
        put(root / VOC / f'ImageSets/Segmentation/{split}.txt',
            ''.join(f'{name}\n' for name in names))
        for name in names:
            image = Image.fromarray(label_map(name, [*range(21), 255]))
            image.putpalette(bytes(range(255, -1, -1)) * 3)
            path = root / VOC / f'SegmentationClass/{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    for split, names in (('train', 'bd'), ('val', 'ce')):
        put(root / SBD / f'{split}.txt', ''.join(f'{n}\n' for n in names))
        for name in names:
            put(root / SBD / f'cls/{name}.mat')
            savemat(root / SBD / f'cls/{name}.mat', dict(GTcls=dict(
                Segmentation=label_map('sbd' + name, range(21)),
                Boundaries=np.zeros((20, 1)))))
    for name in 'abcde':
        picture(root / VOC / f'JPEGImages/{name}.jpg')


def cityscapes(root):
    for name in ('train/aachen/aachen_0', 'train/bonn/bonn_1',
                 'val/ulm/ulm_2'):
        picture(root / f'leftImg8bit/{name}{END}')
        put(root / f'gtFine/{name}_gtFine_polygons.json')
        path = root / f'gtFine/{name}_gtFine_labelIds.png'
        cv2.imwrite(str(path), label_map(name, range(34)))


def imagenet(root):
    for split in ('train', 'val'):
        for wnid in ('n01440764', 'n15075141'):
            for i in range(2):
                picture(root / split / wnid / f'{wnid}_{i}.JPEG')
    put(root / 'train/n01440764/more.tar')  # not an image


def imagenet_flat(root):
    names = [f'ILSVRC2012_val_0000000{i}.JPEG' for i in (1, 2, 3)]
    for name in names:
        picture(root / 'val' / name)
    for i in range(2):
        picture(root / f'train/n01440764/n01440764_{i}.JPEG')
    put(root / 'meta/val.txt', f'{names[0]} 65\n{names[1]} 970\n'
        f'{names[2]} 0\n')


def cifar100(root):
    for name in ('train', 'test', 'meta'):
        put(root / 'cifar-100-python' / name, name)


LAYOUTS = dict(coco=coco, voc=voc, voc12aug=voc12aug, cityscapes=cityscapes,
               imagenet=imagenet, cifar100=cifar100)


@pytest.fixture(autouse=True)
def small_md5(monkeypatch):
    monkeypatch.setattr(tool, 'CIFAR_MD5', {
        name: hashlib.md5(name.encode()).hexdigest()
        for name in ('train', 'test', 'meta')})


@pytest.fixture
def run(tmp_path, capsys):
    """Run on tmp_path/set; the exit status, and the lines that were told."""

    def run(dataset, *options, root=tmp_path / 'set', make=None):
        if make is not None:
            make(root)
        capsys.readouterr()
        status = 0
        try:
            tool.main([dataset, str(root), *options])
        except SystemExit as stop:  # python prints a text, and exits with 1
            status = stop.code if isinstance(stop.code, int) else 1
            print(stop.code)
        told = capsys.readouterr().out
        return status, told.splitlines()

    return run


def contents(root):
    return {str(path.relative_to(root)): (path.read_bytes(),
                                          path.stat().st_mtime_ns)
            for path in root.rglob('*') if path.is_file()}


def errors(lines):
    return [line for line in lines if line.startswith('error: ')]


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def read(path):
    with Image.open(path) as image:
        return np.array(image)


# -- tables ----------------------------------------------------------------


def test_cityscapes_table_is_the_official_one():
    assert len(tool.TRAIN_IDS) == 34
    expected = [255] * 34
    for index, number in enumerate(CITY_IDS.values()):
        expected[number] = index
    assert tool.TRAIN_IDS.tolist() == expected


def test_tables_are_those_of_the_toolboxes():
    classes = pytest.importorskip('mmdet.datasets').VOCDataset.METAINFO
    assert tool.VOC_CLASSES == set(classes['classes'])
    spec = importlib.util.spec_from_file_location('again', _PATH)
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)  # with CIFAR_MD5 as published
    cifar = pytest.importorskip('mmpretrain.datasets').CIFAR100
    assert fresh.CIFAR_MD5 == dict(
        cifar.train_list + cifar.test_list,
        **{cifar.meta['filename']: cifar.meta['md5']})
    assert tool.COCO_IDS == set(range(1, 91)) - set(COCO_GAPS)
    assert len(tool.COCO_IDS) == 80


# -- whole datasets --------------------------------------------------------


@pytest.mark.parametrize('dataset', LAYOUTS)
def test_miniature_is_usable_with_partial_only(run, dataset, tmp_path):
    status, lines = run(dataset, make=LAYOUTS[dataset])
    if dataset != 'cifar100':
        assert status == 1
        assert all('--partial' in line for line in errors(lines))
        assert lines[-1] == f'prepare_data: {len(errors(lines))} errors, ' \
            'not usable'
    before = contents(tmp_path)
    status, lines = run(dataset, '--partial')
    assert (status, errors(lines)) == (0, [])
    assert lines[-1] == f'{tmp_path / "set"}: usable'
    after = contents(tmp_path)
    assert before.items() <= after.items()
    assert (len(after) > len(before)) == (dataset in ('voc12aug',
                                                      'cityscapes'))


@pytest.mark.parametrize('dataset, counts', [
    ('coco', ['annotations/instances_train2017.json 3 of 118287',
              'annotations/instances_val2017.json 2 of 5000']),
    ('voc', ['VOCdevkit/VOC2007/ImageSets/Main/trainval.txt 2 of 5011',
             'VOCdevkit/VOC2007/ImageSets/Main/test.txt 1 of 4952',
             f'{VOC}/ImageSets/Main/trainval.txt 2 of 11540']),
    ('voc12aug', [f'{VOC}/ImageSets/Segmentation/train.txt 2 of 1464',
                  f'{VOC}/ImageSets/Segmentation/val.txt 1 of 1449',
                  f'{SBD}/train.txt 2 of 8498', f'{SBD}/val.txt 2 of 2857',
                  f'{SBD} 4 of 10582']),
    ('cityscapes', ['leftImg8bit/train 2 of 2975',
                    'leftImg8bit/val 1 of 500']),
    ('imagenet', ['train 4 of 1281167', 'train/* 2 of 1000',
                  'val 4 of 50000', 'val/* 2 of 1000']),
])
def test_counts_are_held_against_the_published_ones(run, dataset, counts):
    _, lines = run(dataset, '--partial', make=LAYOUTS[dataset])
    assert [line for line in lines if line.startswith('warning: ')] == [
        f'warning: {count}' for count in counts]


@pytest.mark.parametrize('dataset', LAYOUTS)
def test_empty_root_is_told_all_that_is_missing(run, dataset, tmp_path):
    (tmp_path / 'set').mkdir()
    status, lines = run(dataset, '--partial')
    assert status == 1 and len(errors(lines)) >= 1
    assert all('; unpack in ROOT: http' in line for line in errors(lines))
    wanted = dict(
        coco=['train2017.zip', 'val2017.zip', 'annotations_trainval2017.zip'],
        voc=['voc2007/', 'voc2012/'], voc12aug=['voc2012/', 'benchmark.tgz'],
        cityscapes=['leftImg8bit_trainvaltest.zip', 'gtFine_trainvaltest.zip'],
        imagenet=['img_train.tar', 'img_val.tar'],
        cifar100=['cifar-100-python.tar.gz'])[dataset]
    for source in wanted:
        assert any(source in line for line in errors(lines))
    assert not list((tmp_path / 'set').iterdir())


def test_exact_counts_pass_without_partial(run, monkeypatch):
    count = tool.Look.count
    monkeypatch.setattr(tool.Look, 'count', lambda look, path, found, total:
                        count(look, path, found, found))
    status, lines = run('voc', make=voc)
    assert status == 0
    assert 'VOCdevkit/VOC2007/ImageSets/Main/trainval.txt 2 of 2' in lines


# -- roots and arguments ---------------------------------------------------


@pytest.mark.parametrize('dataset', LAYOUTS)
def test_wrong_roots_give_one_error(run, dataset, tmp_path):
    root = tmp_path / 'set'
    LAYOUTS[dataset](root)
    inside = root / tool.MARKS[dataset]
    before = contents(tmp_path)
    for wrong, message in (
            (tmp_path, f'lies too high: give {root}'),
            (inside, f'lies too low: give {root}'),
            (root / 'not' / 'there', 'is missing'),
            (next(path for path in root.rglob('*') if path.is_file()),
             'is a file, not a folder')):
        status, lines = run(dataset, '--partial', root=wrong)
        assert (status, lines) == (1, [f'prepare_data: {wrong} {message}'])
    assert contents(tmp_path) == before


def test_root_two_levels_low_is_told(run, tmp_path):
    voc(tmp_path / 'set')
    status, lines = run('voc', root=tmp_path / 'set/VOCdevkit/VOC2007')
    assert status == 1
    assert lines[0].endswith(f'lies too low: give {tmp_path / "set"}')


@pytest.mark.parametrize('args, status, message', [
    (['coco', 'nowhere'], 1, 'nowhere is missing'),
    (['lvis', '.'], 2, "invalid choice: 'lvis'"),
    (['coco', '.', '--sample', '-1'], 2, '--sample -1 is below 0'),
])
def test_command_line(args, status, message, tmp_path):
    done = subprocess.run([sys.executable, str(_PATH), *args], text=True,
                          capture_output=True, cwd=tmp_path)
    assert done.returncode == status
    assert message in done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr and not done.stdout


# -- faults ----------------------------------------------------------------


@pytest.mark.parametrize('dataset, name, listed', [
    ('coco', 'val2017/000000000001.jpg',
     'annotations/instances_val2017.json'),
    ('voc', 'VOCdevkit/VOC2007/JPEGImages/000001.jpg',
     'VOCdevkit/VOC2007/ImageSets/Main/test.txt'),
    ('voc', f'{VOC}/Annotations/2008_02.xml',
     f'{VOC}/ImageSets/Main/trainval.txt'),
    ('voc12aug', f'{VOC}/JPEGImages/e.jpg', f'{VOC}/ImageSets/Segmentation'),
    ('voc12aug', f'{VOC}/SegmentationClass/c.png',
     f'{VOC}/ImageSets/Segmentation'),
    ('voc12aug', f'{SBD}/cls/d.mat', SBD),
    ('cityscapes', 'gtFine/val/ulm/ulm_2_gtFine_labelIds.png',
     'leftImg8bit'),
])
def test_missing_file_is_named(run, dataset, name, listed, tmp_path):
    root = tmp_path / 'set'
    LAYOUTS[dataset](root)
    (root / name).unlink()
    before = contents(tmp_path)
    status, lines = run(dataset, '--partial')
    assert status == 1
    error, = errors(lines)
    assert Path(name).name in error
    assert f': lacks files of {listed}: ' in error
    assert contents(tmp_path) == before  # nothing is converted


@pytest.mark.parametrize('dataset, name', [
    ('coco', 'train2017/000000000002.jpg'),
    ('voc', 'VOCdevkit/VOC2007/JPEGImages/000007.jpg'),
    ('voc12aug', f'{VOC}/JPEGImages/a.jpg'),
    ('voc12aug', f'{VOC}/SegmentationClass/a.png'),
    ('voc12aug', f'{SBD}/cls/d.mat'),
    ('cityscapes', f'leftImg8bit/train/bonn/bonn_1{END}'),
    ('cityscapes', 'gtFine/train/bonn/bonn_1_gtFine_labelIds.png'),
    ('imagenet', 'val/n15075141/n15075141_1.JPEG'),
    ('cifar100', 'cifar-100-python/meta'),
])
def test_damaged_file_is_named(run, dataset, name, tmp_path):
    root = tmp_path / 'set'
    LAYOUTS[dataset](root)
    cut(root / name)
    before = contents(tmp_path)
    status, lines = run(dataset, '--partial')
    assert status == 1
    error, = errors(lines)
    assert 'damaged: ' in error and Path(name).name + ' (' in error
    assert contents(tmp_path) == before


def test_md5_is_told_whatever_the_sample(run, tmp_path):
    cifar100(tmp_path / 'set')
    put(tmp_path / 'set/cifar-100-python/test', 'other')
    status, lines = run('cifar100', '--sample', '0')
    assert status == 1
    error, = errors(lines)
    assert f'test (md5 {hashlib.md5(b"other").hexdigest()} instead of ' \
        f'{hashlib.md5(b"test").hexdigest()})' in error


def test_sample_says_how_many_files_are_opened(run, tmp_path):
    coco(tmp_path / 'set')
    cut(tmp_path / 'set/train2017/000000000001.jpg')
    for sample, opened, status in ((0, 0, 0), (1, 1, 0), (2, 2, 1),
                                   (3, 3, 1), (9, 3, 1)):
        found = run('coco', '--partial', '--sample', str(sample))
        # of three, two are the first and the second
        assert found[0] == status, sample
        assert f'train2017: opened {opened} of 3' in found[1]
        assert found == run('coco', '--partial', '--sample', str(sample))


@pytest.mark.parametrize('change, message', [
    (lambda data: data['annotations'][0].update(image_id=99),
     'unknown image_id 99'),
    (lambda data: data['annotations'][1].update(category_id=12),
     'unknown category_id 12'),
    (lambda data: data['categories'].pop(), 'categories are not those'),
    (lambda data: data.pop('annotations'), "KeyError('annotations')"),
])
def test_coco_annotations_must_fit(run, tmp_path, change, message):
    coco(tmp_path / 'set')
    name = 'annotations/instances_train2017.json'
    data = json.loads((tmp_path / 'set' / name).read_text())
    change(data)
    put(tmp_path / 'set' / name, json.dumps(data))
    status, lines = run('coco', '--partial')
    assert status == 1
    error, = errors(lines)
    assert error.startswith(f'error: {name}: ') and message in error
    assert 'annotations_trainval2017.zip' in error


@pytest.mark.parametrize('text', ['', '[', '[]', 'null', '{}', '\xff'])
def test_broken_annotation_file_is_one_error(run, tmp_path, text):
    coco(tmp_path / 'set')
    name = 'annotations/instances_val2017.json'
    put(tmp_path / 'set' / name, text.encode('latin-1'))
    status, lines = run('coco', '--partial')
    error, = errors(lines)
    assert status == 1
    assert error.startswith(f'error: {name}: missing or damaged (')


@pytest.mark.parametrize('name', [
    '../secret.jpg', '{root}/secret.jpg', '../train2017/../../secret.jpg',
    '..\\secret.jpg', 'C:\\secret.jpg', '../secret.jpg\0.jpg', '\0'])
def test_annotations_cannot_leave_the_root(run, tmp_path, name, monkeypatch):
    coco(tmp_path / 'set')
    secret = tmp_path / 'secret.jpg'
    picture(secret)
    picture(tmp_path / 'set/secret.jpg')
    path = tmp_path / 'set/annotations/instances_train2017.json'
    data = json.loads(path.read_text())
    name = name.format(root=tmp_path)
    data['images'][0]['file_name'] = name
    put(path, json.dumps(data))
    opened = []
    monkeypatch.setattr(tool, 'read_image', opened.append)
    status, lines = run('coco', '--partial')
    assert status == 1
    error, = errors(lines)
    assert f'train2017.json: {name};' in error
    assert len(opened) == 4 and not any('secret' in str(p) for p in opened)


def test_lists_of_sbd_cannot_leave_the_root(run, tmp_path):
    voc12aug(tmp_path / 'set')
    name = '../../../../../outside'
    put(tmp_path / 'set' / SBD / 'train.txt', f'b\nd\n{name}\n')
    before = contents(tmp_path)
    status, lines = run('voc12aug', '--partial')
    assert status == 1
    assert any(f'{name}.mat' in line for line in errors(lines))
    assert contents(tmp_path) == before


# Every other list that a dataset has, with what follows a name in it.
LISTS = dict(
    voc=[('VOCdevkit/VOC2007/ImageSets/Main/trainval.txt', ''),
         ('VOCdevkit/VOC2012/ImageSets/Main/trainval.txt', '')],
    voc12aug=[(f'{VOC}/ImageSets/Segmentation/train.txt', ''),
              (f'{VOC}/ImageSets/Segmentation/val.txt', ''),
              (f'{SBD}/train.txt', ''), (f'{SBD}/val.txt', '')],
    imagenet=[('meta/val.txt', ' 7'), ('meta/train.txt', ' 7')])


@pytest.mark.parametrize('name', [
    '../' * 5 + 'outside', '{root}/outside', '..\\outside', 'x\0y'])
@pytest.mark.parametrize('dataset, file, more', [
    (dataset, *entry) for dataset in LISTS for entry in LISTS[dataset]])
def test_no_list_leaves_the_root(run, dataset, file, more, name, tmp_path,
                                 monkeypatch):
    make = imagenet_flat if dataset == 'imagenet' else globals()[dataset]
    make(tmp_path / 'set')
    for suffix in ('.jpg', '.png', '.mat', '.xml', ''):
        picture(tmp_path / 'outside.png')
        put(tmp_path / f'outside{suffix}',
            (tmp_path / 'outside.png').read_bytes())
    name = name.format(root=tmp_path)
    put(tmp_path / 'set' / file, f'{name}{more}\n')
    before = contents(tmp_path)
    opened = []
    for reader in ('read_image', 'read_labels', 'read_xml'):
        monkeypatch.setattr(tool, reader, opened.append)
    status, lines = run(dataset, '--partial')
    assert status == 1
    assert any(name in line for line in errors(lines))
    assert not any('outside' in str(path) for path in opened)
    assert contents(tmp_path) == before


def test_nothing_is_written_behind_a_link_out_of_the_root(run, tmp_path):
    cityscapes(tmp_path / 'set')
    inside = tmp_path / 'set/gtFine/train/bonn'
    inside.rename(tmp_path / 'outside')
    inside.symlink_to(tmp_path / 'outside')
    before = contents(tmp_path / 'outside')
    status, lines = run('cityscapes', '--partial')
    error, = errors(lines)
    assert status == 1 and 'behind a link out of ROOT' in error
    assert contents(tmp_path / 'outside') == before
    (tmp_path / 'link').symlink_to(tmp_path / 'set')  # of the root: usual
    inside.unlink()
    (tmp_path / 'outside').rename(inside)
    status, lines = run('cityscapes', '--partial', root=tmp_path / 'link')
    assert status == 0 and errors(lines) == []


def test_voc_class_must_be_known(run, tmp_path):
    voc(tmp_path / 'set')
    put(tmp_path / 'set' / VOC / 'Annotations/2008_02.xml',
        '<annotation><object><name>llama</name></object></annotation>')
    status, lines = run('voc', '--partial')
    error, = errors(lines)
    assert status == 1
    assert '2008_02.xml (a class that VOC has not)' in error


@pytest.mark.parametrize('value', [34, 255])
def test_cityscapes_takes_ids_only(run, tmp_path, value):
    cityscapes(tmp_path / 'set')
    name = 'gtFine/val/ulm/ulm_2_gtFine_labelIds.png'
    cv2.imwrite(str(tmp_path / 'set' / name),
                np.full((HEIGHT, WIDTH), value, np.uint8))
    status, lines = run('cityscapes', '--partial')
    error, = errors(lines)
    assert status == 1 and Path(name).name in error


def test_missing_sbd_is_told(run, tmp_path):
    voc12aug(tmp_path / 'set')
    os.rename(tmp_path / 'set/VOCdevkit/VOCaug', tmp_path / 'away')
    before = contents(tmp_path)
    status, lines = run('voc12aug', '--partial')
    assert status == 1
    assert [line.split(': ')[1] for line in errors(lines)][:2] == [
        f'{SBD}/train.txt', f'{SBD}/val.txt']
    assert all('benchmark.tgz' in line for line in errors(lines))
    assert contents(tmp_path) == before


def test_missing_scipy_is_one_error(run, tmp_path, monkeypatch):
    voc12aug(tmp_path / 'set')
    monkeypatch.setitem(sys.modules, 'scipy.io', None)
    status, lines = run('voc12aug', '--partial')
    assert status == 1
    assert lines[-1] == 'prepare_data: SBD needs scipy: pip install scipy'
    assert not errors(lines)


# -- ImageNet's two layouts ------------------------------------------------


def test_flat_imagenet_needs_the_labels(run, tmp_path):
    status, lines = run('imagenet', '--partial', make=imagenet_flat)
    assert status == 0
    assert 'warning: meta/val.txt 3 of 50000' in lines
    (tmp_path / 'set/meta/val.txt').unlink()
    status, lines = run('imagenet', '--partial')
    assert status == 1
    assert 'caffe_ilsvrc12.tar.gz' in errors(lines)[0]
    assert 'error: meta/val.txt: missing' in errors(lines)[0]


@pytest.mark.parametrize('text, message', [
    ('ILSVRC2012_val_00000001.JPEG 490\n', 'must count sorted wnids'),
    ('ILSVRC2012_val_00000002.JPEG 1000\n', 'must count sorted wnids'),
    ('ILSVRC2012_val_00000002.JPEG -1\n', 'must count sorted wnids'),
    ('ILSVRC2012_val_00000002.JPEG\n', 'damaged'),
    ('ILSVRC2012_val_00000009.JPEG 3\n', 'ILSVRC2012_val_00000009.JPEG'),
    ('../train/n01440764/n01440764_0.JPEG 0\n',
     'val: lacks files of meta/val.txt: ../train'),
])
def test_labels_of_imagenet_must_fit(run, tmp_path, text, message):
    imagenet_flat(tmp_path / 'set')
    put(tmp_path / 'set/meta/val.txt', text)
    status, lines = run('imagenet', '--partial')
    assert status == 1
    assert any(message in line for line in errors(lines))


def test_folders_of_imagenet_are_wnids(run, tmp_path):
    imagenet(tmp_path / 'set')
    (tmp_path / 'set/train/.ipynb_checkpoints').mkdir()  # shifts all labels
    status, lines = run('imagenet', '--partial')
    error, = errors(lines)
    assert status == 1
    assert 'must be wnids, unlike .ipynb_checkpoints;' in error


# -- conversions -----------------------------------------------------------


def test_voc12aug_is_converted(run, tmp_path):
    status, lines = run('voc12aug', '--partial', make=voc12aug)
    root = tmp_path / 'set' / VOC
    assert status == 0
    assert f'{VOC}/SegmentationClassAug: kept 0, wrote 5' in lines
    for name in 'abcde':
        image = Image.open(root / f'SegmentationClassAug/{name}.png')
        assert image.mode == 'L'
        expected = (label_map('a', [*range(21), 255]) if name == 'a' else
                    label_map('sbd' + name, range(21)))
        assert (np.array(image) == expected).all()
    sets = root / 'ImageSets/Segmentation'
    assert (sets / 'trainaug.txt').read_text() == 'a\nb\nd\ne\n'
    assert (sets / 'aug.txt').read_text() == 'd\ne\n'
    assert len(list((root / 'SegmentationClassAug').iterdir())) == 5
    before = contents(tmp_path)
    status, lines = run('voc12aug', '--partial')
    assert status == 0
    assert f'{VOC}/SegmentationClassAug: kept 5, wrote 0' in lines
    assert contents(tmp_path) == before


def test_cityscapes_is_converted(run, tmp_path):
    status, lines = run('cityscapes', '--partial', make=cityscapes)
    assert status == 0 and 'gtFine: kept 0, wrote 3' in lines
    for path in (tmp_path / 'set/gtFine').rglob('*_labelIds.png'):
        ids, found = read(path), read(
            path.with_name(path.name.replace('labelIds', 'labelTrainIds')))
        assert found.dtype == np.uint8 and found.shape == (HEIGHT, WIDTH)
        expected = np.full_like(ids, 255)
        for index, number in enumerate(CITY_IDS.values()):
            expected[ids == number] = index
        assert (found == expected).all()
    before = contents(tmp_path)
    status, lines = run('cityscapes', '--partial')
    assert status == 0 and 'gtFine: kept 3, wrote 0' in lines
    assert contents(tmp_path) == before


@pytest.mark.parametrize('dataset, name, line', [
    ('voc12aug', f'{VOC}/SegmentationClassAug/d.png',
     f'{VOC}/SegmentationClassAug: kept 1, wrote 4'),
    ('cityscapes', 'gtFine/val/ulm/ulm_2_gtFine_labelTrainIds.png',
     'gtFine: kept 1, wrote 2'),
])
def test_converted_files_are_kept(run, dataset, name, line, tmp_path):
    LAYOUTS[dataset](tmp_path / 'set')
    put(tmp_path / 'set' / name, 'mine')
    before = contents(tmp_path)
    status, lines = run(dataset, '--partial')
    assert status == 0 and line in lines
    assert before.items() <= contents(tmp_path).items()


def test_other_lists_are_kept_and_told(run, tmp_path):
    sets = tmp_path / 'set' / VOC / 'ImageSets/Segmentation'
    voc12aug(tmp_path / 'set')
    put(sets / 'trainaug.txt', 'e\nd\nb\na\n')  # mmseg's, in any order
    assert run('voc12aug', '--partial')[0] == 0
    assert (sets / 'trainaug.txt').read_text() == 'e\nd\nb\na\n'
    put(sets / 'aug.txt', 'd\n')
    status, lines = run('voc12aug', '--partial')
    assert status == 1
    assert lines[-1].endswith('aug.txt lists other images: move it away')
    assert (sets / 'aug.txt').read_text() == 'd\n'


def test_no_half_of_a_file_is_left(run, tmp_path, monkeypatch):
    cityscapes(tmp_path / 'set')
    before = contents(tmp_path)

    def stop(source, target):
        assert Path(source).is_file() and not Path(target).exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', stop)
        with pytest.raises(KeyboardInterrupt):
            run('cityscapes', '--partial')
    assert contents(tmp_path) == before
    assert run('cityscapes', '--partial')[0] == 0


def test_written_files_have_the_usual_mode(run, tmp_path):
    run('cityscapes', '--partial', make=cityscapes)
    put(tmp_path / 'usual')
    mode = (tmp_path / 'usual').stat().st_mode
    path, = (tmp_path / 'set/gtFine/val').rglob('*_labelTrainIds.png')
    assert path.stat().st_mode == mode


def test_mmseg_reads_what_was_converted(run, tmp_path):
    datasets = pytest.importorskip('mmseg.datasets')
    root = tmp_path / 'set'
    run('voc12aug', '--partial', make=voc12aug)
    run('cityscapes', '--partial', make=cityscapes)
    for dataset, count, allowed in (
            (datasets.PascalVOCDataset(
                data_root=str(root / VOC), pipeline=[],
                ann_file='ImageSets/Segmentation/aug.txt',
                data_prefix=dict(img_path='JPEGImages',
                                 seg_map_path='SegmentationClassAug')),
             2, range(21)),
            (datasets.CityscapesDataset(
                data_root=str(root), pipeline=[],
                data_prefix=dict(img_path='leftImg8bit/train',
                                 seg_map_path='gtFine/train')),
             2, [*range(19), 255])):
        assert len(dataset) == count
        load = datasets.LoadAnnotations()
        for index in range(count):
            info = dataset.get_data_info(index)
            assert Path(info['img_path']).is_file()
            found = load(info)['gt_seg_map']
            assert found.shape == (HEIGHT, WIDTH)
            assert set(np.unique(found)) == set(allowed)
