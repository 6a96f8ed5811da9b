"""The numbers about gates, and the hook that logs them."""
import json

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

import mmattn
from mmattn.attentions import ECA, GC, SE
from mmattn.backbones import ResNet
from mmattn.fusions import AFF, SelectiveFusion
from mmattn.visualization import stats
from mmattn.visualization.hooks import GateHealthHook, gate_health


def column(*values):
    return torch.tensor(values).view(1, -1, 1, 1)


def test_saturation_counts_both_ends():
    gates = (column(0.01, 0.5, 0.97, 0.9), column(0.04))
    assert stats.saturation(gates) == 3 / 5


def test_entropy_of_a_gate_is_in_bits():
    assert stats.entropy((column(0.5, 0.5), )) == pytest.approx(1)
    assert stats.entropy((column(0., 1.), )) == 0
    assert stats.entropy((column(0.5, 1.), )) == pytest.approx(0.5)


def test_entropy_of_shares_is_over_the_maps():
    third = column(1 / 3, 1 / 3)
    assert stats.entropy((third, third, third), True) == pytest.approx(1)
    assert stats.entropy((column(1.), column(0.)), True) == 0
    mixed = column(0.5, 0.5, 0.), column(0.5, 0.5, 1.)
    assert stats.entropy(mixed, True) == pytest.approx(2 / 3)


def test_a_dead_channel_is_low_everywhere():
    gates = torch.full((2, 3, 2, 2), 0.01)
    gates[1, 2, 0, 1] = 0.6  # open once
    assert stats.dead(stats.highest((gates, ))) == pytest.approx(2 / 3)


def test_the_identity_start_is_a_gate_half_open():
    for layer in (ECA(8, gate_init='identity'),
                  SE(8, ratio=2, gate_init='identity')):
        weights = layer.transform(torch.randn(2, 8, 1, 1))
        gates, = stats.gates(layer, weights)
        assert (gates == 0.5).all()
    fusion = AFF(8, gate_init='identity').eval()  # its gate is not doubled
    weights = fusion.transform((torch.randn(2, 8, 3, 5), ) * 2)
    assert (stats.gates(fusion, weights)[0] == 0.5).all()


def test_what_is_added_is_no_gate():
    layer = GC(8, ratio=2)
    assert stats.gates(layer, torch.zeros(1, 8, 1, 1)) is None
    assert stats.gates(SE(8, ratio=2), column(0.5, 1.5)) is None


def test_groups_are_stages():
    assert stats.group_of('backbone.layer2.0.attention') == 'backbone.layer2'
    assert stats.group_of('layer12.depth_fusion') == 'layer12'
    assert stats.group_of('neck.extras.1.attention') == 'neck.extras.1'
    assert stats.group_of('gate') == 'gate'


def test_health_of_each_stage():
    net = ResNet(50, base_channels=8, attention=dict(type='SE', ratio=4),
                 link=dict(type='DCA'),
                 depth_fusion=dict(type='SelectiveFusion', min_channels=4))
    net.eval()
    for module in net.modules():
        if isinstance(module, SE):
            nn.init.zeros_(module.fc2.weight)
            nn.init.constant_(module.fc2.bias, -9.)  # shut
        if isinstance(module, SelectiveFusion):
            nn.init.zeros_(module.project.weight)
            nn.init.zeros_(module.project.bias)  # even
    with mmattn.record(net) as kept:
        net(torch.randn(2, 3, 33, 47))
    health = gate_health(net, kept)
    assert set(health) == {
        f'layer{i}/{key}' for i in (1, 2, 3, 4)
        for key in ('saturation', 'dead_channels', 'entropy', 'recycled')}
    # stage 3: six attentions, one depth fusion
    assert health['layer3/saturation'] == pytest.approx(6 / 7)
    assert health['layer3/dead_channels'] == pytest.approx(6 / 7)
    assert health['layer3/entropy'] == pytest.approx(1 / 7, abs=0.01)
    assert 0 < health['layer3/recycled'] < 1


# -- the hook --------------------------------------------------------------


class Model(BaseModel):

    def __init__(self, attended=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.attention = SE(8, ratio=2) if attended else None
        self.recorded = []

    def forward(self, inputs, mode='loss'):
        y = self.conv(torch.stack(inputs))
        if self.attention is not None:
            self.recorded.append('transform' in vars(self.attention))
            y = self.attention(y)
        return dict(loss=y.square().mean())


def train(tmp_path, model, backends, iterations=7, **hook):
    data = [dict(inputs=torch.randn(3, 7, 9)) for _ in range(2 * iterations)]
    runner = Runner(
        model, str(tmp_path),
        train_dataloader=DataLoader(data, 2, collate_fn=pseudo_collate),
        train_cfg=dict(by_epoch=False, max_iters=iterations),
        optim_wrapper=OptimWrapper(
            torch.optim.SGD(model.parameters(), lr=0.01)),
        custom_hooks=[dict(type='mmattn.GateHealthHook', **hook)],
        visualizer=dict(type='Visualizer', vis_backends=backends),
        default_hooks=dict(checkpoint=None, logger=None),
        log_level='ERROR',
        experiment_name=f'{tmp_path.name}-{id(model)}')
    runner.train()
    return runner


def test_logs_at_its_interval_and_leaves_no_trace(tmp_path):
    model = Model()
    before = set(vars(model.attention))
    train(tmp_path, model, [dict(type='LocalVisBackend')], interval=3)
    assert set(vars(model.attention)) == before
    assert model.recorded == [False, False, True] * 2 + [False]
    lines = [
        json.loads(line) for path in tmp_path.rglob('scalars.json')
        for line in path.read_text().splitlines()
    ]
    logged = [line for line in lines if 'gates/attention/entropy' in line]
    assert [line['step'] for line in logged] == [3, 6]
    assert set(logged[0]) == {'step', *(
        f'gates/attention/{key}'
        for key in ('saturation', 'dead_channels', 'entropy'))}


def test_tensorboard_gets_them(tmp_path):
    """Read back by TensorBoard itself, beside what the file backend got."""
    reader = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator',
        reason='tensorboard is not installed')
    backends = [dict(type=f'{name}VisBackend')
                for name in ('Local', 'Tensorboard')]
    runner = train(tmp_path, Model(), backends, iterations=5, interval=2)
    runner.visualizer.close()
    file, = tmp_path.rglob('events.out.tfevents.*')
    log = reader.EventAccumulator(str(file)).Reload()
    found = {
        tag: [(event.step, event.value) for event in log.Scalars(tag)]
        for tag in log.Tags()['scalars'] if tag.startswith('gates/')
    }
    file, = tmp_path.rglob('scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert found == {
        f'gates/attention/{key}': [
            (line['step'], pytest.approx(line[f'gates/attention/{key}']))
            for line in lines if line['step'] in (2, 4)]
        for key in ('saturation', 'dead_channels', 'entropy')
    }


def test_a_model_without_gates_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no attention or fusion'):
        train(tmp_path, Model(False), [dict(type='LocalVisBackend')])


@pytest.mark.parametrize('interval', [0, -1, 2.5, None])
def test_interval_must_be_a_positive_integer(interval):
    with pytest.raises(ValueError, match='interval must be'):
        GateHealthHook(interval)
