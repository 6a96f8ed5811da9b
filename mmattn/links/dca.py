"""The links of DCANet.

Source: Ma et al., "DCANet: Learning Connected Attentions for Convolutional
Neural Networks", arXiv:2007.05099, and the authors' released code.
"""
import inspect
from typing import Any, Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..checks import (build_norm, check_batch, check_bool, check_positive,
                      given, hidden_channels)
from ..registry import MODELS
from .base import Link, MapLink, pool_to


class _Mix(BaseModule):
    """``relu(LN(w_1 * d + w_2 * p + b))`` over the channels of two vectors."""

    def __init__(self, channels: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2))
        self.bias = nn.Parameter(torch.empty(1)) if bias else None
        self.norm = nn.LayerNorm(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # The start of the published 2-to-1 convolution.
        nn.init.normal_(self.weight, std=2**0.5)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -2**-0.5, 2**-0.5)

    def forward(self, d: Tensor, p: Tensor) -> Tensor:
        z = self.weight[0] * d + self.weight[1] * p
        if self.bias is not None:
            z = z + self.bias
        # Autocast runs the norm in single precision; gates do not.
        return F.relu(self.norm(z.flatten(1))).to(d.dtype)[..., None, None]


@MODELS.register_module()
class ChannelLink(Link):
    """Mixes in the previous descriptor times its weight (SE, GE).

    ``z = relu(LN(w_1 * d + w_2 * p + b))``, LN over the channels, with
    ``p = relu(LN(M s))`` where the widths differ and ``p = s`` elsewhere;
    hands on ``s' = d * a``, which is the mean of the attended map.

    Args:
        attention, in_channels, carry_channels: As for every link.
        mix_bias: Whether b exists. It shifts what LN centres again, so it
            changes nothing; the published ResNets hold it (default), the
            published SE-MobileNetV2 does not.
        match_ratio: C over the hidden width of M, which is then
            ``relu(LN(M_2 relu(LN(M_1 s))))``, as in the published SE-MNASNet
            and SK-MobileNetV2; None leaves the hidden layer out.

    Departs: the published mix is a 2-to-1 convolution over a stack of the
        two; here it is two scalars (same numbers).
    """

    hands_on_map = False

    def __init__(self,
                 attention: nn.Module,
                 in_channels: int,
                 carry_channels: Optional[int],
                 *,
                 mix_bias: bool = True,
                 match_ratio: Optional[int] = None):
        super().__init__(attention, in_channels, carry_channels)
        check_bool(mix_bias=mix_bias)
        check_positive(**given(match_ratio=match_ratio))
        self.match_fc = None
        if carry_channels is None:
            return
        if carry_channels != in_channels:
            widths = [carry_channels, in_channels]
            if match_ratio is not None:
                widths.insert(
                    1,
                    hidden_channels(in_channels, match_ratio, 'match_ratio'))
            layers = []
            for before, after in zip(widths, widths[1:]):
                layers += [
                    nn.Linear(before, after),
                    nn.LayerNorm(after),
                    nn.ReLU(inplace=True)
                ]
            self.match_fc = nn.Sequential(*layers)
        self.mix = _Mix(in_channels, bias=mix_bias)

    def match(self, carry: Tensor, x: Tensor) -> Tensor:
        if self.match_fc is None:
            return carry
        return self.match_fc(carry.flatten(1))[..., None, None]

    def merge(self, attention: nn.Module, d: Tensor, p: Tensor) -> Tensor:
        return self.mix(d, p)

    @staticmethod
    def carry(d: Tensor, a: Tensor, y: None) -> Tensor:
        return d * a


@MODELS.register_module()
class ContextLink(Link):
    """Adds the previous context term to the context (GC).

    ``z = d + w * p``, w starting at 0, with
    ``p = M_2 relu(LN(M_1 s))`` where the widths differ and ``p = s``
    elsewhere; hands on the weight ``a`` itself.

    Args:
        attention, in_channels, carry_channels: As for every link.
        match_ratio: C over hidden width of M.
    """

    hands_on_map = False

    def __init__(self,
                 attention: nn.Module,
                 in_channels: int,
                 carry_channels: Optional[int],
                 *,
                 match_ratio: int = 16):
        super().__init__(attention, in_channels, carry_channels)
        check_positive(match_ratio=match_ratio)
        self.match_fc = None
        if carry_channels is None:
            return
        self.weight = nn.Parameter(torch.zeros(1))
        if carry_channels != in_channels:
            hidden = hidden_channels(in_channels, match_ratio,
                                     'match_ratio')
            self.match_fc = nn.Sequential(
                nn.Conv2d(carry_channels, hidden, 1),
                nn.LayerNorm([hidden, 1, 1]), nn.ReLU(inplace=True),
                nn.Conv2d(hidden, in_channels, 1))

    def match(self, carry: Tensor, x: Tensor) -> Tensor:
        return carry if self.match_fc is None else self.match_fc(carry)

    def merge(self, attention: nn.Module, d: Tensor, p: Tensor) -> Tensor:
        return d + self.weight * p

    @staticmethod
    def carry(d: Tensor, a: Tensor, y: None) -> Tensor:
        return a


@MODELS.register_module()
class PooledMapLink(Link):
    """Mixes in mean and maximum of the previous map (CBAM's channel gate).

    ``z_i = relu(LN(w_1 * d_i + w_2 * p_i))`` with one mix for mean and
    maximum, and ``p = extract(relu(norm(conv1x1(y'))))`` where the widths
    differ, ``p = extract(y')`` elsewhere, for the previous attended map y'
    at its own size.

    Args:
        attention, in_channels, carry_channels: As for every link.
        match_bias: Whether the 1x1 convolution has one. The norm removes it;
            the published ResNet holds it (default), the published mobile
            nets do not.
        norm_cfg: The norm behind the 1x1 convolution.
    """

    def __init__(self,
                 attention: nn.Module,
                 in_channels: int,
                 carry_channels: Optional[int],
                 *,
                 match_bias: bool = True,
                 norm_cfg: dict = dict(type='BN')):
        super().__init__(attention, in_channels, carry_channels)
        check_bool(match_bias=match_bias)
        self.match_conv = None
        if carry_channels is None:
            return
        if carry_channels != in_channels:
            self.match_conv = nn.Sequential(
                nn.Conv2d(carry_channels, in_channels, 1, bias=match_bias),
                build_norm(norm_cfg, in_channels)[1],
                nn.ReLU(inplace=True))
        self.mix = _Mix(in_channels, bias=False)

    def match(self, carry: Tensor, x: Tensor) -> Tensor:
        if self.match_conv is None:
            return carry
        check_batch(self, self.match_conv[1], carry)
        return self.match_conv(carry)

    def merge(self, attention: nn.Module, d: Tuple[Tensor, ...],
              p: Tensor) -> Tuple[Tensor, ...]:
        return tuple(
            self.mix(*pair) for pair in zip(d, attention.extract(p)))

    @staticmethod
    def carry(d: Any, a: Any, y: Tensor) -> Tensor:
        return y


@MODELS.register_module()
class SpatialLink(Link):
    """Mixes in the channel summary of the previous map (CBAM's spatial gate).

    ``z = relu(norm(w_1 * d + w_2 * extract(y')))`` for the previous attended
    map ``y'``, average-pooled to the size of ``x`` first; w starts at (1, 0).

    Args:
        attention, in_channels, carry_channels: As for every link. The widths
            do not matter: the descriptor has two channels.
        norm_cfg: The norm over those two channels.
        published_start: Start the norm's weight at 0, as the published
            DCA-CBAM-ResNet-50 does by a slip: its initialisation zeroes
            every batch norm of the spatial gate, this one included. Behind
            it ``relu(0) = 0`` has no gradient, so that this gate is a
            learned constant for ever in every block but the first. For
            repeating that run only.

    Departs: the norm's start, unless ``published_start``. Sizes that do not
        divide are pooled adaptively, where the published code fails; where
        they divide the numbers are the same.
    """

    def __init__(self,
                 attention: nn.Module,
                 in_channels: int,
                 carry_channels: Optional[int],
                 *,
                 norm_cfg: dict = dict(type='BN'),
                 published_start: bool = False):
        super().__init__(attention, in_channels, carry_channels)
        check_bool(published_start=published_start)
        self.norm = None
        self.published_start = published_start
        if carry_channels is None:
            return
        self.weight = nn.Parameter(torch.tensor([1., 0.]))
        self.norm = build_norm(norm_cfg, 2)[1]

    def init_weights(self) -> None:
        super().init_weights()
        if self.published_start and self.norm is not None:
            nn.init.zeros_(self.norm.weight)

    def match(self, carry: Tensor, x: Tensor) -> Tensor:
        return pool_to(carry, x)

    def merge(self, attention: nn.Module, d: Tensor, p: Tensor) -> Tensor:
        d = self.weight[0] * d + self.weight[1] * attention.extract(p)
        check_batch(self, self.norm, d)
        return F.relu(self.norm(d))

    @staticmethod
    def carry(d: Any, a: Any, y: Tensor) -> Tensor:
        return y


def accepted(link_type: type, **options: Any) -> dict:
    """The options that a kind of link has."""
    parameters = inspect.signature(link_type).parameters
    return {key: v for key, v in options.items() if key in parameters}


@MODELS.register_module()
def DCA(attention: nn.Module,
        in_channels: int,
        carry_channels: Optional[int],
        *,
        norm_cfg: Optional[dict] = None,
        **options: Any) -> Link:
    """Build the link that suits an attention: ``link=dict(type='DCA')``.

    The attention names the kind (``link_type``): SE and GE are linked by
    ``ChannelLink``, GC by ``ContextLink``, CBAM by ``ChainLink``, the
    SelectiveFusion of SK by ``BranchLink``, any other by ``MapLink``.
    Options go to that link.

    Args:
        attention, in_channels, carry_channels: As for every link.
        norm_cfg: For a link that holds a norm; None leaves its default.

    Raises:
        TypeError: The attention has no phases, or an option is not one of
            the link's.
    """
    link_type = getattr(attention, 'link_type', MapLink)
    if norm_cfg is not None:
        options.update(accepted(link_type, norm_cfg=norm_cfg))
    return link_type(attention, in_channels, carry_channels, **options)
