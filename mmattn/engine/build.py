"""A config's model."""
from copy import deepcopy

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a config as the Runner does, without its weights.

    Names without a prefix mean the config's toolbox, and what it names as
    ``data_preprocessor`` beside its model goes into that. Neither the config
    nor the current default scope is changed.
    """
    model = deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', deepcopy(cfg.data_preprocessor))
    scope = cfg.get('default_scope') or 'mmengine'
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model)
