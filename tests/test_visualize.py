"""Pictures of tiny models: their algebra, their files and their errors."""
import base64
import csv
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from samples import randomise
from test_launch import load_tool
from torch import nn

from mmattn.engine.launch import UsageError
from mmattn.visualization import drawing
from mmattn.visualization.cam import cam
from mmattn.visualization.erf import central_gradients, erf, side_at
from mmattn.visualization.gates import gates, object_sizes, spatial_map
from mmattn.visualization.grad_cam import Seen, _with_gradients
from mmattn.visualization.loading import (Loaded, Prepared, find_images,
                                          load_model, prepare, task_of,
                                          unique_names)

visualize = load_tool('visualize')

NAMES = ('a', 'b', 'c')
# A narrow trunk with gates, links and depth fusions.
BACKBONE = '''dict(
    type='mmattn.ResNet', depth=(2, 2, 2, 2), base_channels=8, stem_channels=8,
    attention=dict(type='SE', ratio=4), link=dict(type='DCA'),
    stage_attention=[None, dict(type='CoordAttention'), None, None],
    depth_fusion=dict(type='SelectiveFusion', min_channels=4))'''
CLASSIFIER = '''
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier', backbone=BACKBONE,
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=4, in_channels=256))
data_preprocessor = dict(num_classes=4, mean=[90] * 3, std=[60] * 3)
test_dataloader = dict(dataset=dict(
    type='CustomDataset', data_root=ROOT, ann_file='labels.txt',
    data_prefix='pictures', classes=['p', 'q', 'r', 's'],
    pipeline=[dict(type='LoadImageFromFile'),
              dict(type='Resize', scale=(97, 65)), dict(type='PackInputs')]))
visualizer = dict(type='UniversalVisualizer')
'''
DETECTOR = '''
default_scope = 'mmdet'
model = dict(
    type='RetinaNet', backbone=BACKBONE,
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[90] * 3, std=[60] * 3,
        pad_size_divisor=32),
    neck=dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=8,
              num_outs=5),
    bbox_head=dict(
        type='RetinaHead', num_classes=2, in_channels=8, feat_channels=8,
        stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, ratios=[1.],
            scales_per_octave=1, strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder')),
    test_cfg=dict(nms_pre=20, min_bbox_size=0, score_thr=0.,
                  nms=dict(type='nms', iou_threshold=0.5), max_per_img=9))
test_dataloader = dict(dataset=dict(
    type='CocoDataset', data_root=ROOT, ann_file='boxes.json',
    data_prefix=dict(img='pictures'), test_mode=True,
    metainfo=dict(classes=('p', 'q')),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(97, 65), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
    ]))
visualizer = dict(type='DetLocalVisualizer')
'''
SEGMENTOR = '''
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder', backbone=BACKBONE,
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[90] * 3, std=[60] * 3,
        size=(65, 97)),
    decode_head=dict(
        type='FCNHead', in_channels=256, in_index=3, channels=8, num_convs=1,
        num_classes=2, norm_cfg=dict(type='BN'), align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')),
    test_cfg=dict(mode='whole'))
test_dataloader = dict(dataset=dict(
    type='BaseSegDataset', data_root=ROOT,
    data_prefix=dict(img_path='pictures', seg_map_path='maps'),
    img_suffix='.png', seg_map_suffix='.png',
    metainfo=dict(classes=('p', 'q'), palette=[[0, 0, 255], [255, 0, 0]]),
    pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=(97, 65)),
        dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
visualizer = dict(type='SegLocalVisualizer')
'''
TASKS = dict(
    classification=CLASSIFIER, detection=DETECTOR, segmentation=SEGMENTOR)
each_task = pytest.mark.parametrize('task', TASKS)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Pictures of odd sizes, and what is on them for each task."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    for folder in ('pictures', 'maps'):
        (root / folder).mkdir()
    images, boxes = [], []
    for i, name in enumerate(NAMES):
        height, width = 71 + 6 * i, 103 + 8 * i
        picture = rng.integers(0, 255, (9, 13, 3)).astype(np.uint8)
        cv2.imwrite(str(root / f'pictures/{name}.png'),
                    cv2.resize(picture, (width, height)))
        labels = np.zeros((height, width), np.uint8)
        labels[20:50, 30:80] = 1
        cv2.imwrite(str(root / f'maps/{name}.png'), labels)
        images.append(dict(id=i, file_name=f'{name}.png', height=height,
                           width=width))
        side = 20 + 20 * i
        boxes.append(dict(id=i, image_id=i, category_id=1, iscrowd=0,
                          bbox=[3, 5, side, side], area=side**2))
    (root / 'boxes.json').write_text(json.dumps(dict(
        images=images, annotations=boxes,
        categories=[dict(id=1, name='p'), dict(id=2, name='q')])))
    (root / 'labels.txt').write_text(
        ''.join(f'{name}.png {i}\n' for i, name in enumerate(NAMES)))
    for task, text in TASKS.items():
        text = text.replace('BACKBONE', BACKBONE).replace(
            'ROOT', repr(str(root)))
        (root / f'{task}.py').write_text(text)
        model = load_model(root / f'{task}.py', 'random').model
        randomise(model.backbone)
        torch.save(dict(state_dict=model.state_dict(),
                        meta=dict(dataset_meta=dict(classes=('p', 'q')))),
                   root / f'{task}.pth')
    return root


def load(data, task='classification'):
    return load_model(data / f'{task}.py', str(data / f'{task}.pth'))


# -- Grad-CAM --------------------------------------------------------------


class Linear(nn.Module):
    """Scores ``sum_c w_kc mean_hw(A_c)`` of a map A that is the image."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()
        self.head = nn.Linear(3, 2, bias=False)

    def forward(self, inputs, samples, mode):
        return self.head(self.layer(inputs).mean((2, 3)))


def seen(model, x, **options):
    loaded = Loaded('tiny', 'classification', Config(), model)
    image = Prepared(x, None, (5, 7), np.zeros((5, 7, 3), np.uint8))
    return Seen(loaded, image, ['layer'], **options)


@pytest.mark.parametrize('method', ['grad-cam', 'hires-cam'])
def test_cam_of_a_linear_head_is_the_weighted_map(method):
    model, x = Linear(), torch.randn(1, 3, 5, 7)
    found = seen(model, x, method=method)
    assert sorted(t.label for t in found.targets) == [0, 1]
    assert found.targets[0].value >= found.targets[1].value
    for target in found.targets:
        layer, heat = found.cam(target)
        weights = model.head.weight[target.label].detach()
        expected = (weights @ x[0].flatten(1)).view(5, 7).relu() / 35
        assert layer == 'layer'
        torch.testing.assert_close(torch.from_numpy(heat), expected)


class Corner(Linear):
    """Scores by one position of the map."""

    def forward(self, inputs, samples, mode):
        return self.head(self.layer(inputs)[:, :, 1, 4])


def test_only_grad_cam_forgets_the_place():
    model, x = Corner(), torch.rand(1, 3, 5, 7)
    nn.init.ones_(model.head.weight)
    for method, count in (('grad-cam', 35), ('hires-cam', 1)):
        found = seen(model, x, method=method)
        _, heat = found.cam(found.targets[0])
        assert (heat > 0).sum() == count and heat[1, 4] > 0


def test_stages_that_a_score_does_not_depend_on_are_passed_over(data):
    loaded = load(data)
    found = Seen(loaded, prepare(loaded, data / 'pictures/a.png'),
                 ['backbone.layer2', 'backbone.layer3'])
    found.targets[0] = found.targets[0]._replace(
        score=found.maps['backbone.layer2'].sum())
    assert found.cam(found.targets[0])[0] == 'backbone.layer2'
    nothing = found.targets[0]._replace(score=torch.zeros(
        (), requires_grad=True) * 1)
    with pytest.raises(UsageError, match='does not depend on'):
        found.cam(nothing)


def test_scores_of_boxes_keep_gradients_only_inside(data):
    from mmdet.models.dense_heads import base_dense_head
    loaded = load(data, 'detection')
    before = base_dense_head.select_single_mlvl
    found = Seen(loaded, prepare(loaded, data / 'pictures/a.png'),
                 threshold=0.)
    assert found.targets
    assert all(t.score.requires_grad for t in found.targets)
    with pytest.raises(ZeroDivisionError), _with_gradients(loaded.model):
        assert base_dense_head.select_single_mlvl is not before
        1 / 0
    assert base_dense_head.select_single_mlvl is before


@each_task
def test_cam_draws_models_beside_each_other(data, task, tmp_path):
    one = load(data, task)
    other = load_model(data / f'{task}.py', 'random')
    empty = cam(unique_names([one, other]),
                find_images(str(data / 'pictures'), 2), tmp_path,
                threshold=0.)
    assert empty == []
    assert [p.name for p in sorted(tmp_path.iterdir())] == ['a.png', 'b.png']
    assert not any(m._forward_hooks for m in one.model.modules())


def test_models_of_two_tasks_are_not_compared(data, tmp_path):
    models = [load(data, 'classification'), load(data, 'segmentation')]
    with pytest.raises(UsageError, match='one task'):
        cam(models, [], tmp_path)


def test_maps_lie_over_the_picture_and_not_over_the_padding(data):
    # 83 x 119 to 65 x 93, in a batch of 96 x 96
    image = prepare(load(data, 'detection'), data / 'pictures/c.png')
    assert image.inputs.shape == (1, 3, 96, 96) and image.size == (65, 93)
    heat = np.arange(96.)[:, None].repeat(96, 1)
    over = image.over(heat)
    assert over.shape == image.picture.shape[:2] == (83, 119)
    assert over[0].max() == 0 and over[-1].min() == 64


def test_a_classifier_shows_what_it_was_given(data, tmp_path):
    config = tmp_path / 'cropped.py'
    steps = [dict(type='LoadImageFromFile'),
             dict(type='CenterCrop', crop_size=(40, 30)),
             dict(type='PackInputs')]
    config.write_text(
        f'_base_ = {str(data / "classification.py")!r}\n'
        f'test_dataloader = dict(dataset=dict(pipeline={steps!r}))')
    image = prepare(load_model(config, 'random'), data / 'pictures/a.png')
    whole = cv2.imread(str(data / 'pictures/a.png'))
    assert image.picture.shape == (30, 40, 3)
    top, left = (71 - 30) // 2, (103 - 40) // 2
    near = [(image.picture == whole[y:y + 30, x:x + 40]).all()
            for y in (top, top + 1) for x in (left, left + 1)]
    assert any(near)


# -- gates -----------------------------------------------------------------


def test_rows_times_columns():
    rows = torch.tensor([1., 2., 3.]).view(1, 1, 3, 1).repeat(1, 2, 1, 1)
    columns = torch.tensor([[1., 10.], [3., 30.]]).view(1, 2, 1, 2)
    assert spatial_map((rows, columns)).tolist() == [
        [2, 20], [4, 40], [6, 60]]
    assert spatial_map(torch.rand(2, 4, 1, 1)) is None
    assert spatial_map(torch.ones(2, 4, 3, 5)).tolist() == [[1.] * 5] * 3


def test_sizes_are_those_of_the_median_object(tmp_path):
    boxes = {'x/a.png': [(9, 9), (40, 40), (50, 50)], 'b.png': [(10, 10)],
             'c.png': [(200, 99)]}
    file = tmp_path / 'boxes.json'
    file.write_text(json.dumps(dict(
        images=[dict(id=i, file_name=name) for i, name in enumerate(boxes)],
        annotations=[dict(image_id=i, bbox=[0, 0, *size])
                     for i, each in enumerate(boxes.values())
                     for size in each])))
    assert object_sizes(file) == {
        'a.png': 'medium', 'b.png': 'small', 'c.png': 'large'}


def test_gates_of_a_whole_model(data, tmp_path):
    numbers = gates(load(data, 'detection'),
                    find_images(str(data / 'pictures')), tmp_path,
                    data / 'boxes.json', maps=1)
    assert {p.name for p in tmp_path.iterdir()} == {
        'distributions.png', 'maps_a.png', 'shares.png', 'recycled.png',
        'gates.json', 'gates.csv', 'table.html'}
    assert json.loads((tmp_path / 'gates.json').read_text()) == numbers
    # two blocks a stage, each attended; a fusion each; one stage attention
    assert len(numbers['modules']) == 8 + 4 + 1
    assert len(numbers['recycled']) == 7
    shares = numbers['map_shares']['backbone.layer3.depth_fusion']
    assert set(shares) == {'all', 'small', 'medium'}
    for values in shares.values():
        assert len(values) == 2 and sum(values) == pytest.approx(1)
    mean = (shares['small'][0] + 2 * shares['medium'][0]) / 3
    assert shares['all'][0] == pytest.approx(mean)
    with open(tmp_path / 'gates.csv') as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert 0 <= float(row['entropy']) <= 1
        assert 0 <= float(row['saturation']) <= 1
    assert rows[0]['stage'] == 'backbone.layer1'
    for counts in numbers['histograms'].values():
        assert sum(counts) > 0


# -- effective receptive fields --------------------------------------------


def test_the_field_of_a_convolution_is_its_kernel():
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    stride = nn.Conv2d(1, 1, 1, stride=4, bias=False)
    nn.init.constant_(stride.weight, 2.)
    backbone = nn.Sequential(conv, stride)
    found = central_gradients(
        backbone, dict(conv=conv, stride=stride), torch.rand(1, 1, 28, 28))
    kernel = conv.weight[0, 0].detach().relu().double().numpy()
    # 28 positions, the 14th; 7, of which the third is for 12
    for name, middle, factor in (('conv', 14, 1), ('stride', 12, 2)):
        field, centre = found[name]
        assert centre == middle
        expected = np.zeros((28, 28))
        expected[middle - 1:middle + 2, middle - 1:middle + 2] = kernel
        np.testing.assert_allclose(field, factor * expected)


def test_side_of_the_square_that_holds_a_share():
    field = np.zeros((9, 9))
    field[4, 4], field[4, 5], field[0, 0] = 2, 1, 1
    assert side_at(field, 4, 0.5) == 1 / 9
    assert side_at(field, 4, 0.75) == 3 / 9
    assert side_at(field, 4, 0.76) == side_at(field, 4, 1) == 1
    assert side_at(field, 0, 0.25) == 1 / 9
    assert side_at(np.zeros((9, 9)), 4, 0.5) == 0


def test_erf_of_stages_grows(data, tmp_path):
    # gates and shares see the whole picture: a trunk without them
    plain = tmp_path / 'plain.py'
    plain.write_text(f'_base_ = {str(data / "classification.py")!r}\n'
                     'model = dict(backbone=dict(attention=None, link=None, '
                     'depth_fusion=None, stage_attention=None, '
                     'zero_init_residual=False))')
    models = [load_model(plain, 'random'), load(data)]
    table = erf(models, find_images(str(data / 'pictures'), 2),
                tmp_path / 'erf', size=64)
    assert [row['layer'] for row in table] == 2 * [
        f'backbone.layer{i}' for i in (1, 2, 3, 4)]
    sides = [row['side at 99%'] for row in table]
    assert sides[0] < sides[1] <= sides[2] <= sides[3]
    assert sides[4] > sides[0]
    assert (tmp_path / 'erf/fields.png').is_file()
    with pytest.raises(UsageError, match='at least 32'):
        erf(models, [], tmp_path, size=31)


# -- page, tool ------------------------------------------------------------


def test_the_page_needs_no_other_file(tmp_path):
    for name in ('cam/a.png', 'cam/b.png', 'gates/net/a.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((3, 5, 3), np.uint8))
    (tmp_path / 'cam/table.html').write_text(
        drawing.table_html(['x'], [[0.5], ['<b>']]))
    text = drawing.write_page(tmp_path).read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == text.count('<img') == 3
    assert base64.b64decode(pictures[0]).startswith(b'\x89PNG')
    assert '<h2>gates/net</h2>' in text and '&lt;b&gt;' in text
    assert 'http' not in text and 'href' not in text


def test_a_flat_map_is_not_stretched():
    assert not drawing.stretched(np.full((3, 5), 7.)).any()
    assert drawing.stretched(np.array([1., 3., 2.])).tolist() == [0, 1, 0.5]


@each_task
def test_predictions_beside_the_truth(data, task, tmp_path):
    model = ['--model', str(data / f'{task}.py'), str(data / f'{task}.pth')]
    visualize.main(['predictions', *model, *model, '--count', '2',
                    '--threshold', '0', '-o', str(tmp_path)])
    made = sorted(p.name for p in (tmp_path / 'predictions').iterdir())
    assert made == ['a.png', 'c.png']  # spread over the dataset
    assert (tmp_path / 'index.html').is_file()


def test_models_of_one_config_are_told_apart():
    models = [Loaded(name, '', Config(), nn.Identity()) for name in 'aba']
    assert [m.name for m in unique_names(models)] == ['a-1', 'b', 'a-3']


def test_the_tool_says_what_a_model_finds_nothing_in(data, tmp_path, capsys):
    visualize.main([
        'cam', '--model', str(data / 'detection.py'), 'random', '--images',
        str(data / 'pictures/a.png'), '--threshold', '1', '-o',
        str(tmp_path)])
    assert 'predicts nothing for a.png' in capsys.readouterr().out


@pytest.fixture(scope='module')
def bad(data, tmp_path_factory):
    """Files that cannot be used."""
    root = tmp_path_factory.mktemp('bad')
    (root / 'empty').mkdir()
    (root / 'corrupt').mkdir()
    (root / 'corrupt/a.jpg').write_bytes(b'no picture')
    (root / 'cut').mkdir()
    whole = (data / 'pictures/a.png').read_bytes()
    (root / 'cut/a.png').write_bytes(whole[:-99])
    (root / 'weights.pth').write_bytes(b'no checkpoint')
    (root / 'boxes.json').write_text('[]')
    (root / 'none.py').write_text('default_scope = "mmpretrain"')
    base = f'_base_ = {str(data / "classification.py")!r}\n'
    (root / 'plain.py').write_text(
        f'{base}model = dict(backbone=dict(attention=None, link=None, '
        'depth_fusion=None, stage_attention=None))')
    # The test data, with one of the pictures cut off.
    shutil.copytree(data / 'pictures', root / 'half/pictures')
    shutil.copy(root / 'cut/a.png', root / 'half/pictures')
    shutil.copy(data / 'labels.txt', root / 'half')
    return root


def arguments(command, data, **changes):
    """Of a subcommand that runs, but for the changes."""
    files = dict(config=data / 'classification.py',
                 checkpoint=data / 'classification.pth',
                 images=data / 'pictures')
    files.update((k, data / v) for k, v in changes.items() if k in files)
    given = [command, '--model', str(files['config']),
             str(files['checkpoint'])]
    if command != 'predictions':
        given += ['--images', str(files['images'])]
    for option, value in changes.items():
        if option not in files:
            given += [f'--{option.replace("_", "-")}', str(value)]
    return given


def refused(given, message, out):
    with pytest.raises(SystemExit) as error:
        visualize.main([*given, '-o', str(out)])
    assert re.search(f'(?s)visualize.py: error: .*{message}',
                     str(error.value).strip())
    assert not (out / 'index.html').exists()


COMMANDS = ('cam', 'gates', 'erf', 'predictions')
# What no subcommand can use, and what it says.
CASES = [
    ('checkpoint', 'detection.pth', r'does not fit the model of .*'
     r'neck\S+ is (missing|unknown).*and \d+ more. Give the config'),
    ('checkpoint', 'bad/weights.pth', 'cannot be read as a checkpoint'),
    ('checkpoint', 'no.pth', 'is not a file'),
    ('config', 'no.py', 'is not a file'),
    ('config', 'bad/none.py', 'has no model'),
    ('images', 'bad/empty', 'holds no picture'),
    ('images', 'nowhere', 'neither a file nor a folder'),
    ('images', 'bad/corrupt', 'a.jpg cannot be read as a picture'),
    ('images', 'bad/cut', 'a.png cannot be read as a picture .*truncated'),
]


@pytest.mark.parametrize('command,key,value,message', [
    (command, *case) for command in COMMANDS for case in CASES
    if command != 'predictions' or case[0] != 'images'])
def test_one_clear_error(data, bad, tmp_path, command, key, value, message):
    if value.startswith('bad/'):
        value = bad / value[len('bad/'):]
    refused(arguments(command, data, **{key: value}), message,
            tmp_path / 'out')


@pytest.mark.parametrize('command,options,message', [
    ('cam', dict(layer='backbone.layer9.1'),
     "no layer 'backbone.layer9.1'; backbone holds"),
    ('cam', dict(layer='head.fc'),
     "layer 'head.fc' of classification returns no map"),
    ('erf', dict(layer='backbone.layer9.1'),
     "no layer 'backbone.layer9.1'; backbone holds"),
    ('erf', dict(layer='head.fc'), "'head.fc' .* does not run in"),
    ('erf', dict(size=8), 'at least 32'),
    ('gates', dict(config='bad/plain.py', checkpoint='random'),
     'no attention or fusion'),
    ('gates', dict(boxes='bad/boxes.json'), 'cannot be read as annotations'),
    ('predictions', dict(data_root='nowhere'),
     'the data of .*classification.py cannot be read .*say where they are '
     'with --data-root'),
    ('predictions', dict(data_root='bad/empty'), 'cannot be read'),
    ('predictions', dict(data_root='bad/half'),
     'a.png: the image is truncated'),
])
def test_one_clear_error_of_a_subcommand(data, bad, tmp_path, command,
                                         options, message):
    options = {key: bad / value[4:] if str(value).startswith('bad/') else
               value for key, value in options.items()}
    given = arguments(command, data, **options)
    if options.get('checkpoint') == 'random':
        given[3] = 'random'
    refused(given, message, tmp_path / 'out')


def test_code_in_a_checkpoint_is_not_run(data, tmp_path):

    class Payload:

        def __reduce__(self):
            return Path(tmp_path / 'ran').touch, ()

    torch.save(dict(state_dict=Payload()), tmp_path / 'evil.pth')
    with pytest.raises(UsageError, match='was not read'):
        load_model(data / 'classification.py', str(tmp_path / 'evil.pth'))
    assert not (tmp_path / 'ran').exists()


def test_other_toolboxes_are_refused():
    cfg = Config(dict(default_scope='mmaction', model=dict(type='x')))
    with pytest.raises(UsageError, match="config of 'mmaction'"):
        task_of(cfg)
