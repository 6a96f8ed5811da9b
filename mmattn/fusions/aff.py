from typing import Optional, Sequence

import torch
from torch import Tensor

from ..attentions.mscam import MSCAM
from ..attentions.start import (check_gate_init, refuse_gate_init,
                                start_gate)
from ..registry import MODELS
from .base import Fusion


class _Share(Fusion):
    """``w x_1 + (1 - w) x_2``, with w of full size."""

    def __init__(self, in_channels: int, num_maps: int):
        super().__init__(in_channels, num_maps)
        if num_maps != 2:
            raise ValueError(f'{type(self).__name__} shares out between two '
                             f'maps, got num_maps={num_maps}; for more use '
                             'SelectiveFusion')

    def pool(self, x: Tensor) -> Tensor:
        return x  # the gates see every position

    def attend(self, xs: Sequence[Tensor], a: Tensor) -> Tensor:
        x, y = xs
        # Under autocast some norms answer in single precision.
        dtype = torch.promote_types(x.dtype, y.dtype)
        return torch.lerp(y.to(dtype), x.to(dtype), a.to(dtype))


@MODELS.register_module()
class AFF(_Share):
    """Share every value out between two maps, by a gate that sees their sum.

    ``y = 2 (w x_1 + (1 - w) x_2)`` with ``w = gate(x_1 + x_2)``, the gate of
    MS-CAM: local and global context of the sum. In a residual block ``x_1``
    is the branch and ``x_2`` the shortcut; in an FPN ``x_1`` is the map from
    above. With ``w = 1/2`` it is addition.

    Args:
        in_channels: C of both maps and of the result.
        num_maps: 2.
        ratio: C over hidden width of the gate (the published ImageNet
            networks: 16).
        norm_cfg: The gate's norms.
        gate_init: ``'identity'`` starts the gate's last norms at zero, so
            that the fusion starts as addition: for a network that already
            works with addition. None leaves them to the initialisation.

    Shape:
        2 times ``(B, C, H, W)`` to ``(B, C, H, W)``.

    Source: Dai et al., "Attentional Feature Fusion", arXiv:2009.14082,
        section 3.2; the authors' released code for the factor 2, and for
        which map w weighs.
    Departs: ``gate_init`` is ours.

    Raises:
        ValueError: ``num_maps`` is not 2; ``ratio`` leaves no hidden channel;
            another ``gate_init``, or norms without a weight for it; a batch
            norm would train on one value per channel.
    """

    def __init__(self,
                 in_channels: int,
                 num_maps: int = 2,
                 *,
                 ratio: int = 4,
                 norm_cfg: dict = dict(type='BN'),
                 gate_init: Optional[str] = None):
        super().__init__(in_channels, num_maps)
        check_gate_init(gate_init)
        self.gate_init = gate_init
        self.gate = MSCAM(in_channels, ratio=ratio, norm_cfg=norm_cfg)
        self._start()

    def _start(self) -> None:
        start_gate(self.gate_init, self.gate.local_branch[-1],
                   self.gate.global_branch[-1])

    def init_weights(self) -> None:
        super().init_weights()
        self._start()

    def transform(self, d: Sequence[Tensor]) -> Tensor:
        return self.gate.weights(d[0] + d[1])

    def attend(self, xs: Sequence[Tensor], a: Tensor) -> Tensor:
        return super().attend(xs, a).mul_(2)


@MODELS.register_module()
class IAFF(_Share):
    """AFF whose gate sees, instead of the sum of two maps, their fusion.

    ``y = w x_1 + (1 - w) x_2`` with ``w = gate(z)``,
    ``z = v x_1 + (1 - v) x_2`` and ``v = first_gate(x_1 + x_2)``; both gates
    are MS-CAM's. There is no factor 2, nor is there in the released code:
    with ``w = 1/2`` it is half of addition.

    Args:
        in_channels: C of both maps and of the result.
        num_maps: 2.
        ratio: C over hidden width of the gates (the published ImageNet
            networks: 16).
        norm_cfg: The gates' norms.
        gate_init: None. Even shares are half of addition here, so there is
            no identity start.

    Shape:
        2 times ``(B, C, H, W)`` to ``(B, C, H, W)``.

    Source: Dai et al., "Attentional Feature Fusion", arXiv:2009.14082,
        section 3.3, and the authors' released code (Gluon).
    Departs: none. (The PyTorch port in circulation calls the first gate's
        global branch twice and never the second's.)

    Raises:
        ValueError: ``num_maps`` is not 2; ``ratio`` leaves no hidden channel;
            a ``gate_init``; a batch norm would train on one value per
            channel.
    """

    def __init__(self,
                 in_channels: int,
                 num_maps: int = 2,
                 *,
                 ratio: int = 4,
                 norm_cfg: dict = dict(type='BN'),
                 gate_init: None = None):
        super().__init__(in_channels, num_maps)
        refuse_gate_init(
            self, gate_init, 'it has no factor 2, so that even shares are '
            'half of addition and no start makes it addition; AFF has one')
        self.first_gate = MSCAM(in_channels, ratio=ratio, norm_cfg=norm_cfg)
        self.gate = MSCAM(in_channels, ratio=ratio, norm_cfg=norm_cfg)

    def transform(self, d: Sequence[Tensor]) -> Tensor:
        v = self.first_gate.weights(d[0] + d[1])
        return self.gate.weights(self.attend(d, v))
