"""DeepLabV3's head: the counts of the tables, and the formula by hand.

Counts: DeepLabV3 tables of arXiv:2103.02907 (4.5M on MobileNetV2), exact
numbers by the head that makes them.
"""
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from samples import SIZE, batch, randomise, segments

pytest.importorskip('mmseg')
from mmattn.segmentation import DeepLabV3Head  # noqa: E402

TRUNK = 1_811_712  # MobileNetV2 up to its 320 channels
LAST = 320 * 1280 + 2 * 1280  # its last 1x1 convolution


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def tiny(**options):
    options = {**dict(channels=6, num_classes=5, dilations=(1, 2, 3)),
               **options}
    return randomise(DeepLabV3Head(7, **options)).double()


@pytest.mark.parametrize('options, trunk, total', [
    (dict(in_channels=320, num_classes=21), TRUNK, 4_523_541),
    (dict(in_channels=320, num_classes=19), TRUNK, 4_523_027),
    (dict(in_channels=320, num_classes=19, dilations=(1, 12, 24, 36)), TRUNK,
     4_523_027),
    (dict(in_channels=1280, num_classes=21, separable=True), TRUNK + LAST,
     4_240_661),
    (dict(in_channels=320, num_classes=21, separable=True), TRUNK, 2_568_021),
])
def test_parameter_counts(options, trunk, total):
    assert trunk + count(DeepLabV3Head(**options)) == total


def test_stock_trunk_count():
    assert count(MODELS.build(dict(type='mmseg.MobileNetV2'))) == TRUNK


# -- the formula --------------------------------------------------------------


def block(x, state, key, training, **options):
    """Convolution, batch norm, relu."""
    x = F.conv2d(x, state[f'{key}.conv.weight'], **options)
    mean, var, weight, bias = (
        state[f'{key}.bn.{leaf}'].clone()
        for leaf in ('running_mean', 'running_var', 'weight', 'bias'))
    return F.relu(F.batch_norm(x, mean, var, weight, bias, training))


def by_hand(x, state, training, separable):
    pooled = block(
        x.mean((2, 3), keepdim=True), state, 'image_pool.1', training)
    maps = [pooled.repeat(1, 1, *x.shape[2:]),
            block(x, state, 'aspp_modules.0', training)]
    for i, dilation in ((1, 2), (2, 3)):
        key, options = f'aspp_modules.{i}', dict(
            padding=dilation, dilation=dilation)
        if separable:
            y = block(x, state, f'{key}.depthwise_conv', training,
                      groups=x.shape[1], **options)
            y = block(y, state, f'{key}.pointwise_conv', training)
        else:
            y = block(x, state, key, training, **options)
        maps.append(y)
    y = block(torch.cat(maps, 1), state, 'bottleneck', training)
    return F.conv2d(y, state['conv_seg.weight'], state['conv_seg.bias'])


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('separable', [False, True])
def test_head_by_hand(training, separable):
    head = tiny(separable=separable, dropout_ratio=0.).train(training)
    x = torch.randn(2, 7, 9, 11, dtype=torch.float64)
    expected = by_hand(x, head.state_dict(), training, separable)
    torch.testing.assert_close(head([x[:, :3], x]), expected)


def test_same_as_mmseg_but_for_the_fusion():
    stock = MODELS.build(
        dict(type='mmseg.ASPPHead', in_channels=7, channels=6, num_classes=5,
             dilations=(1, 2, 3), norm_cfg=dict(type='BN'),
             align_corners=True))
    stock = randomise(stock).double().eval()
    head = tiny(align_corners=True).eval()
    kernel = stock.bottleneck.conv.weight.data
    kernel[:, :, [0, 0, 2, 2], [0, 2, 0, 2]] = 0
    kernel[:, :, [0, 1, 1, 2], [1, 0, 2, 1]] = 0
    state = stock.state_dict()
    state['bottleneck.conv.weight'] = kernel[:, :, 1:2, 1:2]
    head.load_state_dict(state)  # same keys
    x = torch.randn(2, 7, 9, 11, dtype=torch.float64)
    torch.testing.assert_close(head([x]), stock([x]))


def test_joined_inputs():
    options = dict(in_index=(0, 1), input_transform='resize_concat')
    head = DeepLabV3Head((3, 4), 6, num_classes=5, **options).eval()
    x = torch.randn(2, 3, 9, 11), torch.randn(2, 4, 5, 6)
    assert head(x).shape == (2, 5, 9, 11)


# -- in a segmentor -----------------------------------------------------------


@pytest.mark.parametrize('align_corners', [False, True])
def test_segmentor_trains_and_predicts(align_corners):
    init_default_scope('mmseg')
    model = MODELS.build(
        dict(
            type='mmseg.EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', size=SIZE),
            backbone=dict(
                type='MobileNetV2',
                strides=(1, 2, 2, 2, 1, 1, 1),
                dilations=(1, 1, 1, 1, 1, 2, 2)),
            decode_head=dict(
                type='mmattn.segmentation.DeepLabV3Head',
                in_channels=320,
                channels=16,
                num_classes=11,
                in_index=3,
                align_corners=align_corners,
                separable=align_corners),
            train_cfg=dict(),
            test_cfg=ConfigDict(mode='whole')))
    model.init_weights()
    data = model.data_preprocessor(batch(lambda: segments(11)), training=True)
    total, _ = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert not [n for n, p in model.decode_head.named_parameters()
                if p.grad is None or not p.grad.any()]
    with torch.no_grad():
        found = model.eval()(**data, mode='predict')
    assert found[0].pred_sem_seg.data.shape == (1, *SIZE)


@pytest.mark.parametrize('scope', [None, 'mmdet', 'mmseg'])
def test_full_path_resolves_in_any_scope(scope):
    if scope:
        pytest.importorskip(scope)
        init_default_scope(scope)
    cfg = dict(type='mmattn.segmentation.DeepLabV3Head', in_channels=3,
               num_classes=4, loss_decode=dict(type='mmseg.CrossEntropyLoss'))
    assert isinstance(MODELS.build(cfg), DeepLabV3Head)


# -- what is refused ----------------------------------------------------------


@pytest.mark.parametrize('options, words', [
    (dict(dilations=12), 'dilations must list'),
    (dict(dilations=()), 'dilations must list'),
    (dict(dilations=(1, 0)), 'dilations must be a positive integer, got 0'),
    (dict(dilations=(1, ), separable=True), 'needs a 3x3 branch'),
    (dict(input_transform='multiple_select'), 'this head reads one'),
])
def test_refusals(options, words):
    with pytest.raises(ValueError, match=words):
        tiny(**options)


def test_unknown_option_is_refused():
    with pytest.raises(TypeError, match='dilation_rates'):
        tiny(dilation_rates=(6, 12, 18))


def test_one_image_is_refused_while_its_norm_trains():
    head = tiny()
    x = [torch.randn(1, 7, 9, 11, dtype=torch.float64)]
    with pytest.raises(ValueError, match='DeepLabV3Head: one image'):
        head(x)
    head.eval()(x)
    group = dict(type='GN', num_groups=1)
    assert tiny(norm_cfg=group).train()(x).shape == (1, 5, 9, 11)
    assert tiny(norm_cfg=None).train()(x).shape == (1, 5, 9, 11)
