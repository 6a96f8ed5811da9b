"""SSDLite320: its layers, priors, targets and losses against the release.

Numbers and layouts: Andrew-Qibin/ssdlite-pytorch-mobilenext, counted there,
and tables 2 and 3 of arXiv:2103.02907.
"""
import math
import re

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from samples import SIZE, batch, boxes, randomise

pytest.importorskip('mmdet')
from mmdet.models.task_modules import SSDAnchorGenerator  # noqa: E402

from mmattn.detection import (MobileNeXtNeck, SSDHead,  # noqa: E402
                              SSDLiteAnchorGenerator, SSDLiteHead,
                              SSDLiteNeck)

V2 = (96, 1280, 512, 256, 256, 64)
NEXT = (576, 1280, 512, 256, 256, 128)
VOC = dict(
    type='mmattn.detection.SSDLiteAnchorGenerator',
    ratios=[(2, 3)] * 6,
    max_sizes=(120, 180, 220, 260, 300, 320))
COCO = dict(type='mmattn.detection.SSDLiteAnchorGenerator')
FOCAL = dict(type='mmdet.FocalLoss', loss_weight=5.)  # alpha .25, gamma 2
TRAIN = dict(
    assigner=dict(
        type='mmdet.MaxIoUAssigner',
        pos_iou_thr=0.5,
        neg_iou_thr=0.5,
        min_pos_iou=0.,
        gt_max_assign_all=False),
    smoothl1_beta=1.,
    allowed_border=-1,
    pos_weight=-1)
MINED = dict(TRAIN, neg_pos_ratio=3)
TEST = ConfigDict(
    nms_pre=1000,
    score_thr=0.05,
    nms=dict(type='nms', iou_threshold=0.5),
    max_per_img=100)


def count(*modules) -> int:
    return sum(p.numel() for m in modules for p in m.parameters())


def coco_head(in_channels=V2, **options):
    return SSDLiteHead(80, in_channels, **options)


# -- numbers of the tables ----------------------------------------------------

CLASSIFIER = 1280 * 1000 + 1000
# Trunks by their classification counts.
TRUNKS = dict(
    v2=3_504_872, se=3_888_208, cbam=3_889_808, ca=3_950_648, next=3_535_416)
SE = dict(type='SE', ratio=24)
CBAM = dict(type='CBAM', ratio=24)
CA = dict(type='CoordAttention', ratio=32)
ROWS = [
    ('v2', {}, 4_304_138, 3_425_988),
    ('se', dict(attention=SE), 4_701_072, 3_822_922),
    ('cbam', dict(attention=CBAM), 4_703_072, 3_824_922),
    ('ca', dict(attention=CA), 4_769_978, 3_891_828),
    # se_mbv2.py as released
    ('se', dict(attention=SE, hidden_channels=(256, 128, 128, 64)), 4_574_728,
     3_696_578),
    # attention in the trunk alone
    ('se', {}, 4_687_474, 3_809_324),
    ('next', None, 4_539_418, 3_476_308),
]


@pytest.mark.parametrize('trunk, options, coco, voc', ROWS)
def test_parameter_counts(trunk, options, coco, voc):
    mobilenext = options is None
    neck = MobileNeXtNeck() if mobilenext else SSDLiteNeck(**options)
    widths = NEXT if mobilenext else V2
    rest = TRUNKS[trunk] - CLASSIFIER + count(neck)
    assert rest + count(coco_head(widths, loss_cls=FOCAL)) == coco
    assert rest + count(SSDLiteHead(
        20, widths, anchor_generator=VOC)) == voc


def test_stock_trunk_count():
    trunk = MODELS.build(dict(type='mmdet.MobileNetV2', out_indices=(4, 7)))
    assert count(trunk, SSDLiteNeck(), coco_head()) == 4_304_138


def test_stock_layers_count():
    """MnasNet-A1 with the layers of mmdet, six priors on every level."""
    neck = MODELS.build(
        dict(
            type='mmdet.SSDNeck',
            in_channels=(672, 1280),
            out_channels=(672, 1280, 512, 256, 256, 128),
            level_strides=(2, 2, 2, 2),
            level_paddings=(1, 1, 1, 1),
            l2_norm_scale=None,
            use_depthwise=True,
            norm_cfg=dict(type='BN')))
    head = SSDHead(
        80, (672, 1280, 512, 256, 256, 128),
        use_depthwise=True,
        norm_cfg=dict(type='BN'),
        anchor_generator=VOC,
        loss_cls=FOCAL)
    assert 3_887_038 - CLASSIFIER + count(neck, head) == 4_917_386


# -- layers: the published layout, the published forward ----------------------


def norm_shapes(name, channels):
    return {
        f'{name}.{leaf}': (channels, )
        for leaf in ('weight', 'bias', 'running_mean', 'running_var')
    }


def v2_extras():
    """Layout of the extras of mobilenet.py: nested sequences."""
    shapes, width = {}, 1280
    for k, (hidden, out) in enumerate(
            zip((256, 256, 128, 128), (512, 256, 256, 64))):
        key = f'extras.{k}.conv.'
        shapes[key + '0.0.weight'] = (hidden, width, 1, 1)
        shapes.update(norm_shapes(key + '0.1', hidden))
        shapes[key + '1.0.weight'] = (hidden, 1, 3, 3)
        shapes.update(norm_shapes(key + '1.1', hidden))
        shapes[key + '2.weight'] = (out, hidden, 1, 1)
        shapes.update(norm_shapes(key + '3', out))
        width = out
    return shapes


def next_extras():
    """Layout of the extras of mobilenext.py: one sequence each."""
    shapes, width = {}, 1280
    for k, (hidden, out) in enumerate(
            zip((256, 128, 128, 128), (512, 256, 256, 128))):
        key = f'extras.{k}.'
        shapes[key + '0.weight'] = (width, 1, 3, 3)
        shapes.update(norm_shapes(key + '1', width))
        shapes[key + '3.weight'] = (hidden, width, 1, 1)
        shapes.update(norm_shapes(key + '4', hidden))
        shapes[key + '5.weight'] = (out, hidden, 1, 1)
        shapes.update(norm_shapes(key + '6', out))
        width = out
    return shapes


def head_layout(widths, priors=(6, 6, 6, 6, 6, 4), classes=81):
    shapes = {}
    for branch, outputs in (('cls', classes), ('reg', 4)):
        for k, (width, number) in enumerate(zip(widths, priors)):
            key, out = f'{branch}_headers.{k}.', number * outputs
            if k < 5:
                key += 'conv.'
                shapes[key + '0.weight'] = (width, 1, 3, 3)
                shapes[key + '0.bias'] = (width, )
                shapes.update(norm_shapes(key + '1', width))
                key += '3.'
            shapes[key + 'weight'] = (out, width, 1, 1)
            shapes[key + 'bias'] = (out, )
    return shapes


def fill(shapes, seed=1):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) == 4:
            value *= math.prod(shape[1:])**-0.5
        elif key.endswith('running_var'):
            value = value.abs() + 0.5
        state[key] = value
    return state


V2_NAMES = {'0.0': '0.conv', '0.1': '0.bn', '1.0': '1.conv', '1.1': '1.bn',
            '2': '2.conv', '3': '2.bn'}
NEXT_NAMES = {'0': '0.conv', '1': '0.bn', '3': '1.conv', '4': '1.bn',
              '5': '2.conv', '6': '2.bn'}


def load(module, state, rename):
    """Load a published state; every key must find its place."""
    missing, unexpected = module.double().load_state_dict(
        {rename(key): value for key, value in state.items()}, strict=False)
    assert not unexpected
    assert all(key.endswith('num_batches_tracked') for key in missing)
    return module


def rename_v2(key):
    k, part, leaf = re.fullmatch(r'extras\.(\d)\.conv\.(.+)\.(\w+)',
                                 key).groups()
    return f'extras.{k}.conv.{V2_NAMES[part]}.{leaf}'


def rename_next(key):
    k, part, leaf = re.fullmatch(r'extras\.(\d)\.(\d)\.(\w+)', key).groups()
    return f'extras.{k}.conv.{NEXT_NAMES[part]}.{leaf}'


def rename_head(key):
    return key.replace('_headers.', '_convs.').replace('.conv.', '.')


class Plain:
    """The released layers as calls on tensors."""

    def __init__(self, state, training):
        self.state, self.training = state, training

    def norm(self, x, key):
        mean, var, weight, bias = (
            self.state[f'{key}.{leaf}'].clone()
            for leaf in ('running_mean', 'running_var', 'weight', 'bias'))
        return F.batch_norm(x, mean, var, weight, bias, self.training)

    def conv(self, x, key, **options):
        return F.conv2d(x, self.state[key + '.weight'],
                        self.state.get(key + '.bias'), **options)

    def depthwise(self, x, key, stride=1):
        return self.conv(
            x, key, stride=stride, padding=1, groups=x.shape[1])

    def v2_extra(self, x, k):
        key = f'extras.{k}.conv.'
        x = F.relu6(self.norm(self.conv(x, key + '0.0'), key + '0.1'))
        x = self.depthwise(x, key + '1.0', 2)
        x = F.relu6(self.norm(x, key + '1.1'))
        return self.norm(self.conv(x, key + '2'), key + '3')

    def next_extra(self, x, k):
        key = f'extras.{k}.'
        x = F.relu6(self.norm(self.depthwise(x, key + '0', 2), key + '1'))
        x = self.norm(self.conv(x, key + '3'), key + '4')
        return F.relu6(self.norm(self.conv(x, key + '5'), key + '6'))

    def branch(self, x, key):
        if f'{key}.weight' in self.state:
            return self.conv(x, key)
        x = self.norm(self.depthwise(x, key + '.conv.0'), key + '.conv.1')
        return self.conv(F.relu6(x), key + '.conv.3')


def maps(widths, sizes, number=2):
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(number, width, *size, generator=generator,
                    dtype=torch.float64)
        for width, size in zip(widths, sizes)
    ]


@pytest.mark.parametrize('training', [False, True])
def test_v2_extras_are_the_published_ones(training):
    state = fill(v2_extras())
    neck = load(SSDLiteNeck(), state, rename_v2).train(training)
    inputs = maps(V2, [(17, 23), (9, 12)])
    plain, expected = Plain(state, training), list(inputs)
    for k in range(4):
        expected.append(plain.v2_extra(expected[-1], k))
    assert [x.shape[2:] for x in expected[2:]] == [(5, 6), (3, 3), (2, 2),
                                                   (1, 1)]
    torch.testing.assert_close(neck(inputs), tuple(expected))


@pytest.mark.parametrize('training', [False, True])
def test_mobilenext_extras_are_the_published_ones(training):
    state = fill(next_extras())
    neck = load(MobileNeXtNeck(), state, rename_next).train(training)
    inputs = maps((576, 1280, 1280), [(17, 23), (9, 12), (9, 12)])
    plain, expected = Plain(state, training), list(inputs)
    for k in range(4):
        expected.append(plain.next_extra(expected[-1], k))
    del expected[2]  # the end of block 20 is no level
    torch.testing.assert_close(neck(inputs), tuple(expected))


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('loss_cls', [None, FOCAL])
def test_head_is_the_published_one(training, loss_cls):
    state = fill(head_layout(V2))
    head = load(coco_head(loss_cls=loss_cls), state, rename_head)
    head.train(training)
    levels = maps(V2, [(7, 11), (4, 6), (3, 4), (2, 3), (1, 2), (1, 1)])
    plain = Plain(state, training)
    expected = [[plain.branch(x, f'{name}_headers.{k}')
                 for k, x in enumerate(levels)] for name in ('cls', 'reg')]
    torch.testing.assert_close(list(head(levels)), expected)


def test_attention_sits_behind_the_depthwise_convolution():
    neck = randomise(
        SSDLiteNeck((3, 5), (6, 4), (8, 9), attention=[None, CA])).eval()
    assert neck.extras[0].attention is None
    extra, x = neck.extras[1], torch.randn(2, 6, 5, 7)
    expand, depthwise, project = extra.conv
    expected = project(extra.attention(depthwise(expand(x))))
    torch.testing.assert_close(extra(x), expected)
    assert not torch.allclose(extra(x), extra.conv(x))


def test_attention_norm_is_the_necks():
    neck = SSDLiteNeck(
        attention=CA, norm_cfg=dict(type='GN', num_groups=4))
    assert isinstance(neck.extras[0].attention.norm, torch.nn.GroupNorm)


# -- start --------------------------------------------------------------------


def test_neck_starts_as_the_trunk():
    neck = SSDLiteNeck(attention=SE)
    neck.init_weights()
    conv = neck.extras[0].conv[0].conv.weight
    assert conv.std().item() == pytest.approx((2 / 256)**0.5, rel=0.02)
    depthwise = neck.extras[0].conv[1].conv.weight
    assert depthwise.std().item() == pytest.approx((2 / (256 * 9))**0.5,
                                                   rel=0.1)
    # The attention's own start, not that of the convolutions.
    assert neck.extras[0].attention.fc1.weight.abs().max() <= 256**-0.5
    assert neck.extras[0].attention.fc1.bias.any()


def test_softmax_head_starts_by_xavier():
    head = coco_head()
    head.init_weights()
    for convs, outputs in ((head.cls_convs, 6 * 81), (head.reg_convs, 6 * 4)):
        conv = convs[0][3]
        bound = (6 / (96 + outputs))**0.5
        assert 0.9 * bound < conv.weight.abs().max() <= bound
        assert not conv.bias.any()


def test_focal_head_starts_at_one_percent():
    head = coco_head(loss_cls=FOCAL)
    head.init_weights()
    for conv in (head.cls_convs[1][0], head.cls_convs[1][3],
                 head.cls_convs[5]):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert conv.weight.mean().abs() < 1e-3
        torch.testing.assert_close(
            conv.bias, torch.full_like(conv.bias, -math.log(99)))
    assert (head.cls_convs[1][1].weight == 1).all()
    assert not head.reg_convs[1][3].bias.any()
    assert head.reg_convs[1][3].weight.abs().max() > 0.05


# -- priors and targets -------------------------------------------------------

GRID = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


def published_priors(max_sizes, last_ratios):
    """The loops of the release: centre and size as shares of the image."""
    priors = []
    strides = (16, 32, 64, 120, 160, 320)
    for k, small in enumerate((45, 90, 135, 180, 225, 270)):
        side = GRID[k][0]
        for i in range(side):
            for j in range(side):
                centre = ((j + .5) * strides[k] / 320,
                          (i + .5) * strides[k] / 320)
                sizes = [(small, small), ((small * max_sizes[k])**.5, ) * 2]
                for r in last_ratios if k == 5 else (2, 3):
                    sizes += [(small * r**.5, small / r**.5),
                              (small / r**.5, small * r**.5)]
                priors += [(*centre, w / 320, h / 320) for w, h in sizes]
    return torch.tensor(priors, dtype=torch.float64)


@pytest.mark.parametrize(
    'options, maximum, last, number, limited',
    [(COCO, (90, 135, 180, 225, 270, 315), (2, ), 3232, 10),
     (VOC, VOC['max_sizes'], (2, 3), 3234, 12)])
def test_priors(options, maximum, last, number, limited):
    priors = published_priors(maximum, last)
    assert len(priors) == number
    priors.clamp_(0, 1)
    half = priors[:, 2:] / 2
    corners = torch.cat((priors[:, :2] - half, priors[:, :2] + half), 1) * 320
    options = {k: v for k, v in options.items() if k != 'type'}
    generator = SSDLiteAnchorGenerator(**options)
    ours = torch.cat(generator.grid_priors(GRID, device='cpu'))
    torch.testing.assert_close(
        ours.double(), corners, rtol=0, atol=1e-4)
    stock = SSDAnchorGenerator(
        strides=(16, 32, 64, 120, 160, 320),
        ratios=[(2, 3)] * 5 + [last],
        min_sizes=(45, 90, 135, 180, 225, 270),
        max_sizes=maximum,
        scale_major=False)
    stock = torch.cat(stock.grid_priors(GRID, device='cpu'))
    assert ((stock - ours).abs() > 1e-3).any(1).sum() == limited


def test_priors_keep_to_the_image():
    generator = SSDLiteAnchorGenerator(
        strides=[64], ratios=[(3, )], min_sizes=[50], max_sizes=[80],
        input_size=64)
    priors = generator.grid_priors([(1, 1)], device='cpu')[0]
    assert (priors[:, 2:] - priors[:, :2]).max() == 64
    torch.testing.assert_close((priors[:, 2:] + priors[:, :2]) / 2,
                               torch.full((4, 2), 32.))


def test_boxes_are_encoded_with_the_published_variances():
    coder = coco_head().bbox_coder
    prior = torch.tensor([[10., 20., 50., 100.]])  # centre 30, 60: 40 by 80
    box = torch.tensor([[20., 30., 70., 110.]])  # centre 45, 70: 50 by 80
    torch.testing.assert_close(
        coder.encode(prior, box),
        torch.tensor([[
            15 / 40 / 0.1, 10 / 80 / 0.1,
            math.log(50 / 40) / 0.2, math.log(80 / 80) / 0.2
        ]]))


# -- losses, by hand on two images --------------------------------------------

TINY = dict(
    type='mmattn.detection.SSDLiteAnchorGenerator',
    strides=(8, 20),
    ratios=((2, ), (2, 3)),
    min_sizes=(10, 20),
    max_sizes=(20, 30),
    input_size=40)
TINY_GRID = [(4, 5), (2, 2)]
BOXES = [[[1., 2., 21., 19.], [15., 4., 39., 31.]], [[20., 20., 31., 29.]]]
LABELS = [[2, 0], [1]]


def tiny_head(loss_cls, train_cfg):
    return SSDLiteHead(
        3, (4, 6), loss_cls=loss_cls, anchor_generator=TINY,
        train_cfg=train_cfg, test_cfg=TEST)


def tiny_outputs():
    generator = torch.Generator().manual_seed(5)
    return [[
        torch.randn(2, priors * outputs, *size, generator=generator)
        for priors, size in zip((4, 6), TINY_GRID)
    ] for outputs in (4, 4)]


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    area = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return common / (sum(area) - common)


def match(priors, image):
    """For each prior the index of its box, or None."""
    table = [[iou(prior, box) for box in BOXES[image]] for prior in priors]
    owner = [
        row.index(max(row)) if max(row) >= 0.5 else None for row in table]
    for g in range(len(BOXES[image])):
        column = [row[g] for row in table]
        owner[column.index(max(column))] = g
    return owner


def smooth_l1(priors, owner, image, deltas):
    total = 0
    for prior, g, delta in zip(priors, owner, deltas):
        if g is None:
            continue
        x1, y1, x2, y2 = BOXES[image][g]
        w, h = prior[2] - prior[0], prior[3] - prior[1]
        target = [((x1 + x2) - (prior[0] + prior[2])) / 2 / w / 0.1,
                  ((y1 + y2) - (prior[1] + prior[3])) / 2 / h / 0.1,
                  math.log((x2 - x1) / w) / 0.2,
                  math.log((y2 - y1) / h) / 0.2]
        for t, d in zip(target, delta):
            e = abs(t - d)
            total += e * e / 2 if e < 1 else e - 0.5
    return total


def focal(label, logits):
    total = 0
    for c, logit in enumerate(logits):
        p = 1 / (1 + math.exp(-logit))
        if c == label:
            total += -0.25 * (1 - p)**2 * math.log(p)
        else:
            total += -0.75 * p**2 * math.log(1 - p)
    return total


def cross_entropy(label, logits):
    return math.log(sum(map(math.exp, logits))) - logits[label]


@pytest.mark.parametrize('loss_cls, train_cfg', [(None, MINED),
                                                 (FOCAL, TRAIN)])
def test_losses_by_hand(loss_cls, train_cfg):
    head = tiny_head(loss_cls, train_cfg)
    scores, deltas = tiny_outputs()
    losses = head.loss_by_feat(
        scores, deltas,
        [InstanceData(bboxes=torch.tensor(b), labels=torch.tensor(x))
         for b, x in zip(BOXES, LABELS)],
        [dict(img_shape=(32, 40), pad_shape=(32, 40))] * 2)

    priors = torch.cat(
        head.prior_generator.grid_priors(TINY_GRID, device='cpu')).tolist()
    flat = [
        torch.cat([x[i].permute(1, 2, 0).reshape(-1, 4) for x in out]).tolist()
        for out in (scores, deltas) for i in range(2)]
    positives = loss_c = loss_b = 0
    for image in range(2):
        owner = match(priors, image)
        logits, delta = flat[image], flat[2 + image]
        labels = [3 if g is None else LABELS[image][g] for g in owner]
        number = sum(g is not None for g in owner)
        positives += number
        loss_b += smooth_l1(priors, owner, image, delta)
        if loss_cls:
            # The background's channel is a negative everywhere.
            loss_c += 5 * sum(
                focal(None if c == 3 else c, x)
                for c, x in zip(labels, logits))
            continue
        each = [cross_entropy(c, x) for c, x in zip(labels, logits)]
        mined = sorted((e for e, c in zip(each, labels) if c == 3),
                       reverse=True)[:3 * number]
        loss_c += sum(e for e, c in zip(each, labels) if c < 3) + sum(mined)
    assert positives > 4
    assert sum(losses['loss_cls']).item() == pytest.approx(
        loss_c / positives, rel=1e-5)
    assert sum(losses['loss_bbox']).item() == pytest.approx(
        loss_b / positives, rel=1e-5)


def test_focal_loss_of_decoded_boxes():
    """An option of the host, kept where the loss is ours."""
    head = tiny_head(FOCAL, TRAIN)
    head.reg_decoded_bbox = True
    anchor = torch.tensor([[2., 3., 12., 13.]])
    loss = head.loss_by_feat_single(
        torch.zeros(1, 4), torch.zeros(1, 4), anchor, torch.tensor([0]),
        torch.ones(1), anchor + 2, torch.ones(1, 4), 1)[1]
    assert loss.item() == pytest.approx(4 * 1.5)


# -- predictions --------------------------------------------------------------


@pytest.mark.parametrize('loss_cls', [None, FOCAL])
def test_prediction_is_the_label_never_the_background(loss_cls):
    head = tiny_head(loss_cls, None)
    scores = [torch.full((1, n * 4, *size), -9.)
              for n, size in zip((4, 6), TINY_GRID)]
    for score in scores:
        score[:, 3::4] = 9.  # the background's channel, of every prior
    scores[1][0, 5 * 4 + 2, 0, 1] = 10.  # label 2: prior 5, row 0, column 1
    before = [score.clone() for score in scores]
    deltas = [torch.zeros(1, n * 4, *size)
              for n, size in zip((4, 6), TINY_GRID)]
    meta = dict(img_shape=(32, 40), scale_factor=(1., 1.))
    found, = head.predict_by_feat(scores, deltas, batch_img_metas=[meta])
    assert found.labels.tolist() == [2]
    expected = 1 / (1 + math.exp(-10 if loss_cls else -1))
    assert found.scores.item() == pytest.approx(expected, rel=1e-4)
    # min_size 20, ratio 3, tall, around (30, 10), cut at the image
    w, h = 20 / 3**.5, 20 * 3**.5
    torch.testing.assert_close(
        found.bboxes,
        torch.tensor([[30 - w / 2, 0, 30 + w / 2, 10 + h / 2]]))
    torch.testing.assert_close(scores, before)  # left as they were


# -- in a detector ------------------------------------------------------------


@pytest.mark.parametrize('voc', [True, False])
def test_detector_trains_and_predicts(voc):
    init_default_scope('mmdet')
    model = MODELS.build(
        dict(
            type='mmdet.SingleStageDetector',
            data_preprocessor=dict(type='DetDataPreprocessor'),
            backbone=dict(type='MobileNetV2', out_indices=(4, 7)),
            neck=dict(type='mmattn.detection.SSDLiteNeck', attention=CA),
            bbox_head=dict(
                type='mmattn.detection.SSDLiteHead',
                num_classes=4,
                in_channels=V2,
                anchor_generator=VOC if voc else COCO,
                loss_cls=None if voc else FOCAL),
            train_cfg=MINED if voc else TRAIN,
            test_cfg=ConfigDict(TEST, score_thr=0.)))
    model.init_weights()
    data = model.data_preprocessor(batch(lambda: boxes(4)), training=True)
    total, _ = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    for part in (model.neck, model.bbox_head):
        assert not [n for n, p in part.named_parameters() if p.grad is None]
    background = model.bbox_head.cls_convs[0][3].weight.grad[4::5]
    assert background.any()
    with torch.no_grad():
        found = model.eval()(**data, mode='predict')
    for sample in found:
        assert len(sample.pred_instances) > 0
        assert sample.pred_instances.labels.max() < 4
        assert sample.pred_instances.bboxes[:, 2].max() <= SIZE[1]


@pytest.mark.parametrize('scope', [None, 'mmdet', 'mmseg'])
def test_full_paths_resolve_in_any_scope(scope):
    if scope:
        pytest.importorskip(scope)
        init_default_scope(scope)
    for cfg in (dict(type='mmattn.detection.SSDLiteNeck'),
                dict(type='mmattn.detection.MobileNeXtNeck'),
                dict(type='mmattn.detection.SSDLiteHead', num_classes=3,
                     in_channels=V2, loss_cls=FOCAL)):
        assert type(MODELS.build(cfg)).__name__ == cfg['type'].split('.')[-1]


# -- what is refused ----------------------------------------------------------


@pytest.mark.parametrize('make, words', [
    (lambda: SSDLiteNeck(hidden_channels=(256, 128)), 'one entry for each'),
    (lambda: SSDLiteNeck(in_channels=96), 'in_channels must list channels'),
    (lambda: SSDLiteNeck(out_channels=()), 'out_channels must list channels'),
    (lambda: SSDLiteNeck(out_channels=(512, 256, 256, 0)),
     'out_channels must be a positive'),
    (lambda: SSDLiteNeck(attention=[SE]), 'attention lists 1'),
    (lambda: SSDLiteNeck(attention=dict(type='Add')), 'no type'),
    (lambda: MobileNeXtNeck(in_channels=(1280, )), 'leaves no level'),
    (lambda: coco_head(V2[:5]), 'in_channels=.* of which there are 6'),
    (lambda: coco_head(loss_cls=dict(type='mmdet.CrossEntropyLoss')),
     "must be None or of type 'FocalLoss'"),
    (lambda: coco_head(loss_cls=FOCAL, train_cfg=MINED),
     'neg_pos_ratio=3, but FocalLoss'),
    (lambda: coco_head(train_cfg=TRAIN), 'train_cfg needs neg_pos_ratio'),
    (lambda: SSDLiteAnchorGenerator(strides=(16, 32)), 'got 2, 6, 6, 6'),
])
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_wrong_number_of_inputs_is_refused():
    x = torch.randn(2, 1280, 3, 2)
    with pytest.raises(ValueError, match='built for 3 inputs, got 2'):
        MobileNeXtNeck()([x, x])
    with pytest.raises(ValueError, match='built for 6 levels, got 1'):
        coco_head()([x])


@pytest.mark.parametrize('neck, levels', [(SSDLiteNeck, 4),
                                          (MobileNeXtNeck, 3)])
def test_one_image_is_refused_where_a_norm_trains_on_one_value(neck, levels):
    neck = neck((4, 4), (4, 4), (4, 4))
    inputs = [torch.randn(1, 4, 6, 4), torch.randn(1, 4, 3, 2)]
    with pytest.raises(ValueError, match='Extra: one image and a 1x1 map'):
        neck(inputs)
    assert len(neck.eval()(inputs)) == levels
    head = tiny_head(None, None)
    levels = [torch.randn(1, 4, 1, 1), torch.randn(1, 6, 1, 1)]
    with pytest.raises(ValueError, match='SSDLiteHead: one image'):
        head(levels)
    head([torch.randn(1, 4, 2, 1), levels[1]])  # the last level has no norm
