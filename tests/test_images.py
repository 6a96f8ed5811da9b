"""Damaged images are named, and those that lose something are counted."""
import copy
import io
import logging
import pickle
from pathlib import Path

import cv2
import datasets
import numpy as np
import pytest
from mmcv.transforms import TRANSFORMS as MMCV_TRANSFORMS
from mmcv.transforms import LoadImageFromFile as StockLoader
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import (TRANSFORMS, DefaultScope, Registry,
                               init_default_scope)
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mmattn.engine.configs import UsageError
from mmattn.engine.faults import image_errors
from mmattn.engine.images import (ImageError, LoadImageFromFile, check_images,
                                  find_kind)
from mmattn.engine.launch import build_runner

H, W = 51, 70
NOISE = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
IMAGE = cv2.resize(NOISE, (W, H))
DEEP = IMAGE.astype(np.uint16) * 257


def encode(image, kind, **options):
    """The bytes of a file, by Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_opencv(ending, image=IMAGE):
    return cv2.imencode(ending, image)[1].tobytes()


COLOUR = Image.fromarray(IMAGE[..., ::-1])
JPEG, PNG = by_opencv('.jpg'), by_opencv('.png')
WEBP = encode(COLOUR, 'WEBP')
CUT = JPEG[:len(JPEG) // 2]
# Bytes, and what is said of them.
BAD = dict(
    empty=(b'', 'the file is empty'),
    cut=(CUT, 'truncated'),
    # As an interrupted download leaves it: decoders fill it up with grey.
    padded=(CUT + bytes(len(JPEG) - len(CUT)), 'truncated'),
    end=(JPEG[:-2], 'truncated'),
    header=(JPEG[:60], 'truncated'),
    progressive=(encode(COLOUR, 'JPEG', progressive=True)[:-300],
                 'truncated'),
    png=(PNG[:-20], 'truncated'),
    webp=(WEBP[:-20], 'truncated'),
    bmp=(by_opencv('.bmp')[:-200], 'cannot read it as an image'),
    tiff=(by_opencv('.tiff')[:200], 'cannot read it as an image'),
    page=(b'<html>404</html>', 'cannot read it as an image'),
)
SOUND = dict(
    jpeg=JPEG,
    progressive=encode(COLOUR, 'JPEG', progressive=True),
    preview=JPEG[:2] + b'\xff\xe1' + (len(JPEG) + 2).to_bytes(2, 'big') +
    JPEG + JPEG[2:],
    followed=JPEG + bytes(99),
    png=PNG,
    webp=WEBP,
    bmp=by_opencv('.bmp'),
    tiff=by_opencv('.tiff'),
    grey_jpeg=by_opencv('.jpg', IMAGE[..., 0]),
    grey_png=by_opencv('.png', IMAGE[..., 0]),
    palette=encode(COLOUR.convert('P'), 'PNG'),
    bits=encode(COLOUR.convert('1'), 'PNG'),
)
LOSSY = dict(
    deep_png=(by_opencv('.png', DEEP), 'deep', 'more than 8 bits'),
    deep_grey=(by_opencv('.png', DEEP[..., 0]), 'deep', 'more than 8 bits'),
    deep_tiff=(by_opencv('.tiff', DEEP), 'deep', 'more than 8 bits'),
    float_tiff=(by_opencv('.tiff', IMAGE.astype(np.float32)), 'deep',
                'more than 8 bits'),
    cmyk=(encode(COLOUR.convert('CMYK'), 'JPEG'), 'cmyk', 'CMYK'),
    cmyk_tiff=(encode(COLOUR.convert('CMYK'), 'TIFF'), 'cmyk', 'CMYK'),
    alpha=(encode(COLOUR.convert('RGBA'), 'PNG'), 'alpha', 'transparency'),
    grey_alpha=(encode(COLOUR.convert('LA'), 'PNG'), 'alpha',
                'transparency'),
    alpha_tiff=(encode(COLOUR.convert('RGBA'), 'TIFF'), 'alpha',
                'transparency'),
    palette=(encode(COLOUR.convert('P'), 'PNG', transparency=3), 'alpha',
             'transparency'),
)


@pytest.fixture
def log(tmp_path):
    """The lines of the log, which worker processes write as well."""
    path = tmp_path / 'log.txt'
    MMLogger.get_instance(str(tmp_path), log_file=str(path),
                          log_level=logging.WARNING)

    def lines():
        return [line for line in path.read_text().splitlines()
                if 'such images' in line]

    yield lines
    MMLogger._instance_dict.pop(str(tmp_path))


def read(path, data, **options):
    path.write_bytes(data)
    return LoadImageFromFile(**options)(dict(img_path=str(path)))


# -- one file --------------------------------------------------------------


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('name', BAD)
def test_a_bad_file_is_named_with_a_remedy(name, backend, tmp_path):
    data, why = BAD[name]
    with pytest.raises(ImageError) as error:
        read(tmp_path / 'a.jpg', data, imdecode_backend=backend)
    assert str(error.value).startswith(f'{tmp_path}/a.jpg: ')
    assert why in str(error.value)
    assert 'take it out of the annotations' in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='a.jpg'):
        LoadImageFromFile()(dict(img_path=f'{tmp_path}/a.jpg'))


@pytest.mark.parametrize('name', SOUND)
def test_a_sound_file_is_what_mmcv_reads(name, tmp_path, log):
    path = tmp_path / 'a.jpg'
    for options in (dict(), dict(to_float32=True),
                    dict(color_type='grayscale'),
                    dict(imdecode_backend='pillow')):
        ours = read(path, SOUND[name], **options)
        stock = StockLoader(**options)(dict(img_path=str(path)))
        assert ours.keys() == stock.keys()
        assert ours['img'].dtype == stock['img'].dtype
        assert np.array_equal(ours.pop('img'), stock.pop('img'))
        assert ours == stock
    assert log() == []


def test_grey_becomes_three_equal_channels(tmp_path):
    image = read(tmp_path / 'a.png', SOUND['grey_png'])['img']
    assert np.array_equal(image, np.stack([IMAGE[..., 0]] * 3, -1))


@pytest.mark.parametrize('name', LOSSY)
def test_what_loses_something_is_read_and_named(name, tmp_path, log):
    data, kind, word = LOSSY[name]
    assert find_kind(data) == kind
    image = read(tmp_path / 'a.img', data)['img']
    assert image.shape == (H, W, 3) and image.dtype == np.uint8
    line, = log()
    assert f'{tmp_path}/a.img has' in line or f'{tmp_path}/a.img is' in line
    assert word in line and line.endswith('so far: 1')


def test_cmyk_has_the_right_colours(tmp_path):
    image = read(tmp_path / 'a.jpg', LOSSY['cmyk'][0])['img']
    assert abs(image.astype(int) - IMAGE).mean() < 4


def test_pillow_makes_deep_grey_white_and_that_is_said(tmp_path, log):
    image = read(tmp_path / 'a.png', LOSSY['deep_grey'][0],
                 imdecode_backend='pillow')['img']
    if image.mean() < 250:
        pytest.skip('this Pillow scales')
    line, = log()
    assert 'white' in line and "imdecode_backend='cv2'" in line


def test_what_the_file_holds_may_be_asked_for(tmp_path, log):
    for name, shape in (('deep_png', (H, W, 3)), ('alpha', (H, W, 4))):
        image = read(tmp_path / 'a.png', LOSSY[name][0],
                     color_type='unchanged')['img']
        assert image.shape == shape
    assert log() == []


@pytest.mark.parametrize('data', [b'\xff\xd8', b'\xff\xd8\xff\xe1\0\0' * 9,
                                  PNG[:20], b'II*\0', b'MM\0*' + b'\xff' * 9,
                                  b'II*\0\x08\0\0\0\xff\xff'])
def test_a_header_that_makes_no_sense_has_no_kind(data):
    assert find_kind(data) == ''


# -- many files ------------------------------------------------------------


def test_the_1st_10th_and_100th_are_named(tmp_path, log):
    loader = LoadImageFromFile()
    files = dict(a='alpha', c='cmyk')
    for i in range(101):
        for letter, name in files.items():
            path = tmp_path / f'{letter}{i}.png'
            path.write_bytes(LOSSY[name][0])
            loader(dict(img_path=str(path)))
        loader = copy.deepcopy(loader)  # as datasets are
    for letter in files:
        lines = [line for line in log() if f'/{letter}' in line]
        assert [line.split(f'/{letter}')[1].split('.')[0]
                for line in lines] == ['0', '9', '99']
        assert [line.split()[-1] for line in lines] == ['1', '10', '100']


def test_ignore_empty_gives_none_and_counts(tmp_path, log):
    loader = LoadImageFromFile(ignore_empty=True)
    assert loader(dict(img_path=f'{tmp_path}/gone.jpg')) is None
    for name in BAD:
        (tmp_path / name).write_bytes(BAD[name][0])
        assert loader(dict(img_path=f'{tmp_path}/{name}')) is None
    first, tenth = log()
    assert 'gone.jpg cannot be read and is left out' in first
    assert tenth.endswith(': 10')


class Files(Dataset):

    def __init__(self, folder):
        self.paths = sorted(map(str, folder.glob('*.img')))
        self.load = LoadImageFromFile()

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.load(dict(img_path=self.paths[i]))['img']


@pytest.mark.parametrize(
    'start', ['fork', pytest.param('spawn', marks=pytest.mark.config)])
def test_workers_count_together(start, tmp_path, log):
    data = Files(tmp_path)
    for i in range(11):
        data.paths.append(f'{tmp_path}/{i}.img')
        (tmp_path / f'{i}.img').write_bytes(LOSSY['cmyk'][0])
    loader = DataLoader(data, num_workers=1, multiprocessing_context=start)
    assert len(list(loader)) == len(list(loader)) == 11  # a worker each
    assert sum(data.load.counts._counts) == 22
    if start == 'fork':  # a spawned one has another log
        assert [line.split()[-1] for line in log()] == ['1', '10']


def test_a_worker_hands_on_the_name(tmp_path):
    (tmp_path / '00.img').write_bytes(BAD['padded'][0])
    with pytest.raises(ImageError, match=r'00\.img: the image is truncated'):
        list(DataLoader(Files(tmp_path), num_workers=1))


@pytest.mark.parametrize('workers', [0, 1])
def test_the_tools_print_one_line(tmp_path, workers):
    (tmp_path / '00.img').write_bytes(BAD['padded'][0])
    with pytest.raises(UsageError) as error, image_errors():
        list(DataLoader(Files(tmp_path), num_workers=workers))
    assert str(error.value) == str(
        ImageError.of(f'{tmp_path}/00.img',
                      'the image is truncated: its end is missing'))


def test_the_error_can_be_pickled():
    error = ImageError.of('a.jpg', 'why')
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# -- configs ---------------------------------------------------------------

OURS = 'mmattn.LoadImageFromFile'


@pytest.mark.config
@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
@pytest.mark.parametrize('kind', [
    'LoadImageFromFile', 'mmcv.LoadImageFromFile',
    'mmcv.transforms.LoadImageFromFile', StockLoader])
def test_every_way_to_name_the_stock_loader(kind, scope):
    pytest.importorskip(scope)
    init_default_scope(scope)
    inner = dict(type=kind, to_float32=True)
    other = dict(type='Resize', scale=(3, 5))
    data = dict(type='RepeatDataset', dataset=dict(pipeline=[inner, other]))
    steps = [dict(type='TestTimeAug', transforms=[[inner], (other, )])]
    loader = Config(dict(a=dict(dataset=data), b=steps))._cfg_dict
    check_images(loader)
    ours = dict(type=OURS, to_float32=True)
    assert loader.a.dataset.dataset.pipeline == [ours, other]
    assert loader.b[0].transforms == [[ours], (other, )] or (
        loader.b[0].transforms == [[ours], [other]])
    assert type(TRANSFORMS.build(ours)) is LoadImageFromFile
    check_images(loader)
    assert loader.a.dataset.dataset.pipeline == [ours, other]


def test_loaders_of_others_stay():
    registry = Registry('transform', parent=MMCV_TRANSFORMS, scope='theirs')

    @registry.register_module()
    class LoadImageFromFile(StockLoader):
        pass

    with DefaultScope.overwrite_default_scope('theirs'):
        pipeline = [dict(type='LoadImageFromFile'),
                    dict(type='theirs.LoadImageFromFile'),
                    dict(type=LoadImageFromFile),
                    dict(type='nowhere.LoadImageFromFile'),
                    dict(type='LoadImageFromNDArray'),
                    'LoadImageFromFile', dict(kind='LoadImageFromFile')]
        before = copy.deepcopy(pipeline)
        check_images(pipeline)
    TRANSFORMS._children.pop('theirs')
    assert pipeline == before


ROOT = Path(__file__).resolve().parents[1]
# A config of each toolbox, its data and the file of one training image.
CASES = dict(
    mmdet=('retinanet/retinanet_se_r50_2x_coco', 'coco',
           'train2017/000000000001.jpg'),
    mmseg=('deeplabv3/deeplabv3_se_mbv2_os8_cityscapes', 'cityscapes',
           'leftImg8bit/train/town/town_0_leftImg8bit.png'),
    mmpretrain=('imagenet/sda/sda_resnet86_4xb64_in1k', 'imagenet',
                'train/0.JPEG'))


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """The file of an image, and a loader of what trains on it."""
    scope = request.param
    pytest.importorskip(scope)
    config, data, file = CASES[scope]
    getattr(datasets, data)(tmp_path / data, np.random.default_rng(0))
    init_default_scope(scope)

    def build(workers):
        cfg = Config.fromfile(ROOT / 'configs' / f'{config}.py')
        if 'data_preprocessor' in cfg:
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        datasets.point(cfg, tmp_path)
        loader = cfg.train_dataloader
        loader.num_workers = workers
        loader.sampler = dict(type='DefaultSampler', shuffle=False)
        check_images(loader)
        return Runner.build_dataloader(loader)

    return tmp_path / data / file, build


@pytest.mark.config
@pytest.mark.parametrize('workers', [0, 2])
def test_training_reads_what_loses_something_and_says_so(case, workers, log):
    path, build = case
    loader = build(workers)
    image = cv2.imread(str(path))
    colour = Image.fromarray(image[..., ::-1])
    kinds = dict(
        grey=(by_opencv('.png', image[..., 0]), None),
        palette=(encode(colour.convert('P'), 'PNG'), None),
        cmyk=(encode(colour.convert('CMYK'), 'JPEG'), 'CMYK'),
        deep=(by_opencv('.png', image.astype(np.uint16) * 257), '8 bits'),
        alpha=(encode(colour.convert('RGBA'), 'PNG'), 'transparency'))
    said = 0
    for data, word in kinds.values() if not workers else [kinds['cmyk']]:
        path.write_bytes(data)
        batch = next(iter(loader))
        assert len(batch['inputs']) == 2
        assert all(x.shape[0] == 3 for x in batch['inputs'])
        if word:
            said += 1
            assert str(path) in log()[-1] and word in log()[-1]
        assert len(log()) == said


@pytest.mark.config
@pytest.mark.parametrize('workers', [0, 2])
def test_training_names_a_bad_image(case, workers):
    path, build = case
    loader = build(workers)
    for name in ('empty', 'padded', 'page') if not workers else ('padded', ):
        path.write_bytes(BAD[name][0])
        with pytest.raises(ImageError) as error:
            next(iter(loader))
        assert f'{path}: ' in str(error.value)
        assert BAD[name][1] in str(error.value)


@pytest.mark.config
@pytest.mark.parametrize('case', ['mmseg'], indirect=True)
def test_training_names_a_bad_label_map(case):
    path, build = case
    path = Path(str(path).replace('leftImg8bit/', 'gtFine/').replace(
        'leftImg8bit.png', 'gtFine_labelTrainIds.png'))
    loader = build(0)
    whole = path.read_bytes()
    for data, why in ((b'', 'the file is empty'),
                      (whole[:-20], 'the image is truncated'),
                      (b'<html>404</html>', 'cannot be read as an image')):
        path.write_bytes(data)
        with pytest.raises(ImageError) as error:
            next(iter(loader))
        assert f'{path}: label map: ' in str(error.value)
        assert why in str(error.value)


def test_runs_check_and_leave_stock_names_in_their_copy(tmp_path):
    """mmseg's inferencer looks for the stock name in a run's config."""
    pytest.importorskip('mmpretrain')
    cfg = Config(dict(
        default_scope='mmpretrain',
        work_dir=str(tmp_path),
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='mmattn.ResNet', depth=18, base_channels=8),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=64)),
        test_dataloader=dict(
            batch_size=1,
            sampler=dict(type='DefaultSampler'),
            dataset=dict(
                type='CustomDataset', data_root=str(tmp_path / 'in'),
                pipeline=[dict(type='LoadImageFromFile'),
                          dict(type='PackInputs')])),
        test_cfg=dict(),
        test_evaluator=dict(type='Accuracy')))
    (tmp_path / 'in' / 'cat').mkdir(parents=True)
    (tmp_path / 'in' / 'cat' / 'a.jpg').write_bytes(BAD['padded'][0])
    runner = build_runner(cfg)
    dumped, = tmp_path.glob('*.py')
    step = Config.fromfile(dumped).test_dataloader.dataset.pipeline[0]
    assert step.type == 'LoadImageFromFile'
    with pytest.raises(UsageError, match=r'a\.jpg: the image is truncated'):
        with image_errors():
            runner.test()
