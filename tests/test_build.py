"""A config's model, and a checkpoint that must fit it."""
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import DefaultScope
from torch import nn

from mmattn.backbones import ResNet
from mmattn.checkpoints import CheckpointError, load_exactly
from mmattn.engine.build import build_model


class Tiny(BaseModel):

    def forward(self, inputs):
        return inputs


def test_names_mean_the_config_s_toolbox_while_its_model_is_built():
    cfg = Config(dict(
        default_scope='mmattn',
        model=dict(type='ResNet', depth=(1, 1, 1, 1), base_channels=8)))
    before = DefaultScope.get_current_instance()
    assert type(build_model(cfg)) is ResNet
    assert DefaultScope.get_current_instance() is before


def test_a_preprocessor_beside_the_model_goes_into_it():
    own = dict(type=BaseDataPreprocessor, non_blocking=True)
    cfg = Config(dict(model=dict(type=Tiny), data_preprocessor=own))
    assert build_model(cfg).data_preprocessor._non_blocking is True
    assert 'data_preprocessor' not in cfg.model
    cfg.model.data_preprocessor = dict(own, non_blocking=False)
    assert build_model(cfg).data_preprocessor._non_blocking is False


def model():
    return nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5))


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_weights_that_fit_are_loaded(tmp_path, prefix):
    weights = model().state_dict()
    old = {prefix + key: torch.rand_like(value)
           for key, value in weights.items() if 'num_batches' not in key}
    torch.save(dict(state_dict=old, meta=dict(epoch=3)), tmp_path / 'a.pth')
    torch.save(old, tmp_path / 'b.pth')
    for name, meta in (('a.pth', dict(epoch=3)), ('b.pth', {})):
        filled = model()
        path = str(tmp_path / name)
        assert load_exactly(filled, path, 'the model', 'Ask.') == meta
        for key, value in old.items():
            own = filled.state_dict()[key[len(prefix):]]
            assert torch.equal(own, value), key


def test_what_does_not_fit_is_named(tmp_path):
    path = str(tmp_path / 'a.pth')
    weights = model().state_dict()
    del weights['0.bias']
    weights.update({'0.weight': torch.zeros(4, 3, 1, 1),
                    '2.weight': torch.zeros(1)})
    torch.save(weights, path)
    with pytest.raises(CheckpointError) as error:
        load_exactly(model(), path, 'that model', 'Ask.')
    assert str(error.value) == (
        f'checkpoint {path} does not fit that model: 0.bias is missing; '
        '2.weight is unknown; 0.weight has shape (4, 3, 1, 1) instead of '
        '(5, 3, 1, 1). Ask.')
    torch.save(dict.fromkeys('abcd', torch.zeros(1)), path)
    with pytest.raises(CheckpointError, match='missing; .*, and 8 more. Ask'):
        load_exactly(model(), path, 'that model', 'Ask.')
    torch.save(dict(state_dict=[1]), path)
    with pytest.raises(CheckpointError, match='no weights by name: list'):
        load_exactly(model(), path, 'that model', 'Ask.')
