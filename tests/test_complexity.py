"""Counts against a hand's, and the tool with good and bad input."""
import csv
import io
import json
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from torch import nn

import mmattn
from mmattn.attentions import ECA, SE
from mmattn.complexity import (CONVENTIONS, PARTS, measure, profile,
                               profile_of, reproduces)
from mmattn.complexity.counter import OperatorCounter, share_of
from mmattn.complexity.models import default_size

ROOT = Path(mmattn.__file__).resolve().parents[1]
RESNET50 = ROOT / 'configs/imagenet/dcanet/resnet50_8xb32_in1k.py'


def counted(model, *shape, convention='macs', name=None):
    """Counts of one call; a lone module is given its place in a model."""
    for part in reversed(name.split('.') if name else ()):
        holder = nn.Sequential()
        holder.add_module(part, model)
        model = holder
    with torch.device('meta'), torch.no_grad():
        model = model.to('meta').eval()
        with OperatorCounter(model) as counter:
            model(torch.empty(shape))
    return profile_of(model, counter, shape[-2:]).under(convention)


@pytest.mark.parametrize('layer, shape, params, macs, bias', [
    (nn.Conv2d(3, 5, 3, 2, 1, bias=False), (1, 3, 7, 11), 135, 135 * 24, 0),
    (nn.Conv2d(6, 9, (3, 1), groups=3), (2, 6, 7, 5), 63, 2 * 25 * 54,
     2 * 25 * 9),
    (nn.ConvTranspose2d(3, 5, 2, 2), (1, 3, 7, 11), 65, 60 * 77, 5 * 14 * 22),
    (nn.Conv1d(2, 3, 5, padding=2), (1, 2, 13), 33, 30 * 13, 39),
    (nn.Linear(7, 3), (5, 7), 24, 5 * 21, 0),
    (nn.Linear(7, 3, bias=False), (2, 5, 7), 21, 10 * 21, 0),
])
def test_layers(layer, shape, params, macs, bias):
    got = counted(layer, *shape)
    assert (got.params, got.macs) == (params, macs)
    assert counted(layer, *shape, convention='mmcv').macs == macs + bias
    assert counted(layer, *shape, convention='twice').macs == 2 * macs


class Products(nn.Module):

    def forward(self, x):  # (B, N, M)
        y = x @ x.transpose(1, 2)  # bmm: B N N M
        z = torch.einsum('bnm,bkm->bnk', x, x)  # the same
        return (y + z)[0] @ x[0]  # mm: N N M


def test_matrix_products():
    assert counted(Products(), 2, 3, 5).macs == 2 * 90 + 45
    # A counter of modules has no module to see.
    assert counted(Products(), 2, 3, 5, convention='mmcv').macs == 0


def test_dot_product_attention_is_two_products():

    class Heads(nn.Module):

        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    # Query times key and weights times value: each H L L E.
    assert counted(Heads(), 1, 3, 7, 5).macs == 2 * 3 * 49 * 5


def test_se():
    # Two 1x1 convolutions 32 -> 2 -> 32 on one position, biases 2 + 32.
    se = SE(32, ratio=16)
    assert counted(se, 1, 32, 7, 5).params == 128 + 34
    assert counted(se, 1, 32, 7, 5).macs == 128
    # Biases, the ReLU's 2 outputs, the mean's 32 * 35 inputs.
    assert counted(
        se, 1, 32, 7, 5, convention='mmcv').macs == 128 + 34 + 2 + 1120


def test_eca():
    eca = ECA(32, kernel_size=3)
    assert counted(eca, 1, 32, 7, 5).params == 3
    assert counted(eca, 1, 32, 7, 5).macs == 3 * 32


class Small(nn.Module):
    """A layer of every kind that a convention treats in its own way."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.group_norm = nn.GroupNorm(2, 6)
        self.fc = nn.Linear(6, 4, bias=False)

    def forward(self, x):
        x = self.pool(self.act(self.norm(self.conv(x))))
        return self.fc(self.group_norm(x).mean((2, 3)))


@pytest.mark.parametrize('convention, params, flops', [
    # On 4 x 6: conv 18 * 6 * 24 = 2592, maps of 144, pooled to 36; fc 24.
    ('macs', 162, 2592 + 24),
    ('trainable', 162 - 114, 2592 + 24),
    ('with-stats', 162 + 12, 2592 + 24),
    ('binary', 162, 2592 + 24),
    ('twice', 162, 2 * (2592 + 24)),
    ('fvcore', 162, 2592 + 24 + 2 * 144 + 5 * 36 + 36),
    ('mmcv', 162 - 114,
     2592 + 144 + 24 + 2 * 144 + 2 * 36 + 144 + 144 + 36),
    # Biases of the convolution and both norms.
    ('per-call', 162, 2592 + 24 + 18),
    ('thop', 162, 2592 + 48 + 4 * 144 + 144 + 144 + 36),
])
def test_each_convention(convention, params, flops):
    # 114 parameters of the convolution, 12 of each norm, 24 of fc.
    model = Small()
    for parameter in model.conv.parameters():
        parameter.requires_grad = False
    got = counted(model, 1, 2, 4, 6, convention=convention)
    assert (got.counted, got.macs) == (params, flops)
    assert got.trainable == 48 and got.total == 174


def test_every_convention_has_a_hand_computed_net():
    marks = test_each_convention.pytestmark[0].args[1]
    assert [case[0] for case in marks] == list(CONVENTIONS)


class Shared(nn.Module):

    def __init__(self, as_one_batch):
        super().__init__()
        self.as_one_batch = as_one_batch
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        if self.as_one_batch:
            return self.conv(torch.cat([x, x]))
        return self.conv(self.conv(x))


@pytest.mark.parametrize('as_one_batch', [False, True])
def test_a_shared_module_counts_once_a_call(as_one_batch):
    model = Shared(as_one_batch)
    got = counted(model, 1, 3, 5, 7, convention='per-call')
    assert (got.params, got.counted) == (12, 24)
    assert got.macs == 2 * 9 * 35 + 2 * 3
    assert counted(model, 1, 3, 5, 7).macs == 2 * 9 * 35


def test_a_maximum_over_channels_is_no_pool():

    class Both(nn.Module):

        def forward(self, x):
            return x.amax(1), x.mean(1), x.amax((2, 3)), x.mean(-1)

    assert counted(Both(), 1, 3, 5, 7, convention='mmcv').macs == 2 * 105


def test_an_instance_norm_is_no_batch_norm():
    norm = nn.InstanceNorm2d(3, affine=True)
    assert counted(norm, 1, 3, 5, 7, convention='fvcore').macs == 5 * 105
    assert counted(norm, 1, 3, 5, 7, convention='mmcv').macs == 2 * 105


@pytest.mark.parametrize('name, share', [
    ('backbone.layer1.0.conv1.weight', 'trunk'),
    ('backbone.layer1.0.branches.0.conv', 'trunk'),
    ('backbone.layer1.0.attention.fc1', 'attention'),
    ('backbone.layer1.stage_attention', 'attention'),
    ('backbone.layer1.0.link.mix', 'link'),
    ('backbone.layer1.0.fusion.local', 'fusion'),
    ('backbone.layer1.depth_fusion.squeeze', 'depth fusion'),
    ('neck.lateral_convs.0', 'neck'), ('roi_head.bbox_head', 'head'),
    ('head.fc.weight', 'head')])
def test_shares(name, share):
    assert share_of(name) == share


def test_an_attention_run_by_phases_keeps_its_share():

    class Linking(BaseModule):

        def __init__(self):
            super().__init__()
            self.attention = SE(32)

        def forward(self, x):
            d = self.attention.extract(x)
            return self.attention.attend(x, self.attention.transform(d))

    for convention in ('macs', 'mmcv'):
        got = counted(
            Linking(), 1, 32, 7, 5, convention=convention,
            name='backbone.layer1')
        assert got.parts['attention'] == (got.params, got.macs)


def test_shares_name_a_linked_and_fused_network():
    cfg = tiny(
        attention=dict(type='SE', ratio=4), link=dict(type='DCA'),
        fusion=dict(type='AFF'), depth_fusion=dict(type='SelectiveFusion'))
    got = measure(cfg, (65, 97))
    assert list(got.parts) == list(PARTS)
    assert sum(params for params, _ in got.parts.values()) == got.params
    assert sum(macs for _, macs in got.parts.values()) == got.macs
    assert [part for part in PARTS if not got.parts[part][0]] == ['neck']


def tiny(**backbone):
    pytest.importorskip('mmpretrain')
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=dict(
                    type='mmattn.ResNet', depth=(2, 2, 2, 2),
                    base_channels=16, stem_channels=16, out_indices=(3, ),
                    **backbone),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(
                    type='LinearClsHead', num_classes=7, in_channels=512))))


def test_frozen_stages_do_not_train():
    free, frozen = (
        measure(tiny(frozen_stages=n), (65, 97)) for n in (-1, 1))
    assert free.trainable == free.params == frozen.params
    # Stem 3 * 16 * 49 and its norm; two bottlenecks of 16 channels, 16 and 64
    # in, the shortcut 16 -> 64, and the weights and biases of their norms.
    stem = 2352 + 32
    first = 256 + 2304 + 1024 + 2 * (16 + 16 + 64) + 1024 + 128
    second = 1024 + 2304 + 1024 + 2 * (16 + 16 + 64)
    assert frozen.params - frozen.trainable == stem + first + second


def test_resnet50_by_algebra():
    pytest.importorskip('mmpretrain')
    params, macs, side = 3 * 64 * 49 + 128, 3 * 64 * 49 * 112**2, 56
    statistics, channels = 128, 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        p = 64 * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            convs = [(channels * p, side)]
            side //= stride
            convs += [(9 * p * p, side), (4 * p * p, side)]
            norms = 6 * p
            if not block:
                convs.append((4 * channels * p, side))
                norms += 4 * p
            params += sum(n for n, _ in convs) + 2 * norms
            macs += sum(n * at**2 for n, at in convs)
            statistics += 2 * norms
            channels = 4 * p
    params, macs = params + 2049000, macs + 2048000
    assert (params, macs) == (25557032, 4089184256)
    got = measure(RESNET50)
    assert (got.params, got.trainable, got.macs) == (params, params, macs)
    assert got.total == params + statistics
    assert got.input_size == (224, 224) and got.proposals is None


# SDA-xNet's table 3, and what mmdet 1.x and 2.x print for the stock detector.
@pytest.mark.parametrize('network, trainable, printed', [
    ('r50', 41527712, '207.07G'), ('sda_r86', 43107232, '202.93G')])
def test_two_stage_detector_as_the_old_counter_printed_it(
        network, trainable, printed):
    pytest.importorskip('mmdet')
    got = measure(
        ROOT / f'configs/faster_rcnn/faster_rcnn_{network}_1x_coco.py',
        convention='mmcv')
    assert reproduces(got.macs, printed) == 'rounded'
    assert got.counted == got.trainable == trainable
    assert (got.input_size, got.proposals) == ((800, 1280), (1000, 100))


def test_proposals_are_what_the_heads_see():
    pytest.importorskip('mmdet')
    config = ROOT / 'configs/mask_rcnn/mask_rcnn_r50_1x_coco.py'
    one, other = (
        profile(config, (96, 160), proposals).under('macs')
        for proposals in ((1, 1), (3, 2)))
    # Two linear layers and the outputs; four convolutions, the 2x2
    # deconvolution and the mask of each class.
    box = 256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 320)
    mask = 196 * (4 * 9 * 256**2 + 4 * 256**2 + 4 * 256 * 80)
    assert other.macs - one.macs == 2 * box + mask


@pytest.mark.config
@pytest.mark.parametrize('config, size, proposals', [
    ('retinanet/retinanet_r50_2x_coco', (800, 1280), None),
    ('ssdlite/ssdlite320_mbv2_coco', (320, 320), None),
    ('cascade_rcnn/cascade_rcnn_r50_2x_coco', (800, 1280), (1000, 100)),
    ('deeplabv3/deeplabv3_mbv2_os16_voc12aug', (512, 512), None),
    ('deeplabv3/deeplabv3_mbv2_os8_cityscapes', (512, 1024), None),
    ('cifar100/aff/aff_resnet32_1xb128_cifar100', (32, 32), None)])
def test_sizes_are_those_of_the_papers(config, size, proposals):
    got = measure(ROOT / f'configs/{config}.py')
    assert (got.input_size, got.proposals) == (size, proposals)
    assert got.macs and got.params


def test_a_classifier_of_unknown_data_is_counted_at_224():
    assert default_size(Config(dict()), 'classifier') == (224, 224)


@pytest.mark.parametrize('value, printed, base, how', [
    (25557032, '25.56M', 1000, 'rounded'),
    (25557032, '24.37M', 1024, 'rounded'),
    (30373192, '30.3M', 1000, 'truncated'),
    (30373192, '30.5M', 1000, None), (300774272, '300M', 1000, 'rounded'),
    (306670000, '310M', 1000, 'rounded'), (311300000, '300M', 1000, None),
    (311300000, '311M', 1000, 'rounded'),
    (207065138100, '207.07G', 1000, 'rounded')])
def test_printed_figures(value, printed, base, how):
    assert reproduces(value, printed, base) == how


def test_a_figure_without_a_unit_is_refused():
    with pytest.raises(ValueError, match='number with M or G'):
        reproduces(1, '25.56')


@pytest.fixture(scope='module')
def tool():
    return runpy.run_path(str(ROOT / 'tools/complexity.py'))['main']


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'tiny.py'
    tiny(attention=dict(type='SE', ratio=4)).dump(path)
    return str(path)


def test_csv_and_json_parse_back(tool, config, tmp_path, capsys):
    got = measure(config, (65, 97), 'mmcv')
    args = [config, config, '--input', '65x97', '--convention', 'mmcv']
    tool([*args, '--format', 'csv'])
    streams = capsys.readouterr()
    first, second = csv.DictReader(io.StringIO(streams.out))
    assert first == second and '2/2' in streams.err  # the progress bar
    tool([*args, '--format', 'json', '-o', str(tmp_path / 'out.json')])
    record = json.loads((tmp_path / 'out.json').read_text())[0]
    assert {k: '' if v is None else str(v) for k, v in record.items()} == first
    assert record['params'] == got.params and record['macs'] == got.macs
    assert (record['height'], record['width']) == (65, 97)
    assert record['attention_params'] == got.parts['attention'][0]


@pytest.mark.parametrize('form', ['text', 'markdown'])
def test_pages_for_people(tool, config, capsys, form):
    tool([config, '--input', '65x97', '--format', form])
    page = capsys.readouterr().out
    assert CONVENTIONS['macs'] in page and 'attention' in page
    assert '65x97' in page and config in page


@pytest.mark.parametrize('args, message', [
    (['nowhere.py'], "config 'nowhere.py' is not a file"),
    (['{config}', '--input', '224'], "'224' is not HEIGHTxWIDTH"),
    (['{config}', '--input', '0x32'], "'0x32' is not HEIGHTxWIDTH"),
    (['{config}', '--convention', 'flops'], "invalid choice: 'flops'"),
    (['{config}', '--proposals', '0', '5'], 'two numbers of at least 1'),
    (['{config}', '-o', '{folder}/no/out.csv'], 'cannot write'),
    (['{empty}'], 'the config has no model'),
    (['{strange}'], 'the model cannot be built'),
    (['{backbone}'], 'neither a classifier')])
def test_bad_input_has_one_error(tool, config, tmp_path, capsys, args,
                                 message):
    texts = dict(
        empty='x = 1\n', strange="model = dict(type='NoSuchModel')\n",
        backbone="model = dict(type='mmattn.ResNet', depth=50)\n")
    names = dict(config=config, folder=tmp_path)
    for name, text in texts.items():
        names[name] = tmp_path / f'{name}.py'
        names[name].write_text(text)
    with pytest.raises(SystemExit) as error:
        tool([arg.format(**names) for arg in args])
    assert error.value.code not in (0, None)
    said = capsys.readouterr().err + str(error.value.code)
    assert said.count(message) == 1 and 'Traceback' not in said


def test_an_unknown_convention_names_the_known_ones():
    with pytest.raises(ValueError, match='known are macs, trainable'):
        measure(RESNET50, convention='flops')


def test_an_operator_from_elsewhere_is_refused():
    torchvision = pytest.importorskip('torchvision')
    model = nn.Identity()
    boxes, scores = torch.rand(3, 4), torch.rand(3)
    with pytest.raises(NotImplementedError, match='torchvision::nms'):
        with OperatorCounter(model):
            torchvision.ops.nms(boxes, scores, 0.5)
