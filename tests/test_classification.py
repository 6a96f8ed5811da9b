"""The classifier's head with dropout."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from test_configs import ROOT

pytest.importorskip('mmpretrain')
NAME = 'mmattn.classification.DropoutLinearClsHead'


def build(dropout_rate=0.4, **options):
    return MODELS.build(
        dict(
            type=NAME,
            num_classes=5,
            in_channels=7,
            dropout_rate=dropout_rate,
            **options))


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet'])
def test_it_is_the_stock_head_with_dropout(scope):
    pytest.importorskip(scope)
    init_default_scope(scope)
    ours = build(topk=(1, 3))
    stock = MODELS.build(
        dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=7))
    assert list(ours.state_dict()) == list(stock.state_dict())
    stock.load_state_dict(ours.state_dict())
    x = torch.ones(1000, 7)
    feats = (None, x)
    assert torch.equal(ours.eval()(feats), stock(feats))
    dropped = ours.train().pre_logits(feats)
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.6))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize('rate', [0, 1, -0.1, 2])
def test_a_rate_is_a_share(rate):
    with pytest.raises(ValueError, match='dropout_rate must lie between'):
        build(dropout_rate=rate)


@pytest.mark.parametrize('path, rate', [
    ('dcanet/se_mnasnet1_0_8xb64', 0.2), ('dcanet/mobilenet_v2_8xb64', 0.2),
    ('coordattention/ca_mobilenet_v2_8xb32', 0.1),
    ('coordattention/ca_mobilenext_8xb32', 0.2),
    ('coordattention/mobilenext_8xb32', 0.2),
    ('coordattention/se_mobilenext_8xb32', 0.2),
    ('eca/eca_mobilenet_v2_8xb32', 0.25)
])
def test_published_rates(path, rate):
    cfg = Config.fromfile(ROOT / f'configs/imagenet/{path}_in1k.py')
    head = cfg.model.head
    assert (head.type, head.dropout_rate) == (NAME, rate)
