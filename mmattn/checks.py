"""Checks that parts share; each raises one clear error."""
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def check_positive(**values: Any) -> None:
    """Raise ValueError unless every value is a positive integer."""
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f'{name} must be a positive integer, got '
                             f'{value!r}')


def check_kernel_size(kernel_size: int) -> None:
    """Raise ValueError unless it is a positive odd integer."""
    if (not isinstance(kernel_size, int) or kernel_size < 1
            or kernel_size % 2 == 0):
        raise ValueError('kernel_size must be a positive odd integer, got '
                         f'{kernel_size!r}')


def hidden_channels(in_channels: int, ratio: int, name='ratio') -> int:
    """Width ``in_channels // ratio`` of a gate's hidden layer.

    Raises:
        ValueError: The ratio is not a positive integer, or leaves nothing.
    """
    check_positive(**{name: ratio})
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
