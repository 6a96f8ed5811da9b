"""Fine-tuning from a stock checkpoint: what loads is said, nothing is skipped.

Tiny detectors and segmentors of the toolboxes stand for those of COCO and
Cityscapes; ``load_from`` goes the Runner's way, with our hook.
"""
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from mmengine.model import (BaseModel, ExponentialMovingAverage,
                            revert_sync_batchnorm)
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, get_priority
from samples import batch, boxes, segments
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmattn.backbones import ResNet
from mmattn.checkpoints.repair import fitting_prefixes, rename, unwrap
from mmattn.checkpoints.report import LoadReportHook
from mmattn.engine.launch import revert_sync_bn

SE = dict(attention=dict(type='SE', ratio=2, gate_init='identity'))
TINY = dict(depth=18, base_channels=8)


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Nets this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def detector(num_classes, backbone='ResNet', **words):
    pytest.importorskip('mmdet.models')
    init_default_scope('mmdet')
    return MODELS.build(dict(
        type='RetinaNet',
        data_preprocessor=dict(
            type='DetDataPreprocessor', pad_size_divisor=32),
        backbone=dict(type=backbone, **TINY, **words),
        neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8,
                  num_outs=5),
        bbox_head=dict(
            type='RetinaHead', num_classes=num_classes, in_channels=8,
            feat_channels=8, stacked_convs=1,
            anchor_generator=dict(
                type='AnchorGenerator', ratios=[1.0], octave_base_scale=4,
                scales_per_octave=1, strides=[4, 8, 16, 32, 64])),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5,
                          neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
            sampler=dict(type='PseudoSampler'), allowed_border=-1,
            pos_weight=-1, debug=False),
        test_cfg=dict(nms_pre=20, min_bbox_size=0, score_thr=0.05,
                      nms=dict(type='nms', iou_threshold=0.5),
                      max_per_img=9)))


def segmentor(num_classes, backbone='ResNet', norm='BN', **words):
    pytest.importorskip('mmseg.models')
    init_default_scope('mmseg')
    head = dict(type='FCNHead', num_convs=1, channels=4, concat_input=False,
                num_classes=num_classes, norm_cfg=dict(type=norm))
    return MODELS.build(dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(65, 97)),
        backbone=dict(type=backbone, **TINY, stem_channels=8,
                      norm_cfg=dict(type=norm), **words),
        decode_head=dict(head, in_channels=64, in_index=3),
        auxiliary_head=dict(head, in_channels=32, in_index=2),
        test_cfg=ConfigDict(mode='whole')))


@pytest.fixture
def load_from(tmp_path, caplog):
    """Load a checkpoint as a Runner does; returns what our hook said."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(caplog.handler)

    def load(model, checkpoint, *hooks):
        path = tmp_path / 'file.pth'
        torch.save(checkpoint, path)
        hooks = sorted([*hooks, LoadReportHook()],
                       key=lambda hook: get_priority(hook.priority))
        runner = SimpleNamespace(model=model, _resume=False, logger=logger)
        runner.call_hook = lambda name, **values: [
            getattr(hook, name)(runner, **values) for hook in hooks
        ]
        caplog.clear()
        Runner.load_checkpoint(runner, str(path))
        return [record.getMessage() for record in caplog.records
                if record.getMessage().startswith('Checkpoint ')]

    yield load
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


def counts(line):
    """``{'neck': (16, 16), ...}`` of the line about the whole model."""
    first = line.split('\n')[0].split(';')[0]
    words = first.replace('Checkpoint holds ', '').split(', ')
    return {
        module: tuple(map(int, numbers.split('/')))
        for module, numbers in map(str.split, words)
    }


def assert_loaded(model, state, but=()):
    own = model.state_dict()
    assert {k for k in state if k not in own or not torch.equal(
        own[k], state[k])} == set(but)


# -- stock checkpoints -----------------------------------------------------


def test_from_a_stock_detector_with_other_classes(load_from):
    stock, model = detector(7), detector(3, 'mmattn.ResNet', **SE)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    said, = load_from(model, dict(meta={}, state_dict=stock.state_dict()))
    scores = ['bbox_head.retina_cls.weight', 'bbox_head.retina_cls.bias']
    assert_loaded(model, stock.state_dict(), scores)
    assert all(torch.equal(model.state_dict()[k], start[k]) for k in scores)
    found = counts(said)
    assert found['backbone'] == (100, 132)
    assert found['neck'][0] == found['neck'][1] > 0
    assert found['bbox_head'][1] - found['bbox_head'][0] == 2
    _, missing, other = said.split('\n')
    assert missing.startswith('  missing for backbone: layer1.0.attention.fc1.'
                              'weight') and '(32 in all)' in missing
    assert other == (
        '  another shape for bbox_head: retina_cls.weight (7, 8, 3, 3) for '
        '(3, 8, 3, 3), retina_cls.bias (7,) for (3,) (left as initialised)')


def test_a_detector_starts_as_the_stock_one(load_from):
    """The identity start: the swap alone changes no output."""
    stock, model = detector(3), detector(3, 'mmattn.ResNet', **SE)
    load_from(model, dict(state_dict=stock.state_dict()))
    x = torch.randn(1, 3, 64, 96)
    for a, b in zip(stock.eval()(x), model.eval()(x)):
        for one, other in zip(a, b):
            assert torch.equal(one, other)


def test_from_a_stock_segmentor_with_other_classes(load_from):
    stock, model = segmentor(19), segmentor(5, 'mmattn.ResNet', **SE)
    said, = load_from(model, dict(state_dict=stock.state_dict()))
    assert_loaded(model, stock.state_dict(), [
        f'{head}.conv_seg.{kind}' for head in ('decode_head', 'auxiliary_head')
        for kind in ('weight', 'bias')])
    assert '\n  another shape for decode_head: conv_seg.weight (19, ' in said
    assert '\n  another shape for auxiliary_head: conv_seg.weight' in said


def test_parts_of_another_width_are_said(load_from, caplog):
    wide = segmentor(5, 'mmattn.ResNet', attention=dict(type='SE', ratio=1))
    model = segmentor(5, 'mmattn.ResNet', **SE)
    said, = load_from(model, dict(state_dict=wide.state_dict()))
    assert ('another shape for backbone: layer1.0.attention.fc1.weight '
            '(8, 8, 1, 1) for (4, 8, 1, 1)') in said
    line, = [r.getMessage() for r in caplog.records
             if 'ResNet loads' in r.getMessage()]
    assert 'attention 8/32; of another shape: layer1.0.attention.fc1' in line


def test_a_stock_backbone_is_reported_too(load_from):
    stock, model = segmentor(19), segmentor(5)
    said, = load_from(model, dict(state_dict=stock.state_dict()))
    assert counts(said)['backbone'] == (100, 100)
    assert 'another shape for decode_head' in said


# -- prefixes and wrappers -------------------------------------------------


class Net(BaseModel):
    """A backbone and a head, as every toolbox names them."""

    def __init__(self, backbone=ResNet, **options):
        super().__init__()
        self.backbone = backbone(**(options or TINY))
        self.head = nn.Linear(64, 3)

    def forward(self, inputs, mode='tensor'):
        y = self.head(self.backbone(inputs)[-1].mean((2, 3)))
        return dict(loss=y.square().mean()) if mode == 'loss' else y


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize('prefix', ['module.', 'model.', 'module.model.',
                                    'ema_model.module.', 'state_dict.',
                                    'encoder.'])
def test_a_prefix_of_the_whole_model(prefix, load_from):
    state, model = Net().state_dict(), Net()
    said, whole = load_from(model, dict(state_dict=prefixed(state, prefix)))
    assert said == f'Checkpoint is loaded with {prefix!r} removed'
    assert whole == 'Checkpoint holds backbone 100/100, head 2/2'
    assert_loaded(model, state)


@pytest.mark.parametrize('prefix', ['encoder.', 'encoder_q.', 'module.model.',
                                    'model.encoder.0.'])
def test_a_prefix_of_the_backbone(prefix, load_from):
    state, model = ResNet(**TINY).state_dict(), Net()
    file = {**prefixed(state, prefix), 'queue': torch.ones(2, 3)}
    said, whole = load_from(model, file)
    assert said == (f"Checkpoint is loaded with {prefix!r} replaced by "
                    "'backbone.'")
    assert whole == (
        'Checkpoint holds backbone 100/100, head 0/2; not in this model: queue'
        '\n  missing for head: weight, bias (left as initialised)')
    assert_loaded(model.backbone, state)


def test_a_backbone_alone(load_from):
    state, model = ResNet(**TINY).state_dict(), Net()
    said, whole = load_from(model, {**state, 'fc.bias': torch.ones(3)})
    assert said == ("Checkpoint is loaded with 'backbone.' put before all "
                    'names')
    assert 'not in this model: backbone.fc.bias' in whole
    assert_loaded(model.backbone, state)


@pytest.mark.parametrize('path', [
    'model', 'net', 'ema_model', 'state_dict_ema', 'state_dict.state_dict',
    'model.state_dict'])
def test_wrappers(path, load_from):
    state, model = Net().state_dict(), Net()
    file = state
    for key in reversed(path.split('.')):
        file = {'epoch': 3, key: file}
    said, whole = load_from(model, file)
    assert said == f'Checkpoint has its weights under {path}'
    assert whole == 'Checkpoint holds backbone 100/100, head 2/2'
    assert_loaded(model, state)


def test_of_two_wrappers_the_other_is_said(load_from):
    state, other, model = Net().state_dict(), Net().state_dict(), Net()
    said, _ = load_from(model, dict(
        ema_model=dict(state_dict=prefixed(other, 'module.')), model=state))
    assert said == ('Checkpoint has its weights under model; not read: '
                    'ema_model')
    assert_loaded(model, state)


def test_both_a_wrapper_and_a_prefix(load_from):
    state, model = Net().state_dict(), Net()
    *said, _ = load_from(model, dict(ema_model=prefixed(state, 'module.ema.')))
    assert said == ['Checkpoint has its weights under ema_model',
                    "Checkpoint is loaded with 'module.ema.' removed"]
    assert_loaded(model, state)


@pytest.mark.parametrize('make', [
    lambda state: state,  # mmengine alone fails on it
    lambda state: dict(state_dict=prefixed(state, 'module.')),
    lambda state: dict(model=prefixed(state, 'net.'))])
def test_averages_start_from_what_was_put_right(make, load_from):
    state, model = Net().state_dict(), Net()
    average = EMAHook()
    average.ema_model = ExponentialMovingAverage(model)
    load_from(model, make(state), average)
    assert_loaded(model, state)
    assert_loaded(average.ema_model.module, state)


def test_a_good_file_is_left_as_it_is():
    state = Net().state_dict()
    checkpoint = dict(state_dict=state, meta=dict(epoch=1))
    LoadReportHook().after_load_checkpoint(
        SimpleNamespace(model=Net()), checkpoint)
    assert checkpoint['state_dict'] is state
    assert checkpoint.keys() == {'state_dict', 'meta'}


# -- what is not guessed ---------------------------------------------------


def test_two_prefixes_that_fit_are_not_chosen_between(load_from):
    state = Net().state_dict()
    file = {**prefixed(state, 'student.'), **prefixed(state, 'teacher.')}
    with pytest.raises(RuntimeError, match="seems to start with 'student.' or "
                       "'teacher.'"):
        load_from(Net(), dict(state_dict=file))
    assert load_from(Net(on_partial_load='warn', **TINY), file)[0].startswith(
        'Checkpoint holds backbone 0/100, head 0/2; not in this model: stu')


@pytest.mark.parametrize('other', [dict(TINY, base_channels=16),
                                   dict(TINY, depth=(1, 1, 1, 1))])
def test_a_prefix_is_no_way_around_the_trunk(other, load_from):
    file = prefixed(ResNet(**other).state_dict(), 'encoder.')
    with pytest.raises(RuntimeError, match='nothing for the backbone|half '
                       'trained'):
        load_from(Net(), file)


def test_a_few_tensors_that_fit_by_chance_are_no_prefix():
    core = {f'backbone.{name}': torch.Size([1]) for name in 'abcde'}
    given = {'x.a': torch.Size([1]), 'x.b': torch.Size([1])}
    assert fitting_prefixes(core, given) == []
    given['x.c'] = torch.Size([1])
    assert fitting_prefixes(core, given) == [('x.', 'backbone.')]
    given['x.c'] = torch.Size([2])
    assert fitting_prefixes(core, given) == []


def test_two_tensors_of_one_name():
    with pytest.raises(RuntimeError, match="'model.' where the model has ''"):
        rename({'model.a': 1, 'a': 2}, 'model.', '')


@pytest.mark.parametrize('checkpoint, words', [
    ({}, 'there is a dict with nothing'),
    (dict(epoch=3, optimizer={}), 'there is a dict with epoch, optimizer'),
    (dict(state_dict=dict(a=1)), 'no weights under state_dict: there is a '
     'dict with a'),
    ([torch.ones(1)], 'there is a list'),
])
def test_a_file_without_weights(checkpoint, words):
    with pytest.raises(RuntimeError, match=words):
        unwrap(checkpoint)


# -- the switches of the toolboxes with our backbones -----------------------

PARTS = dict(
    attention=dict(type='CBAM', ratio=2),
    fusion=dict(type='AFF', ratio=2),
    link=dict(type='DCA'),
    depth_fusion=dict(type='SelectiveFusion', min_channels=4))


def step(model, data):
    """Forward and backward of one training step; the loss."""
    data = model.data_preprocessor(data, True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    return loss


@pytest.mark.parametrize('norm_eval', [False, True])
def test_mixed_precision(norm_eval):
    """bfloat16 on the CPU; AmpOptimWrapper itself wants an accelerator."""
    model = detector(2, 'mmattn.ResNet', norm_eval=norm_eval,
                     zero_init_residual=False, **PARTS)
    model.init_weights()
    model.train()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = step(model, batch(lambda: boxes(2)))
    assert loss.isfinite()
    for name, p in model.named_parameters():
        assert p.dtype == torch.float32, name
        assert p.grad is None or p.grad.isfinite().all(), name
    gate = model.backbone.layer1[0].attention.channel_gate
    assert gate.fc2.weight.grad.any()


def norms(net):
    """Whether the batch norms of a network are synchronised."""
    return {
        isinstance(module, nn.SyncBatchNorm) for module in net.modules()
        if isinstance(module, _BatchNorm)
    }


def test_sync_bn_on_the_cpu():
    """The config turned into one with BN builds, trains and keeps names."""
    cfg = dict(type='mmattn.ResNet', **TINY, norm_cfg=dict(type='SyncBN'),
               **PARTS)
    synced = MODELS.build(cfg)
    assert norms(synced) == {True}
    assert revert_sync_bn(cfg) == 1
    plain = MODELS.build(cfg)
    assert norms(plain) == {False}
    plain.load_state_dict(synced.state_dict())
    reverted = revert_sync_batchnorm(synced)  # what a built model goes through
    x = torch.randn(2, 3, 65, 97)
    for a, b in zip(reverted(x), plain(x)):
        torch.testing.assert_close(a, b)


@pytest.fixture
def make_runner(tmp_path, request):
    loggers = set(MMLogger._instance_dict)

    def build(model, **options):
        return Runner(
            model, str(tmp_path),
            train_dataloader=dict(
                dataset=[dict(inputs=torch.ones(3, 33, 47))] * 4,
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='default_collate'), batch_size=2),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            experiment_name=request.node.name, **options)

    yield build
    for name in set(MMLogger._instance_dict) - loggers:
        for handler in MMLogger._instance_dict.pop(name).handlers:
            handler.close()


def test_scaled_rates_and_averages(make_runner):
    """--auto-scale-lr: 2 of 16 images; and EMAHook over our parts."""
    model = Net(**TINY, **PARTS)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    runner = make_runner(
        model,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.4)),
        auto_scale_lr=dict(base_batch_size=16, enable=True),
        custom_hooks=[dict(type='EMAHook', momentum=0.5)])
    runner.train()
    assert runner.optim_wrapper.get_lr()['lr'] == [0.4 * 2 / 16]
    average = [h for h in runner.hooks if isinstance(h, EMAHook)][0]
    moved = average.ema_model.module.state_dict()
    assert moved.keys() == start.keys()
    key = 'backbone.layer4.depth_fusion.project.bias'
    assert not torch.equal(moved[key], start[key])
    assert not torch.equal(moved[key], model.state_dict()[key])


def test_test_time_augmentation():
    """The mean over an image and its mirror, from our backbone."""
    model = segmentor(3, 'mmattn.ResNet', **PARTS).eval()
    model.init_weights()
    sample = batch(lambda: segments(3))
    image, label = sample['inputs'][0], sample['data_samples'][0]
    mirrored = label.clone()
    mirrored.set_metainfo(dict(flip=True, flip_direction='horizontal'))
    label.set_metainfo(dict(flip=False, img_path='a.png'))
    wrapped = MODELS.build(dict(type='SegTTAModel', module=model)).eval()
    with torch.no_grad():
        found, = wrapped.test_step(dict(
            inputs=[[image], [image.flip(2)]],
            data_samples=[[label], [mirrored]]))
        one, two = (
            model.test_step(dict(inputs=[x], data_samples=[label.clone()]))[0]
            .seg_logits.data.softmax(0) for x in (image, image.flip(2)))
    expected = ((one + two.flip(2)) / 2).argmax(0, keepdim=True)
    assert torch.equal(found.pred_sem_seg.data, expected)
