"""What a backbone says about a checkpoint, and what it refuses."""
import copy
import logging
import re

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.registry import MODELS
from mmengine.runner import Runner, load_checkpoint
from torch import nn

from mmattn.backbones import ResNet, ResNetV1c
from mmattn.checkpoints.report import part_of

SE = dict(type='SE', ratio=2)
GN = dict(type='GN', num_groups=4)


def make(depth=18, net=ResNet, base_channels=8, **options):
    return net(depth, base_channels=base_channels, **options)


def weights(*args, prefix='', **options):
    """The state dict of a fresh network, as a file would hold it."""
    state = make(*args, **options).state_dict()
    return {prefix + name: tensor for name, tensor in state.items()}


def counted(state, part='trunk'):
    """Tensors of one part, without the counters of batch norms."""
    return len([
        name for name in state
        if part_of(name) == part and not name.endswith('num_batches_tracked')
    ])


def load(state, *args, **options):
    """The one network from the other's weights."""
    net = make(*args, **options)
    net.load_state_dict(state, strict=False)
    return net


def save(tmp_path, state):
    path = tmp_path / 'file.pth'
    torch.save(state, path)
    return str(path)


def pretrained(tmp_path, state, *args, prefix=None, **options):
    """Start a network from a file as a config does."""
    source = dict(type='Pretrained', checkpoint=save(tmp_path, state))
    if prefix is not None:
        source['prefix'] = prefix
    net = make(*args, init_cfg=source, **options)
    net.init_weights()
    return net


def assert_holds(net, state):
    """Every tensor of a state dict arrived."""
    own = net.state_dict()
    assert [k for k in state if not torch.equal(own[k], state[k])] == []


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Nets this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def log(caplog):
    """What is logged; mmengine's logger is no child of Python's root."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


def line(log):
    """The one line that a backbone wrote."""
    lines = [
        record.getMessage() for record in log.records
        if ' loads trunk' in record.getMessage()
    ]
    assert len(lines) == 1
    return lines[0]


# -- the line --------------------------------------------------------------


def test_line_of_a_full_trunk(log):
    state = weights()
    fc = {'fc.weight': torch.ones(3, 64), 'fc.bias': torch.ones(3)}
    net = load({**state, **fc}, attention=SE)
    n, k = counted(state), counted(net.state_dict(), 'attention')
    assert line(log) == (f'ResNet loads trunk {n}/{n}, attention 0/{k}; not '
                         'in this network: fc.weight, fc.bias')
    assert_holds(net, state)


def test_line_counts_what_a_file_has_of_each_part(log):
    words = dict(
        attention=SE,
        link=dict(type='DCA'),
        depth_fusion=dict(type='SelectiveFusion'),
        stage_attention=dict(type='ECA'))
    state = weights(attention=SE, depth_fusion=words['depth_fusion'])
    net = load(state, **words)
    own = net.state_dict()
    said = dict(re.findall(r'(\w+) (\d+/\d+)', line(log)))
    assert said == {
        part: f'{counted(state, part)}/{counted(own, part)}'
        for part in ('trunk', *words)
    }
    assert said['link'].startswith('0/') and said['attention'][0] != '0'
    assert_holds(net, state)


def test_line_names_the_first_few_of_many_unused(log):
    state = weights()
    more = {f'head.{i}.weight': torch.ones(1) for i in range(30)}
    load({**state, **more})
    assert line(log).endswith(
        '; not in this network: head.0.weight, head.1.weight, head.2.weight, '
        'head.3.weight, ... (30 in all)')


def test_line_of_a_network_without_parts(log):
    state = weights()
    load(state)
    assert line(log) == (
        f'ResNet loads trunk {counted(state)}/{counted(state)}')


# -- files that are complete -----------------------------------------------


@pytest.mark.parametrize('file, options', [
    (dict(), dict()),
    (dict(depth=50), dict(depth=50, attention=SE, attention_at='hidden')),
    (dict(depth=50),
     dict(
         depth=50,
         num_stages=3,
         strides=(1, 2, 2),
         dilations=(1, 1, 1),
         out_indices=(2, ))),
    (dict(net=ResNetV1c), dict(net=ResNetV1c, attention=SE)),
    (dict(norm_cfg=GN), dict(norm_cfg=GN)),
    (dict(attention=SE), dict()),
])
def test_a_full_trunk_is_accepted(file, options, log):
    state = weights(**file)
    net = load(state, **options)
    own = net.state_dict()
    assert_holds(net, {k: v for k, v in state.items() if k in own})
    assert f'trunk {counted(own)}/{counted(own)}' in line(log)


def test_offsets_of_deformable_convolutions_may_be_missing(log):
    pytest.importorskip('mmcv.ops')
    state = weights(50)
    net = load(
        state, 50, dcn=dict(type='DCNv2'), stage_with_dcn=(False, ) * 3 +
        (True, ))
    assert_holds(net, state)
    assert 'conv_offset 0/6' in line(log)


def test_old_files_lack_counters(log):
    state = {
        k: v
        for k, v in weights().items() if not k.endswith('batches_tracked')
    }
    assert_holds(load(state), state)
    assert f'trunk {len(state)}/{len(state)}' in line(log)


# -- nothing of the trunk --------------------------------------------------


@pytest.mark.parametrize('prefix', ['module.', 'backbone.',
                                    'encoder.backbone.', 'module.encoder_q.'])
def test_nothing_matching_names_the_likely_prefix(prefix):
    with pytest.raises(RuntimeError) as error:
        load(weights(prefix=prefix))
    message = str(error.value)
    assert 'Nothing of the trunk' in message
    assert 'The network has conv1.weight, bn1.weight' in message
    assert f'the file has {prefix}conv1.weight' in message
    assert f"prefix='{prefix}'" in message
    assert "on_partial_load='warn'" in message


def loads(*args, **options):
    try:
        return pretrained(*args, **options)
    except AssertionError:  # mmengine: the prefix is not in the file
        return None


# mmengine takes 'module.' off when it is given no prefix, and leaves it on
# when it is given one.
@pytest.mark.parametrize('prefix', ['backbone.', 'encoder.backbone.',
                                    'module.encoder_q.'])
def test_the_advice_about_a_prefix_works(prefix, tmp_path):
    state = weights()
    file = {prefix + name: tensor for name, tensor in state.items()}
    with pytest.raises(RuntimeError) as error:
        pretrained(tmp_path, file)
    advised = re.findall("prefix='(.*?)'", str(error.value))
    nets = [loads(tmp_path, file, prefix=prefix) for prefix in advised]
    nets = [net for net in nets if net is not None]
    assert nets
    assert_holds(nets[0], state)


def test_foreign_names_point_to_the_converter():
    foreign = {f'body.{i}.w': torch.ones(2) for i in range(9)}
    with pytest.raises(RuntimeError) as error:
        load(foreign)
    assert 'body.0.w' in str(error.value)
    assert 'convert_checkpoint' in str(error.value)


# -- some of the trunk -----------------------------------------------------


def test_plain_weights_do_not_half_load_a_grouped_network():
    # conv1 and the norms would fit.
    with pytest.raises(RuntimeError) as error:
        load(weights(50), 50, groups=4, base_width=2)
    assert 'half trained' in str(error.value)
    assert 'layer1.0.conv2.weight (8, 8, 3, 3) for (8, 2, 3, 3)' in str(
        error.value)


@pytest.mark.parametrize('depth, missing', [
    (86, 'layer1.3.conv1.weight'),
    (101, 'layer3.6.conv1.weight'),
])
def test_weights_of_a_shallower_network_lack_blocks(depth, missing):
    with pytest.raises(RuntimeError, match='file lacks') as error:
        load(weights(50), depth)
    assert missing in str(error.value)


def test_weights_of_a_deeper_network_have_more_of_a_trunk():
    with pytest.raises(RuntimeError, match='more of a trunk') as error:
        load(weights(101), 50)
    assert 'layer3.6.conv1.weight' in str(error.value)
    assert 'lacks' not in str(error.value)


@pytest.mark.parametrize('file, options, words', [
    (dict(), dict(norm_cfg=GN), ['lacks', 'gn1.weight']),
    (dict(norm_cfg=GN), dict(), ['lacks', 'bn1.weight']),
    (dict(), dict(net=ResNetV1c), ['lacks', 'stem.0.weight']),
    (dict(net=ResNetV1c), dict(), ['lacks', 'conv1.weight']),
    (dict(depth=50), dict(), ['do not fit', 'layer1.0.conv1.weight']),
    (dict(), dict(base_channels=16), ['Nothing of the trunk']),
    (dict(in_channels=4), dict(), ['(8, 4, 7, 7) for (8, 3, 7, 7)']),
])
def test_a_trunk_of_another_kind_is_refused(file, options, words):
    with pytest.raises(RuntimeError) as error:
        load(weights(**file), **options)
    assert [word for word in words if word not in str(error.value)] == []


def test_one_missing_tensor_is_enough():
    state = weights()
    del state['layer3.1.bn2.running_var']
    with pytest.raises(RuntimeError, match='layer3.1.bn2.running_var'):
        load(state)


def test_parts_alone_are_no_trunk():
    state = {
        k: v
        for k, v in weights(attention=SE).items() if part_of(k) == 'attention'
    }
    with pytest.raises(RuntimeError, match='Nothing of the trunk'):
        load(state, attention=SE)


def test_warn_goes_on_with_what_fits(tmp_path, log):
    state = weights(50)
    net = pretrained(
        tmp_path, state, 50, groups=4, base_width=2, on_partial_load='warn')
    own = net.state_dict()
    fits = {k: v for k, v in state.items() if own[k].shape == v.shape}
    assert 0 < len(fits) < len(state)
    assert_holds(net, fits)
    warned = [
        record.getMessage() for record in log.records
        if record.levelno == logging.WARNING and 'ResNet loads' in
        record.getMessage()
    ]
    assert len(warned) == 1 and 'half trained' in warned[0]
    assert f'trunk {counted(fits)}/{counted(own)}' in warned[0]


def test_warn_goes_on_with_nothing(log):
    net = load({'other.weight': torch.ones(1)}, on_partial_load='warn')
    assert isinstance(net, ResNet)
    assert 'Nothing of the trunk' in line(log)


# -- the ways to load ------------------------------------------------------


@MODELS.register_module()
class ReportedClassifier(BaseModel):
    """A backbone and a head; ``backbone`` is ours or anything."""

    def __init__(self, backbone, **kwargs):
        super().__init__(**kwargs)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(64, 3)

    def forward(self, inputs, mode='tensor'):
        y = self.head(self.backbone(inputs)[-1].mean((2, 3)))
        return dict(loss=y.square().mean()) if mode == 'loss' else y


OURS = dict(type='mmattn.ResNet', depth=18, base_channels=8, attention=SE)


def classifier(backbone=OURS, **options):
    return ReportedClassifier(dict(backbone, **options))


@pytest.mark.parametrize('prefix', ['backbone', 'backbone.'])
def test_pretrained_with_a_prefix(prefix, tmp_path, log):
    state = weights()
    whole = {f'backbone.{k}': v for k, v in state.items()}
    net = pretrained(
        tmp_path, {
            **whole, 'head.weight': torch.ones(3, 64)
        },
        attention=SE,
        prefix=prefix)
    assert_holds(net, state)
    n = counted(state)
    assert line(log).startswith(f'ResNet loads trunk {n}/{n}, attention 0/')
    assert 'head' not in line(log)


def test_pretrained_among_other_starts(tmp_path, log):
    state = weights()
    net = make(
        attention=SE,
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Pretrained', checkpoint=save(tmp_path, state))
        ])
    net.init_weights()
    assert_holds(net, state)
    assert f'trunk {counted(state)}/' in line(log)


def test_pretrained_refuses_half_a_trunk(tmp_path):
    with pytest.raises(RuntimeError, match='more of a trunk'):
        pretrained(tmp_path, weights(101), 50)


@pytest.mark.parametrize('wrapped', ['', 'module.'])
def test_load_checkpoint_of_a_whole_model(wrapped, tmp_path, log):
    source, model = classifier(), classifier()
    state = source.state_dict()
    file = dict(state_dict={wrapped + k: v for k, v in state.items()})
    load_checkpoint(model, save(tmp_path, file))
    assert_holds(model, state)
    n = counted(source.backbone.state_dict())
    assert f'trunk {n}/{n}' in line(log)


def test_load_checkpoint_of_half_a_model_is_refused(tmp_path):
    state = classifier(depth=50).state_dict()
    with pytest.raises(RuntimeError, match='half trained'):
        load_checkpoint(classifier(), save(tmp_path, state))


def test_load_checkpoint_without_a_backbone_says_where_it_looked(tmp_path):
    file = save(tmp_path, weights(prefix='encoder.'))
    with pytest.raises(RuntimeError, match='Nothing of the trunk') as error:
        load_checkpoint(classifier(), file)
    what, _, way_out = str(error.value).partition('To go on')
    assert 'backbone.' in what and 'on_partial_load' in way_out


def test_load_state_dict_of_a_whole_model(log):
    state = classifier().state_dict()
    model = classifier()
    model.load_state_dict(state)
    assert_holds(model, state)
    del state['backbone.layer1.0.conv1.weight']
    with pytest.raises(RuntimeError, match='lacks layer1.0.conv1.weight'):
        model.load_state_dict(state, strict=False)


def test_copies_and_averages_load_as_the_network(log):
    net = make(attention=SE)
    twin = copy.deepcopy(net)
    twin.load_state_dict(weights(attention=SE))
    net.load_state_dict(twin.state_dict())
    assert_holds(net, twin.state_dict())

    average = ExponentialMovingAverage(net, momentum=0.5, update_buffers=True)
    average.update_parameters(net)
    other = ExponentialMovingAverage(make(attention=SE))
    other.load_state_dict(average.state_dict())
    assert_holds(other.module, average.module.state_dict())
    with pytest.raises(RuntimeError, match='Nothing of the trunk'):
        other.load_state_dict({'steps': torch.tensor(1)}, strict=False)


# -- LoadReportHook in a Runner --------------------------------------------


@pytest.fixture
def make_runner(tmp_path, caplog, request):
    """A Runner over four images, with our hook; its log is caught."""
    loggers = set(MMLogger._instance_dict)

    def build(model, load_from=None, resume=False, max_epochs=1, hooks=()):
        name = f'{request.node.name}_{len(MMLogger._instance_dict)}'
        runner = Runner(
            model,
            str(tmp_path / 'work'),
            train_dataloader=dict(
                dataset=[dict(inputs=torch.ones(3, 33, 47))] * 4,
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='default_collate'),
                batch_size=2),
            train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=[dict(type='mmattn.LoadReportHook'), *hooks],
            load_from=load_from,
            resume=resume,
            experiment_name=name)
        runner.logger.addHandler(caplog.handler)
        return runner

    yield build
    for name in set(MMLogger._instance_dict) - loggers:
        logger = MMLogger._instance_dict.pop(name)
        for handler in logger.handlers:
            handler.close()


def holds(caplog):
    """The line about the whole model."""
    lines = [
        r.getMessage() for r in caplog.records
        if r.getMessage().startswith('Checkpoint holds')
    ]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize('wrapped', ['', 'module.'])
def test_load_from_reports_the_whole_model(wrapped, make_runner, tmp_path,
                                           caplog):
    state = classifier().state_dict()
    del state['head.bias']
    file = {wrapped + k: v for k, v in state.items()}
    file['neck.weight'] = torch.ones(2)
    model = classifier()
    make_runner(model, save(tmp_path, dict(state_dict=file))).load_or_resume()
    n = len([
        k for k in state if k.startswith('backbone.')
        and not k.endswith('num_batches_tracked')
    ])
    assert holds(caplog) == (f'Checkpoint holds backbone {n}/{n}, head 1/2; '
                             'not in this model: neck.weight\n  missing for '
                             'head: bias (left as initialised)')
    assert_holds(model, state)


@pytest.mark.parametrize('prefix', ['encoder.backbone.', 'encoder_q.'])
def test_load_from_without_a_backbone_names_the_likely_prefix(
        prefix, make_runner, tmp_path):
    # Another network's: the shapes tell that a new prefix would not help.
    file = {**weights(prefix=prefix, base_channels=16),
            'head.weight': torch.ones(3, 64)}
    runner = make_runner(classifier(), save(tmp_path, file))
    with pytest.raises(RuntimeError) as error:
        runner.load_or_resume()
    message = str(error.value)
    assert 'The model has backbone.conv1.weight' in message
    assert f'the file has {prefix}conv1.weight' in message
    assert f'start with {prefix!r}' in message
    assert 'model.backbone.init_cfg' in message


def test_load_from_warns_only_if_told_so(make_runner, tmp_path, caplog):
    file = {'head.weight': torch.ones(3, 64)}
    model = classifier(on_partial_load='warn')
    make_runner(model, save(tmp_path, file)).load_or_resume()
    assert model.head.weight.eq(1).all()
    assert 'backbone 0/' in holds(caplog) and 'head 1/2' in holds(caplog)


def test_load_from_leaves_stock_backbones_alone(make_runner, tmp_path, caplog):
    class Plain(BaseModel):
        """A model without a backbone of ours."""

        def __init__(self):
            super().__init__()
            self.backbone = nn.Conv2d(3, 2, 1)

        def forward(self, inputs, mode='tensor'):
            return dict(loss=self.backbone(inputs).mean())

    file = {'neck.weight': torch.ones(3, 64)}
    make_runner(Plain(), save(tmp_path, file)).load_or_resume()
    assert 'backbone 0/2' in holds(caplog)


@pytest.mark.parametrize('hooks', [[], [dict(type='EMAHook')]],
                         ids=['alone', 'average'])
def test_resume_from_an_own_checkpoint(hooks, make_runner, tmp_path, caplog):
    make_runner(classifier(), hooks=hooks).train()
    file = tmp_path / 'work' / 'epoch_1.pth'
    model = classifier()
    runner = make_runner(model, str(file), resume=True, max_epochs=2,
                         hooks=hooks)
    caplog.clear()
    runner.train()
    assert runner.epoch == 2
    n = counted(model.backbone.state_dict())
    said = holds(caplog)
    assert re.match(r'Checkpoint holds backbone (\d+)/\1, head 2/2$', said)
    trunks = [r.getMessage() for r in caplog.records
              if 'ResNet loads' in r.getMessage()]
    assert trunks and all(f'trunk {n}/{n}' in trunk for trunk in trunks)


def test_averaged_models_start_from_the_file(make_runner, tmp_path):
    state = classifier().state_dict()
    file = save(tmp_path, dict(state_dict=state))
    runner = make_runner(classifier(), file, hooks=[dict(type='EMAHook')])
    runner.call_hook('before_run')
    runner.load_or_resume()
    average = [h for h in runner.hooks if isinstance(h, EMAHook)][0].ema_model
    assert_holds(average.module, state)
    assert_holds(runner.model, state)
