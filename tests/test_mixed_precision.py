"""Training in bfloat16 stays finite, whatever the maps hold."""
import pytest
import torch
from test_fuse import NETS, build

from mmattn.attentions import Attention
from mmattn.fusions import Fusion
from mmattn.registry import MODELS

MODELS.import_from_location()
PARTS = sorted(
    name for name, kind in MODELS.module_dict.items()
    if isinstance(kind, type) and issubclass(kind, Attention))


def step(net, x, scale):
    """Gradients of one step, and what was computed."""
    net.train()
    net.zero_grad()
    with torch.autocast('cpu', torch.bfloat16):
        outs = net(x)
        loss = sum(y.float().square().mean() for y in outs) * scale
    loss.backward()
    return loss, [p.grad for p in net.parameters()]


@pytest.mark.parametrize('row', NETS)
def test_three_steps_of_every_backbone(row):
    net = build(row)
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    size = (113, 129) if row == 'ScaleResNet' else (65, 97)
    for _ in range(3):
        # Brighter than any normalised image.
        loss, grads = step(net, 30 * torch.randn(2, 3, *size), 1e-4)
        assert loss.isfinite()
        assert all(grad.isfinite().all() for grad in grads)
        optimizer.step()
    assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('name', PARTS)
@pytest.mark.parametrize('largest', [1e-4, 1e4])
def test_every_part_on_tiny_and_huge_maps(name, largest):
    """Softmaxes, exponentials and covariances neither overflow nor divide
    by nothing."""
    torch.manual_seed(0)
    part = MODELS.get(name)(128)
    x = (largest * torch.randn(3, 128, 7, 5)).requires_grad_()
    outs = [x, x.flip(0)] if issubclass(type(part), Fusion) else x
    with torch.autocast('cpu', torch.bfloat16):
        y = part(outs)
    y.float().sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all()
               for p in part.parameters())
