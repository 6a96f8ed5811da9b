"""The command mmattn: list and swap."""
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

import mmattn
from mmattn import cli
from mmattn.cli import presets
from mmattn.cli.backbone import levels
from mmattn.cli.channels import mapped, reader_overrides
from mmattn.cli.swap import parse_word, written

ROOT = Path(mmattn.__file__).resolve().parents[1]
OLD, NEW = [256, 512, 1024, 2048], [24, 32, 96, 320]


def failed(capsys, *arguments):
    """Run a command that fails; its one message."""
    assert cli.main([str(a) for a in arguments]) == 1
    out, err = capsys.readouterr()
    assert out == '' and err.startswith('error: ')
    return err


# -- the command -----------------------------------------------------------


def test_help_names_the_commands_and_imports_no_toolbox():
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', '-m', 'mmattn', '--help'],
        cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ('list', 'swap'):
        assert f'\n    {name} ' in done.stdout
    imported = {line.rpartition('|')[2].strip()
                for line in done.stderr.splitlines()}
    assert not {'mmdet', 'mmseg', 'mmpretrain', 'torchvision'} & imported


@pytest.mark.parametrize('argv', [[], ['nope'], ['list', 'a', 'b']])
def test_wrong_arguments_exit_with_2(argv, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    assert end.value.code == 2
    assert 'usage: mmattn' in capsys.readouterr().err


def test_a_missing_module_leaves_the_others(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, 'gone', 'gone')
    with pytest.raises(SystemExit):
        cli.main(['--help'])
    assert 'gone' not in capsys.readouterr().out
    assert cli.main(['list', '*toy*']) == 0


def test_list_prints_name_file_and_header(capsys):
    assert cli.main(['list', 'sda_resnet86*']) == 0
    assert capsys.readouterr().out.split(maxsplit=2) == [
        'sda_resnet86_4xb64_in1k', 'imagenet/sda/sda_resnet86_4xb64_in1k.py',
        'SDA-xNet, table 1: SDA-ResNet-86\n'
    ]
    assert "'*nope*'" in failed(capsys, 'list', 'nope')


def test_list_prints_registered_parts(capsys):
    assert cli.main(['list', '--parts', '*Fusion']) == 0
    assert capsys.readouterr().out.split()[:2] == [
        'SelectiveFusion', 'fusions']


# -- words, names, code ----------------------------------------------------


@pytest.mark.parametrize('text, word', [
    ('SE', dict(type='SE')),
    ('none', None),
    ('SE:ratio=8,gate_init=identity',
     dict(type='SE', ratio=8, gate_init='identity')),
    ('X:a=[1,2],b=true,c=0.5,d=(1,2)',
     dict(type='X', a=[1, 2], b=True, c=.5, d=(1, 2))),
])
def test_words_of_the_command_line(text, word):
    assert parse_word(text) == word


@pytest.mark.parametrize('text', ['', 'SE:', 'SE:ratio', 'SE:ratio=', ':a=1',
                                  'a b', 'SE:1=2'])
def test_words_that_are_none(text):
    with pytest.raises(cli.CommandError):
        parse_word(text)


def test_every_listed_name_is_a_preset_and_no_other():
    for name in presets.names():
        assert isinstance(presets.preset(name), presets.Preset), name
    for name in ('', 'r50_', '_r50', 'ca_r50', 'sda', 'sda_sda_r50', 'r51'):
        with pytest.raises(cli.CommandError, match='PART_NETWORK'):
            presets.preset(name)


def test_presets_that_need_their_own_weights_name_a_config():
    known = mmattn.list_models()
    for name, preset in presets.OTHERS.items():
        assert preset.own_config in known, name


def test_identity_start_is_added_to_each_word():
    start = presets.started(presets.preset('ca_mobilenet_v2'))
    assert start['attention'][0] is None
    assert start['attention'][1]['gate_init'] == 'identity'
    assert presets.started(presets.preset('sda_r50')) == dict(
        depth_fusion=dict(type='SelectiveFusion', ratio=16, min_channels=64,
                          last_share=0.95))


@pytest.mark.parametrize('value', [
    dict(a=1, b='x', c=None),
    dict(model=dict(backbone=dict(type='mmattn.ResNet', attention=[
        None, *[dict(type='CoordAttention', ratio=32)] * 6]), neck=(1, 2))),
    dict(a=dict(b=dict(c=('x' * 70, ), d=['y' * 70, {}], e=()))),
])
def test_written_code_is_the_value_in_79_columns(value):
    code = f'model = {written(value, 0, 8)}'
    space = {}
    exec(code, space)
    assert space['model'] == value
    assert max(map(len, code.splitlines())) < 100
    assert all(len(line) < 80 or 'xxx' in line or 'yyy' in line
               for line in code.splitlines())


# -- who reads the backbone ------------------------------------------------


@pytest.mark.parametrize('value, index, result', [
    (OLD, None, NEW),
    (tuple(OLD), None, tuple(NEW)),
    (OLD[::-1], None, NEW[::-1]),
    (OLD + [512], None, NEW + [512]),
    ([256, 2048], [0, 3], [24, 320]),
    (2048, None, 320),
    (1024, 2, 96),
    (2048, -1, 320),
    (512, None, 32),
    (1024, 3, None),
    (1024, 4, None),
    (999, None, None),
    ([256, 512], None, None),
    ([256, 2048], [0, 4], None),
])
def test_channels_follow_the_backbone(value, index, result):
    assert mapped(value, OLD, NEW, index) == result


def test_the_neck_reads_and_heads_behind_it_stay():
    model = dict(neck=dict(type='FPN', in_channels=OLD, out_channels=256),
                 bbox_head=dict(in_channels=256))
    assert reader_overrides(model, OLD, NEW) == dict(
        neck=dict(in_channels=NEW))
    assert reader_overrides(model, OLD, OLD) == {}


def test_heads_read_where_a_neck_hands_on():
    model = dict(
        neck=[dict(type='GlobalAveragePooling'),
              dict(type='ClsBatchNormNeck', input_features=2048)],
        head=dict(in_channels=2048, topk=5))
    assert reader_overrides(model, [2048], [320]) == dict(
        neck=[dict(type='GlobalAveragePooling'),
              dict(type='ClsBatchNormNeck', input_features=320)],
        head=dict(in_channels=320))


def test_heads_of_a_segmentor_read_by_index():
    model = dict(
        decode_head=dict(in_channels=2048, in_index=3, c1_in_channels=256),
        auxiliary_head=[dict(in_channels=1024, in_index=2, channels=7)])
    assert reader_overrides(model, OLD, NEW) == dict(
        decode_head=dict(in_channels=320, c1_in_channels=24),
        auxiliary_head=[dict(in_channels=96, in_index=2, channels=7)])


def test_further_levels_of_ssd_stay():
    model = dict(neck=dict(in_channels=(96, 1280),
                           out_channels=(96, 1280, 512)),
                 bbox_head=dict(in_channels=(96, 1280, 512)))
    assert reader_overrides(model, [96, 1280], [1024, 2048]) == dict(
        neck=dict(in_channels=(1024, 2048), out_channels=(1024, 2048, 512)),
        bbox_head=dict(in_channels=(1024, 2048, 512)))


@pytest.mark.parametrize('model, message', [
    (dict(neck=dict(type='FPN', in_channels=[1, 2])), r'neck.in_channels'),
    (dict(neck=dict(type='Other')), r'neck \(Other\)'),
    (dict(head=dict(num_classes=3)), 'no head of the config'),
    (dict(rpn_head=dict(in_channels=2048), roi_head=dict(bbox_head={})),
     'roi_head'),
    (dict(decode_head=dict(in_channels=64, in_index=3)),
     r'decode_head.in_channels'),
])
def test_an_unclear_reader_is_an_error(model, message):
    with pytest.raises(cli.CommandError, match=message):
        reader_overrides(model, OLD, NEW)


def test_levels_are_strides_without_dilations():
    assert levels(dict(type='MobileNetV2'), [4, 8, 8, 8]) == [4, 8, 16, 32]
    assert levels(dict(type='ResNet', out_indices=(3, )), [16]) == [32]
    assert levels(dict(type='Darknet'), [8, 16, 32]) == [8, 16, 32]
    with pytest.raises(cli.CommandError, match='encoder and decoder'):
        levels(dict(type='UNet'), [16, 8, 4])


# -- swap ------------------------------------------------------------------

CLASSIFIER = '''
default_scope = 'mmpretrain'
load_from = 'old.pth'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, out_indices=(3, ), frozen_stages=0,
                  init_cfg=INIT),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=512,
              loss=dict(type='CrossEntropyLoss')))
'''
FILE = "dict(type='Pretrained', checkpoint='torchvision://resnet18')"


@pytest.fixture
def stock(tmp_path):
    pytest.importorskip('mmpretrain')
    path = tmp_path / 'stock.py'
    path.write_text(CLASSIFIER.replace('INIT', FILE))
    return path


def swap(stock, *arguments):
    out = stock.parent / 'out.py'
    assert cli.main(['swap', str(stock), '-o', str(out), *arguments]) == 0
    return Config.fromfile(out)


def test_the_same_trunk_keeps_its_start(stock, capsys):
    cfg = swap(stock, '--backbone', 'sda_r18')
    text = (stock.parent / 'out.py').read_text()
    assert "_base_ = 'stock.py'" in text and 'init_cfg' not in text
    backbone = cfg.model.backbone
    assert backbone.type == 'mmattn.ResNet'
    assert backbone.depth_fusion.last_share == 0.95
    assert backbone.frozen_stages == 0
    assert backbone.init_cfg.checkpoint == 'torchvision://resnet18'
    assert cfg.load_from == 'old.pth'
    assert 'which holds the whole trunk' in capsys.readouterr().out


def test_another_trunk_gets_its_own_start_and_channels(stock, capsys):
    cfg = swap(stock, '--backbone', 'mobilenet_v2')
    assert cfg.model.backbone == dict(
        type='mmattn.MobileNetV2', out_indices=(7, ),
        init_cfg=dict(type='Pretrained', checkpoint='mmcls://mobilenet_v2'))
    assert cfg.model.head.in_channels == 1280
    assert cfg.model.head.num_classes == 3
    assert cfg.load_from is None
    out = capsys.readouterr().out
    assert '[1280] at strides [32] (were [512])' in out
    assert 'mmcls://mobilenet_v2' in out and 'old.pth' in out


def test_scratch_stays_scratch_and_words_are_as_given(stock):
    stock.write_text(CLASSIFIER.replace('INIT', 'None'))
    cfg = swap(stock, '--backbone', 'se_r34', '--attention', 'ECA',
               '--fusion', 'AFF:ratio=8')
    backbone = cfg.model.backbone
    assert (backbone.depth, backbone.init_cfg) == (34, None)
    assert backbone.attention == dict(type='ECA')
    assert backbone.fusion == dict(type='AFF', ratio=8)
    stock.write_text(CLASSIFIER.replace('INIT', 'None'))
    (stock.parent / 'out.py').unlink()
    cfg = swap(stock, '--backbone', 'se_r18', '--attention', 'none')
    assert 'attention' not in cfg.model.backbone


def test_weights_of_their_own_are_asked_for(stock, capsys):
    cfg = swap(stock, '--backbone', 'res2_r50')
    assert cfg.model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint='checkpoints/res2_resnet50_in1k.pth',
        prefix='backbone.')
    assert ('yours to provide: checkpoints/res2_resnet50_in1k.pth'
            in capsys.readouterr().out)


def test_a_caffe_config_gets_weights_of_its_kind(stock, capsys):
    caffe = CLASSIFIER.replace('depth=18', "depth=50, style='caffe'").replace(
        'channels=512', 'channels=2048')
    stock.write_text(caffe.replace('INIT', FILE))
    cfg = swap(stock, '--backbone', 'r101')
    assert cfg.model.backbone.style == 'caffe'
    assert cfg.model.backbone.init_cfg.checkpoint == (
        'open-mmlab://detectron2/resnet101_caffe')
    capsys.readouterr()
    for other in ('mobilenet_v2', 'res2_r50'):
        assert 'sibling without caffe' in failed(
            capsys, 'swap', stock, '--backbone', other, '-o',
            stock.parent / 'o.py')


def test_images_that_the_weights_do_not_expect_are_noted(stock, capsys):
    stock.write_text(stock.read_text() + (
        "model.update(data_preprocessor=dict(type='ClsDataPreprocessor', "
        'mean=[0., 0., 0.], std=[1., 1., 1.]))\n'))
    swap(stock, '--backbone', 'r34')
    assert 'set data_preprocessor' in capsys.readouterr().out


def test_a_result_is_not_overwritten_unless_forced(stock, capsys):
    out = stock.parent / 'out.py'
    out.write_text('mine = 1')
    argv = ['swap', stock, '--backbone', 'r18', '-o', out]
    assert 'exists' in failed(capsys, *argv)
    assert out.read_text() == 'mine = 1'
    assert cli.main([*map(str, argv), '--force']) == 0
    assert 'mmattn.ResNet' in out.read_text()


@pytest.mark.parametrize('arguments, message', [
    (['--backbone', 'r19', '-o', 'o.py'], "no backbone 'r19'"),
    (['--backbone', 'r18', '-o', 'o.txt'], 'must end in .py'),
    (['--backbone', 'r18', '-o', 'no/o.py'], 'is not a folder'),
    (['--backbone', 'r18'], '-o are needed'),
    (['--backbone', 'r18', '--attention', 'Nope', '-o', 'o.py'], "'Nope'"),
    (['--backbone', 'r18', '--link', 'DCA', '-o', 'o.py'],
     'needs an attention'),
])
def test_wrong_arguments_of_swap(arguments, message, stock, capsys,
                                 monkeypatch):
    monkeypatch.chdir(stock.parent)
    assert message in failed(capsys, 'swap', 'stock.py', *arguments)
    assert [p.name for p in stock.parent.iterdir()] == ['stock.py']


@pytest.mark.parametrize('text, message', [
    (None, 'is not a file'),
    ('model = ', 'cannot be read: '),
    ('a = 1', 'no model.backbone'),
    ('model = dict(backbone=dict(type="Nope"))', 'does not build'),
    ('with read_base():\n    from .x import *', 'pure Python'),
])
def test_wrong_configs_of_swap(text, message, tmp_path, capsys):
    if text is not None:
        (tmp_path / 'c.py').write_text(text)
    assert message in failed(capsys, 'swap', tmp_path / 'c.py', '--backbone',
                             'r18', '-o', tmp_path / 'o.py')
    assert not (tmp_path / 'o.py').exists()


@pytest.mark.config
@pytest.mark.parametrize('base, backbone, override', [
    ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 'mobilenet_v2',
     dict(neck=dict(in_channels=NEW))),
    ('mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py', 'r50',
     dict(bbox_head=dict(in_channels=(1024, 2048, 512, 256, 256, 128)))),
    ('mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py', 'eca_r50',
     dict(neck=dict(in_channels=[2048, 1024, 512]),
          backbone=dict(out_indices=(1, 2, 3)))),
    ('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', 'sda_r86',
     dict(neck=dict(in_channels=OLD), backbone=dict(depth=86))),
    ('mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py',
     'dca_se_r50', dict(pretrained='open-mmlab://resnet50_v1c',
                        backbone=dict(type='mmattn.ResNetV1c'))),
    ('mmseg::deeplabv3plus/'
     'deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py', 'mobilenet_v2',
     dict(pretrained=None, backbone=dict(output_stride=8),
          decode_head=dict(in_channels=320, c1_in_channels=24))),
], ids=['retinanet', 'ssdlite', 'yolov3', 'swin', 'pspnet', 'deeplabv3plus'])
def test_swap_of_stock_configs(base, backbone, override, tmp_path):
    pytest.importorskip(base.partition('::')[0])
    out = tmp_path / 'out.py'
    assert cli.main(['swap', base, '--backbone', backbone, '-o',
                     str(out)]) == 0
    model = Config.fromfile(out).model
    for name, value in override.items():
        if isinstance(value, dict):
            assert {k: model[name][k] for k in value} == value
        else:
            assert model[name] == value


@pytest.mark.config
def test_an_encoder_decoder_is_refused(tmp_path, capsys):
    pytest.importorskip('mmseg')
    assert 'encoder and decoder' in failed(
        capsys, 'swap',
        'mmseg::unet/unet-s5-d16_fcn_4xb4-40k_chase-db1-128x128.py',
        '--backbone', 'r50', '-o', tmp_path / 'o.py')
