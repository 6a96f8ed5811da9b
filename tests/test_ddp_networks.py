"""Every backbone and every part in two gloo processes.

One pair of processes runs all networks of a tier and writes down how far
their gradients are from those of one process; the tests read that. As in
detection configs, batch norms stay in eval mode: in training their statistics
would be those of other batches.
"""
import datetime
from functools import partial

import pytest
import test_fuse
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.utils import digit_version
from samples import randomise
from test_backbones import WORDS, tiny
from test_composition import ATTENTIONS, DEPTHS, tiny_mobilenet, tiny_resnet
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# What sums in another order make of a gradient, and what half a batch does.
SAME, OTHER = 1e-6, 1e-2
CAN_SHARD = digit_version(torch.__version__) >= digit_version('2.6')
DCA = dict(type='DCA')


class WithDeadLayer(nn.Module):
    """What no backbone may be: it holds a layer that it does not run."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.dead = nn.Conv2d(5, 5, 1)

    def forward(self, x):
        return (self.conv(x), )


BACKBONES = {
    **{row: partial(test_fuse.build, row) for row in test_fuse.NETS},
    'frozen and recomputed': partial(
        tiny, frozen_stages=1, with_cp=True, **WORDS),
}
PARTS = {
    **{name: partial(tiny_resnet, attention=dict(type=name))
       for name in ATTENTIONS},
    **{f'linked {name}': partial(
        tiny_resnet, attention=dict(type=name), link=DCA)
       for name in ATTENTIONS},
    'SE by MapLink': partial(
        tiny_resnet, attention=dict(type='SE'), link=dict(type='MapLink')),
    'GE theta-plus': partial(tiny_resnet, link=DCA, attention=[
        dict(type='GE', size=size, ratio=4) for size in ((9, 13), (5, 7))]),
    'attention of stages': partial(
        tiny_resnet, stage_attention=dict(type='GC')),
    'AAConv': partial(
        tiny_resnet, conv2=dict(
            type='AAConv', map_size=(7, 7), num_heads=2, value_share=0.25)),
    **{f'{name} as join': partial(tiny_resnet, fusion=dict(type=name))
       for name in ('AFF', 'IAFF', 'SelectiveFusion')},
    **{f'{name} over depths': partial(
        tiny_mobilenet, depth_fusion=dict(type=name))
       for name in ('AFF', 'IAFF', 'SelectiveFusion')},
    'depths, shared start': partial(
        tiny_resnet, depth_fusion=dict(DEPTHS, last_share=0.95)),
}
NETWORKS = {**BACKBONES, **PARTS, 'dead': WithDeadLayer}
# Of the fast tier, which has a gradient for every parameter of every network.
FEW = ('ResNet', 'SKNet', 'BLResNet', 'frozen and recomputed')


def make(name):
    """The same network in each process, no gate of it saturated."""
    net = randomise(NETWORKS[name]()).double()
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() > 1:
                p *= 2 * p[0].numel()**-0.5
    net.norm_eval = True
    return net.train()


def batch(name):
    """Four images; ScaleResNet has a smallest one."""
    size = (113, 129) if name == 'ScaleResNet' else (33, 49)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, *size, generator=generator).double()


def mean_loss(model, x, chosen=slice(None)):
    """Of the chosen images; each has a loss of its own."""
    x, loss = x[chosen], 0
    for i, y in enumerate(model(x)):
        generator = torch.Generator().manual_seed(i)
        weights = torch.randn(4, *y.shape[1:], generator=generator).double()
        loss = loss + (y * weights[chosen]).sum()
    return loss / len(x)


def gradients(net, loss):
    net.zero_grad(set_to_none=True)
    loss().backward()
    return [p.grad for p in net.parameters() if p.requires_grad]


def farthest(found, expected):
    """The largest relative difference of any parameter.

    Some gradients are zero by algebra; of these rounding is left.
    """
    largest = max(value.abs().max() for value in expected)
    return max(
        ((a - b).abs().max() / (b.abs().max() + 1e-8 * largest)).item()
        for a, b in zip(found, expected))


def half_of(rank):
    """Which of the four images a process sees."""
    return slice(2 * rank, 2 * rank + 2)


def compare(name, rank):
    """What DistributedDataParallel makes of the gradients of a network."""
    net, x = make(name), batch(name)
    expected = gradients(net, lambda: mean_loss(net, x))
    model = DistributedDataParallel(
        net, broadcast_buffers=False, find_unused_parameters=False)

    def step():
        return gradients(net, lambda: mean_loss(model, x, half_of(rank)))

    with model.no_sync():
        alone = step()
    # The second step is where it complains of parameters without a gradient.
    for _ in range(2):
        together = step()
    return dict(
        alone=farthest(alone, expected), together=farthest(together, expected))


def shard(name, rank):
    """How far a step of sharded parameters is from the plain step."""
    from torch.distributed.fsdp import fully_shard
    plain, x = make(name), batch(name)
    sharded = make(name)
    for stage in sharded.stage_names:
        fully_shard(getattr(sharded, stage))
    fully_shard(sharded)
    for net, chosen in ((plain, slice(None)), (sharded, half_of(rank))):
        mean_loss(net, x, chosen).backward()
        torch.optim.SGD(net.parameters(), lr=0.1).step()
    moved = [p.detach() for p in plain.parameters()]
    return dict(
        step=farthest([p.full_tensor().detach()
                       for p in sharded.parameters()], moved),
        moved=farthest([p.detach() for p in make(name).parameters()], moved))


def work(rank, measure, names, folder):
    """What each of the two processes does."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2,
        timeout=datetime.timedelta(seconds=120))
    torch.save({name: measure(name, rank) for name in names},
               folder / f'{rank}.pth')
    dist.destroy_process_group()


def run_pair(measure, names, folder):
    """What the two processes measured, one after the other."""
    mp.spawn(work, (measure, list(names), folder), nprocs=2)
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)]


def compare_or_refuse(name, rank):
    """As ``compare``; of a network that is refused, the words."""
    try:
        return compare(name, rank)
    except RuntimeError as error:
        return str(error)


@pytest.fixture(scope='module')
def few(tmp_path_factory):
    return run_pair(
        compare_or_refuse, [*FEW, 'dead'], tmp_path_factory.mktemp('few'))


@pytest.fixture(scope='module')
def every(tmp_path_factory):
    return run_pair(
        compare, [*BACKBONES, *PARTS], tmp_path_factory.mktemp('every'))


@pytest.fixture(scope='module')
def sharded(tmp_path_factory):
    return run_pair(shard, BACKBONES, tmp_path_factory.mktemp('sharded'))


def check(name, seen):
    for rank in seen:
        assert rank[name]['together'] < SAME
        # Without a reduction the line above would fail.
        assert rank[name]['alone'] > OTHER


@pytest.mark.config
@pytest.mark.parametrize('name', FEW)
def test_two_processes_have_the_gradients_of_one(name, few):
    check(name, few)


def test_a_parameter_without_a_gradient_is_refused(few):
    for rank in few:
        assert 'Expected to have finished reduction' in rank['dead']


@pytest.mark.config
@pytest.mark.parametrize('name', [*BACKBONES, *PARTS])
def test_every_network_has_the_gradients_of_one_process(name, every):
    check(name, every)


@pytest.mark.config
@pytest.mark.skipif(not CAN_SHARD, reason='fully_shard came with torch 2.6')
@pytest.mark.parametrize('name', BACKBONES)
def test_a_step_of_sharded_parameters_is_the_plain_step(name, sharded):
    for rank in sharded:
        assert rank[name]['step'] < SAME
        assert rank[name]['moved'] > OTHER
