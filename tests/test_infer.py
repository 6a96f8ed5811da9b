"""mmattn infer: tiny models of the three toolboxes, every kind of input."""
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmattn import cli
from mmattn.engine.launch import UsageError
from mmattn.inference import check_picture, infer

H, W = 51, 70
CLASSES = ('cat', 'dog', 'emu')
BACKBONE = """
model = dict(
    data_preprocessor=dict(
        type='{preprocessor}', mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375], {options}),
    backbone=dict(type='mmattn.ResNet', depth=50, base_channels=8,
                  attention=dict(type='SE', ratio=2)),
"""
TAILS = dict(
    mmdet="""
    type='RetinaNet',
    neck=dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=16,
              start_level=1, add_extra_convs='on_input', num_outs=5),
    bbox_head=dict(
        type='RetinaHead', num_classes=3, in_channels=16, stacked_convs=1,
        feat_channels=16,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4,
            scales_per_octave=3, ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True)),
    test_cfg=dict(nms_pre=50, min_bbox_size=0, score_thr=0.05,
                  nms=dict(type='nms', iou_threshold=0.5), max_per_img=7))
pipeline = [dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(97, 65), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs')]
kind = 'CocoDataset'
""",
    mmseg="""
    type='EncoderDecoder',
    decode_head=dict(
        type='FCNHead', in_channels=256, channels=8, num_convs=1,
        num_classes=3, in_index=3, norm_cfg=dict(type='SyncBN')),
    test_cfg=dict(mode='whole'))
pipeline = [dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(97, 65), keep_ratio=True),
            dict(type='mmseg.LoadAnnotations'), dict(type='PackSegInputs')]
kind = 'BaseSegDataset'
""",
    mmpretrain="""
    type='ImageClassifier', neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=256))
pipeline = [dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=65), dict(type='PackInputs')]
kind = 'CustomDataset'
""")
TEST = """
test_dataloader = dict(dataset=dict(
    type=kind, data_root='nowhere', {extra}
    metainfo=dict(classes=('cat', 'dog', 'emu')), pipeline=pipeline))
default_scope = {scope!r}
"""
PREPROCESSORS = dict(
    mmdet=('DetDataPreprocessor', 'bgr_to_rgb=True, pad_size_divisor=32'),
    mmseg=('SegDataPreProcessor', 'bgr_to_rgb=True'),
    mmpretrain=('ClsDataPreprocessor', 'to_rgb=True'))
EXTRA = dict(
    mmdet="ann_file='a.json',", mmseg='', mmpretrain="ann_file='a.txt',")
# The last layer of each, whose bias alone decides.
LAST = dict(mmdet='bbox_head.retina_cls', mmseg='decode_head.conv_seg',
            mmpretrain='head.fc')
TOOLBOXES = list(TAILS)


def make_config(folder, scope):
    preprocessor, options = PREPROCESSORS[scope]
    path = folder / f'{scope}.py'
    path.write_text(
        BACKBONE.format(preprocessor=preprocessor, options=options) +
        TAILS[scope] + TEST.format(scope=scope, extra=EXTRA[scope]))
    return path


def make_checkpoint(folder, scope, bias, meta=None):
    """A model whose last layer says ``bias``, whatever it sees."""
    pytest.importorskip(scope)
    config = make_config(folder, scope)
    cfg = Config.fromfile(config)
    init_default_scope(scope)
    state = MODELS.build(cfg.model).state_dict()
    name = LAST[scope]
    state[f'{name}.weight'].zero_()
    shape = state[f'{name}.bias'].shape
    state[f'{name}.bias'] = torch.tensor(bias).repeat(shape[0] // 3)
    path = folder / f'{scope}.pth'
    torch.save(dict(state_dict=state, meta=meta or {}), path)
    return str(config), str(path)


def picture(seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (6, 7, 3)).astype(np.uint8)
    return cv2.resize(noise, (W, H))


def make_pictures(folder):
    """Of every kind that can be read."""
    folder.mkdir()
    image = picture()
    pil = Image.fromarray(image)
    pil.convert('L').save(folder / 'grey.png')
    pil.convert('CMYK').save(folder / 'cmyk.jpg')
    pil.convert('RGBA').save(folder / 'alpha.png')
    pil.convert('P').save(folder / 'palette.png')
    cv2.imwrite(str(folder / 'deep.png'), image.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / 'plain.jpg'), image)
    cv2.imwrite(str(folder / 'plain.png'), image)  # the same stem
    return sorted(path.name for path in folder.iterdir())


def run(tmp_path, config, checkpoint, source, *options):
    return cli.main(['infer', config, checkpoint, str(source), '-o',
                     str(tmp_path / 'out'), '--device', 'cpu', *options])


def read(tmp_path):
    out = tmp_path / 'out'
    return out, json.loads((out / 'predictions.json').read_text())


# -- what the three kinds of models say ------------------------------------


def check_entry(out, entry):
    assert (entry['height'], entry['width']) == (H, W)
    drawn = cv2.imread(str(out / entry['picture']))
    assert drawn.shape == (H, W, 3)


def test_detector(tmp_path):
    config, checkpoint = make_checkpoint(
        tmp_path, 'mmdet', [-9., -9., 0.5], dict(dataset_meta=dict(
            classes=('x', 'y', 'z'))))
    names = make_pictures(tmp_path / 'in')
    assert run(tmp_path, config, checkpoint, tmp_path / 'in') == 0
    out, results = read(tmp_path)
    assert results['task'] == 'detection' and results['score_thr'] == 0.3
    assert results['classes'] == ['x', 'y', 'z']  # the checkpoint's
    assert [entry['image'] for entry in results['images']] == names
    for entry in results['images']:
        check_entry(out, entry)
        assert 0 < len(entry['objects']) <= 7
        for found in entry['objects']:
            assert (found['label'], found['class']) == (2, 'z')
            assert found['score'] == pytest.approx(1 / (1 + math.exp(-0.5)))
            left, top, right, bottom = found['box']
            assert 0 <= left < right <= W and 0 <= top < bottom <= H
    assert len(list((out / 'pictures').iterdir())) == len(names)


def test_score_threshold_holds_for_pictures_and_json(tmp_path):
    config, checkpoint = make_checkpoint(tmp_path, 'mmdet', [-9., -9., 0.5])
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    assert run(tmp_path, config, checkpoint, tmp_path / 'a.png',
               '--score-thr', '0.63') == 0
    out, results = read(tmp_path)
    assert results['score_thr'] == 0.63
    assert results['images'][0]['objects'] == []
    drawn = cv2.imread(str(out / 'pictures' / 'a.png.png')).astype(int)
    # Nothing is on it: matplotlib before 3.11 mixes neighbours, no more.
    near = np.ones((5, 5))
    assert (drawn >= cv2.erode(picture(), near).astype(int) - 1).all()
    assert (drawn <= cv2.dilate(picture(), near).astype(int) + 1).all()


def test_segmentor(tmp_path):
    config, checkpoint = make_checkpoint(tmp_path, 'mmseg', [0., 0., 1.])
    names = make_pictures(tmp_path / 'in')
    assert run(tmp_path, config, checkpoint, tmp_path / 'in') == 0
    out, results = read(tmp_path)
    assert results['task'] == 'segmentation' and 'score_thr' not in results
    assert results['classes'] == list(CLASSES)  # the config's
    assert [entry['image'] for entry in results['images']] == names
    for entry in results['images']:
        check_entry(out, entry)
        assert entry['shares'] == dict(emu=1.)
        labels = cv2.imread(str(out / entry['labels']), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (H, W) and (labels == 2).all()


def test_classifier(tmp_path, capsys):
    config, checkpoint = make_checkpoint(tmp_path, 'mmpretrain', [0., 3., 1.])
    names = make_pictures(tmp_path / 'in')
    assert run(tmp_path, config, checkpoint, tmp_path / 'in') == 0
    out, results = read(tmp_path)
    notes = {e['image']: e['note'] for e in results['images'] if 'note' in e}
    assert sorted(notes) == ['alpha.png', 'cmyk.jpg', 'deep.png']
    said = capsys.readouterr().err
    for name, note in notes.items():
        assert f'{name} {note}; such images: 1' in said
    total = 1 + math.e**3 + math.e
    assert results['task'] == 'classification'
    assert [entry['image'] for entry in results['images']] == names
    for entry in results['images']:
        assert (out / entry['picture']).is_file()
        top = entry['top']
        assert [t['class'] for t in top] == ['dog', 'emu', 'cat']
        assert [t['label'] for t in top] == [1, 2, 0]
        assert [t['score'] for t in top] == pytest.approx(
            [math.e**3 / total, math.e / total, 1 / total])


def test_the_function_returns_what_the_file_holds(tmp_path):
    config, checkpoint = make_checkpoint(tmp_path, 'mmpretrain', [0., 3., 1.])
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    results = infer(config, checkpoint, str(tmp_path / 'a.png'),
                    str(tmp_path / 'out'), device='cpu')
    assert read(tmp_path)[1] == results


def test_a_model_sees_what_a_file_shows(tmp_path):
    """Colours reach the network as in a test: dark and bright differ."""
    config, checkpoint = make_checkpoint(tmp_path, 'mmpretrain', [0., 0., 0.])
    loaded = torch.load(checkpoint)
    weight = loaded['state_dict']['head.fc.weight']
    weight.copy_(torch.randn(weight.shape))
    torch.save(loaded, checkpoint)
    folder = tmp_path / 'in'
    folder.mkdir()
    cv2.imwrite(str(folder / 'a.png'), picture())
    cv2.imwrite(str(folder / 'b.png'), picture().astype(np.uint16) * 257)
    cv2.imwrite(str(folder / 'c.png'), picture()[..., ::-1])
    assert run(tmp_path, config, checkpoint, folder) == 0
    a, b, c = (e['top'] for e in read(tmp_path)[1]['images'])
    assert a == b != c


# -- videos ----------------------------------------------------------------


def make_video(path, frames=3):
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (W, H + 1))
    if not writer.isOpened():
        pytest.skip('this OpenCV writes no video')
    for i in range(frames):
        writer.write(cv2.resize(picture(i), (W, H + 1)))
    writer.release()


@pytest.mark.parametrize('scope', TOOLBOXES)
def test_video(tmp_path, scope):
    config, checkpoint = make_checkpoint(tmp_path, scope, [0., 3., 1.])
    make_video(tmp_path / 'v.avi')
    assert run(tmp_path, config, checkpoint, tmp_path / 'v.avi') == 0
    out, results = read(tmp_path)
    assert [entry['frame'] for entry in results['frames']] == [0, 1, 2]
    assert results['fps'] == pytest.approx(10)
    assert (results['height'], results['width']) == (H + 1, W)
    key = dict(mmdet='objects', mmseg='shares', mmpretrain='top')[scope]
    assert all(entry[key] for entry in results['frames'])
    drawn = cv2.VideoCapture(str(out / results['picture']))
    assert int(drawn.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    assert drawn.read()[1].shape == (H + 1, W, 3)


def test_video_without_a_decoder(tmp_path, capfd):
    config, checkpoint = make_checkpoint(tmp_path, 'mmpretrain', [0., 3., 1.])
    (tmp_path / 'v.mp4').write_bytes(b'no video')
    assert run(tmp_path, config, checkpoint, tmp_path / 'v.mp4') == 1
    assert 'v.mp4 cannot be read as a video' in capfd.readouterr().err


# -- bad input -------------------------------------------------------------


def test_each_bad_file_is_named_and_the_others_go_on(tmp_path, capsys):
    config, checkpoint = make_checkpoint(tmp_path, 'mmpretrain', [0., 3., 1.])
    folder = tmp_path / 'in'
    folder.mkdir()
    cv2.imwrite(str(folder / 'good.png'), picture())
    cv2.imwrite(str(folder / 'whole.jpg'), picture())
    whole = (folder / 'whole.jpg').read_bytes()
    (folder / 'cut.jpg').write_bytes(whole[:-99])  # its header is whole
    (folder / 'filled.jpg').write_bytes(whole[:-99] + bytes(99))
    (folder / 'empty.jpg').touch()
    (folder / 'notes.txt').write_text('no picture')
    cv2.imwrite(str(folder / 'float.tif'), picture().astype(np.float32))
    (folder / '.hidden').touch()
    assert run(tmp_path, config, checkpoint, folder) == 1
    results = read(tmp_path)[1]
    assert [e['image'] for e in results['images']] == ['good.png', 'whole.jpg']
    bad = ['cut.jpg', 'empty.jpg', 'filled.jpg', 'float.tif', 'notes.txt']
    assert [e['image'] for e in results['failed']] == bad
    assert 'truncated' in results['failed'][0]['error']
    assert 'truncated' in results['failed'][2]['error']
    out, err = capsys.readouterr()
    assert '2 images' in out
    lines = [line for line in err.splitlines() if line.startswith('error: ')]
    assert [line.split(': ')[1] for line in lines] == bad
    assert 'the file is empty' in lines[1]


def test_a_picture_the_model_fails_on_is_named(tmp_path, monkeypatch):
    config, checkpoint = make_checkpoint(tmp_path, 'mmpretrain', [0., 3., 1.])
    from mmpretrain.models import ImageClassifier
    cv2.imwrite(str(tmp_path / 'a.png'), picture())

    def fail(*args, **kwargs):
        raise RuntimeError('no memory')

    monkeypatch.setattr(ImageClassifier, 'test_step', fail)
    assert run(tmp_path, config, checkpoint, tmp_path / 'a.png') == 1
    failed, = read(tmp_path)[1]['failed']
    assert failed['image'] == 'a.png' and 'no memory' in failed['error']


def test_check_picture_turns_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(picture()).save(tmp_path / 'a.jpg', exif=exif)
    assert check_picture(tmp_path / 'a.jpg') == (W, H)


@pytest.fixture
def classifier(tmp_path):
    config, checkpoint = make_checkpoint(tmp_path, 'mmpretrain', [0., 3., 1.])
    image = tmp_path / 'a.png'
    cv2.imwrite(str(image), picture())
    return config, checkpoint, str(image), str(tmp_path / 'out')


@pytest.mark.parametrize('position, value, message', [
    (0, 'gone.py', "config 'gone.py' is not a file"),
    (1, 'gone.pth', "checkpoint 'gone.pth' is not a file"),
    (1, 'hf://a/b/c.pth', 'checkpoint hf://a/b/c.pth does not exist'),
    (2, 'gone.png', "'gone.png' is neither a file nor a folder"),
])
def test_missing_files(classifier, position, value, message):
    arguments = list(classifier)
    arguments[position] = value
    with pytest.raises(UsageError, match=message):
        infer(*arguments)
    assert not Path(classifier[3]).exists()


def test_empty_folder(classifier, tmp_path):
    config, checkpoint, _, out = classifier
    (tmp_path / 'none').mkdir()
    with pytest.raises(UsageError, match='holds no file'):
        infer(config, checkpoint, str(tmp_path / 'none'), out)


def test_checkpoint_of_another_model(classifier, tmp_path):
    config, checkpoint, image, out = classifier
    loaded = torch.load(checkpoint)
    del loaded['state_dict']['head.fc.bias']
    torch.save(loaded, tmp_path / 'other.pth')
    with pytest.raises(UsageError, match='head.fc.bias is missing'):
        infer(config, str(tmp_path / 'other.pth'), image, out)


class Payload:
    """Runs code where a file is unpickled in full."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code of the checkpoint ran')", )


@pytest.mark.parametrize('scope', TOOLBOXES)
def test_code_in_a_checkpoint_does_not_run(tmp_path, scope):
    pytest.importorskip(scope)
    torch.save(dict(state_dict={}, x=Payload()), tmp_path / 'x.pth')
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    with pytest.raises(UsageError, match='was not read'):
        infer(str(make_config(tmp_path, scope)), str(tmp_path / 'x.pth'),
              str(tmp_path / 'a.png'), str(tmp_path / 'out'))


def test_config_of_another_toolbox_or_broken(classifier, tmp_path):
    _, *rest = classifier
    path = tmp_path / 'c.py'
    for text, message in (
        ("default_scope = 'mmpose'\nmodel = dict(type='X')", 'mmpose'),
        ('model = ', 'cannot be read'),
        ("default_scope = 'mmdet'", 'no model'),
        ("default_scope = 'mmpretrain'\nmodel = dict(type='X')",
         'no test_dataloader'),
        ("default_scope = 'mmpretrain'\nmodel = dict(type='Nope')\n"
         'test_dataloader = dict(dataset=dict(pipeline=[dict(type="A")]))',
         'does not build'),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            infer(str(path), *rest)


def test_device_threshold_and_earlier_results(classifier):
    with pytest.raises(UsageError, match="device 'gpu' cannot be used"):
        infer(*classifier, device='gpu')
    with pytest.raises(UsageError, match='--score-thr is for boxes'):
        infer(*classifier, score_thr=0.5)
    infer(*classifier)
    with pytest.raises(UsageError, match='exists'):
        infer(*classifier)


@pytest.mark.parametrize('value', ['x', '-0.1', '1.5', 'nan'])
def test_thresholds_that_are_none(value, capsys):
    with pytest.raises(SystemExit):
        cli.main(['infer', 'c', 'p', 'i', '-o', 'o', '--score-thr', value])
    assert 'is not from 0 to 1' in capsys.readouterr().err
