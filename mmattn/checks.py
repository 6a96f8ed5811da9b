"""Checks that parts share; each raises one clear error."""
import math
from numbers import Integral, Real
from typing import (Any, Callable, Iterable, Optional, Sequence, Tuple,
                    Union)

import torch
from mmcv.cnn import (ConvModule, build_activation_layer, build_conv_layer,
                      build_norm_layer)
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# No size, count or width of a network is larger.
LIMIT = 2**16
# Registered layers that no map of (N, C, H, W) fits; subclasses may be others.
NOT_FOR_MAPS = (nn.Conv1d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm3d,
                nn.InstanceNorm1d, nn.InstanceNorm3d, nn.LayerNorm)


def is_int(value: Any) -> bool:
    """Whether it is an integer, numpy's included; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it is a finite number; True and False are none."""
    return (isinstance(value, Real) and not isinstance(value, bool)
            and abs(value) < math.inf)


def is_list(value: Any) -> bool:
    """Whether it is a list, a tuple or a range."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def given(**values: Any) -> dict:
    """Those that are not None."""
    return {name: v for name, v in values.items() if v is not None}


def check_positive(**values: Any) -> None:
    """Raise ValueError unless every value is an integer from 1 to LIMIT."""
    for name, value in values.items():
        if not is_int(value) or value < 1:
            raise ValueError(f'{name} must be a positive integer, got '
                             f'{value!r}')
        if value > LIMIT:
            raise ValueError(f'{name} must be at most {LIMIT}, got {value}')


def check_not_negative(**values: Any) -> None:
    """Raise ValueError unless every value is an integer from 0 to LIMIT."""
    for name, value in values.items():
        if not is_int(value) or not 0 <= value <= LIMIT:
            raise ValueError(f'{name} must be an integer from 0 to {LIMIT}, '
                             f'got {value!r}')


def check_positives(**lists: Any) -> None:
    """Raise ValueError unless every value lists positive integers."""
    for name, values in lists.items():
        if not is_list(values) or len(values) == 0:
            raise ValueError(f'{name} must list positive integers, got '
                             f'{values!r}')
        for value in values:
            check_positive(**{name: value})


def check_bool(**values: Any) -> None:
    """Raise ValueError unless every value is True or False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f'{name} must be True or False, got {value!r}')


def check_choice(choices: Iterable[str], **values: Any) -> None:
    """Raise ValueError unless every value is one of the strings."""
    choices = tuple(choices)
    for name, value in values.items():
        if not isinstance(value, str) or value not in choices:
            raise ValueError(
                f'{name} must be {" or ".join(map(repr, choices))}, got '
                f'{value!r}')


def check_kernel_size(value: Any, name: str = 'kernel_size') -> None:
    """Raise ValueError unless it is a positive odd integer."""
    if not is_int(value) or value < 1 or value % 2 == 0:
        raise ValueError(f'{name} must be a positive odd integer, got '
                         f'{value!r}')
    check_positive(**{name: value})


def build_layer(word: str, build: Callable, cfg: Any, *args: Any,
                **kwargs: Any) -> Any:
    """``build(cfg, ...)``, one of mmcv's, with an error that names the word.

    Raises:
        ValueError: It is no config, or cannot be built.
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise ValueError(f"{word} must be a dict with a 'type', got {cfg!r}")
    try:
        return build(cfg, *args, **kwargs)
    except Exception as error:
        raise ValueError(f'{word}={cfg!r} cannot be built: '
                         f'{type(error).__name__}: {error}') from error


def _check_layer(word: str, layer: nn.Module) -> nn.Module:
    if type(layer) in NOT_FOR_MAPS:
        raise ValueError(f'{word}: {type(layer).__name__} does not take maps '
                         '(N, C, H, W)')
    return layer


def _check_act(act: nn.Module) -> nn.Module:
    # What an activation is given besides is read in its forward only. It may
    # be for other channels than this map has, which is no TypeError.
    try:
        act(torch.zeros(1, 1, 1, 1))
    except TypeError as error:
        raise ValueError(f'act_cfg: {act} does not run: {error}') from error
    except RuntimeError:
        pass
    return act


def build_act(cfg: dict, build: Callable = build_activation_layer,
              **kwargs: Any) -> nn.Module:
    """The activation of an ``act_cfg``, as ``build(cfg, ...)`` makes it."""
    return _check_act(build_layer('act_cfg', build, cfg, **kwargs))


def build_conv(cfg: Optional[dict], *args: Any, **kwargs: Any) -> nn.Module:
    """The convolution of a ``conv_cfg``; a plain one if it is None."""
    cfg = dict(type='Conv2d') if cfg is None else cfg
    return _check_layer(
        'conv_cfg',
        build_layer('conv_cfg', build_conv_layer, cfg, *args, **kwargs))


def build_norm(cfg: dict, channels: int,
               postfix: Union[int, str] = '') -> Tuple[str, nn.Module]:
    """The norm of a ``norm_cfg`` and the name that goes with its kind."""
    made = build_layer('norm_cfg', build_norm_layer, cfg, channels, postfix)
    _check_layer('norm_cfg', made[1])
    for option, value in given(
            eps=cfg.get('eps'), momentum=cfg.get('momentum')).items():
        if not is_number(value):
            raise ValueError(f'norm_cfg: {option} must be a number, got '
                             f'{value!r}')
    return made


def build_conv_module(*args: Any, **options: Any) -> ConvModule:
    """mmcv's ConvModule, with an error that names its configs.

    Raises:
        ValueError: It cannot be built.
    """
    try:
        made = ConvModule(*args, **options)
    except Exception as error:
        cfgs = ', '.join(f'{word}={cfg!r}' for word, cfg in options.items()
                         if word.endswith('_cfg'))
        raise ValueError(f'{cfgs} cannot be built: {type(error).__name__}: '
                         f'{error}') from error
    _check_layer('conv_cfg', made.conv)
    _check_layer('norm_cfg', made.norm)
    if made.with_activation:
        _check_act(made.activate)
    return made


def check_init_cfg(init_cfg: Any) -> None:
    """Raise ValueError unless initialisers can be built from it, or None."""
    if init_cfg is None:
        return
    for cfg in init_cfg if is_list(init_cfg) else [init_cfg or None]:
        start = build_layer(
            'init_cfg', WEIGHT_INITIALIZERS.build,
            {k: v for k, v in cfg.items() if k != 'override'}
            if isinstance(cfg, dict) else cfg)
        if not callable(start):
            raise ValueError(f'init_cfg={cfg!r} is no initialiser')


def hidden_channels(in_channels: int, ratio: int, name='ratio') -> int:
    """Width ``in_channels // ratio`` of a gate's hidden layer.

    Raises:
        ValueError: A value is not a positive integer, or nothing is left.
    """
    check_positive(**{'in_channels': in_channels, name: ratio})
    if in_channels < ratio:
        raise ValueError(f'{name}={ratio} leaves no hidden channel for '
                         f'in_channels={in_channels}; use a smaller ratio')
    return in_channels // ratio


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor`` that is not below 90 %."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def check_batch(part: nn.Module, norm: nn.Module, d: Tensor) -> None:
    """Raise ValueError if a batch norm is to train on one value per channel.

    It would subtract the value from itself. A synchronised norm is left to
    itself: it sees the other processes' values too.
    """
    if (norm.training and isinstance(norm, _BatchNorm)
            and not isinstance(norm, nn.SyncBatchNorm)
            and d.shape[0] * d.shape[2:].numel() == 1):
        raise ValueError(
            f'{type(part).__name__}: one image and a 1x1 map, {tuple(d.shape)}'
            ', give a batch norm in training one value per channel. Train '
            'with two images or more on each GPU, or keep batch norms in '
            'eval mode (norm_eval=True in the backbone), or give this part '
            "another norm (norm_cfg=dict(type='GN', num_groups=1))")
