"""Necks that go on where a mobile trunk ends, for SSDLite320."""
from functools import partial
from typing import List, Optional, Sequence, Tuple, Union

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..checks import (build_conv_module, check_batch, check_init_cfg,
                      check_positive)
from ..parts import Word, factory, spread


class Extra(BaseModule):
    """Halve a map by three convolutions, with an attention between two.

    Keys: ``conv.{0,1,2}.{conv,bn}``, as in the blocks of the trunks, and
    ``attention.*``, which runs behind the second.
    """

    def __init__(self, *convs: ConvModule, attention: Optional[nn.Module]):
        super().__init__()
        # Not mmengine's list: it would have every convolution start itself,
        # over what the init_cfg of the neck did.
        self.conv = nn.Sequential(*convs)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        if self.conv[1].with_norm:  # a map of the size that the stride leaves
            check_batch(self, self.conv[1].norm, x[:, :, ::2, ::2])
        x = self.conv[1](self.conv[0](x))
        if self.attention is not None:
            x = self.attention(x)
        return self.conv[2](x)


class ExtraLevels(BaseModule):
    """Hand the taps of a trunk on, and add levels of half the size each.

    Subclasses say what an extra level is made of.

    Args:
        in_channels: Of each input.
        last_is_level: Whether the last input is a level like the others; if
            not, it only feeds the added ones.
        out_channels: Of each added level.
        hidden_channels: Inside each added level.
        init_cfg: Initialisation.
    """

    def __init__(self, in_channels: Sequence[int], last_is_level: bool,
                 out_channels: Sequence[int], hidden_channels: Sequence[int],
                 init_cfg: Union[None, dict, List[dict]]):
        super().__init__(init_cfg)
        check_init_cfg(init_cfg)
        for name, values in (('in_channels', in_channels),
                             ('out_channels', out_channels),
                             ('hidden_channels', hidden_channels)):
            if not isinstance(values, (list, tuple)) or not values:
                raise ValueError(f'{name} must list channels, got {values!r}')
            for value in values:
                check_positive(**{name: value})
        if len(out_channels) != len(hidden_channels):
            raise ValueError(
                'out_channels and hidden_channels must have one entry for '
                f'each added level, got {out_channels!r} and '
                f'{hidden_channels!r}')
        self.num_inputs = len(in_channels)
        self.num_taps = self.num_inputs - (not last_is_level)
        if self.num_taps < 1:
            raise ValueError(f'in_channels={in_channels!r} leaves no level: '
                             'the last input only feeds the added levels')
        self.extras = ModuleList()

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        if len(inputs) != self.num_inputs:
            raise ValueError(f'{type(self).__name__} was built for '
                             f'{self.num_inputs} inputs, got {len(inputs)}')
        levels, x = list(inputs[:self.num_taps]), inputs[-1]
        for extra in self.extras:
            x = extra(x)
            levels.append(x)
        return tuple(levels)


class SSDLiteNeck(ExtraLevels):
    """Add levels of half the size each by inverted residuals.

    ``e_k = project(attention(depthwise(expand(e_{k-1}))))`` with ``e_0`` the
    last input: 1x1 convolution, norm and activation; 3x3 depthwise
    convolution of stride 2, norm and activation; 1x1 convolution and norm,
    with no activation behind. There is no shortcut.

    Keys: ``extras.0.conv.{0,1,2}.{conv,bn}.*`` and ``extras.0.attention.*``.

    Args:
        in_channels: Of each input. All of them are levels of the result; for
            MobileNetV2 the output of stride 16 and the last 1x1 convolution.
        out_channels: Of each added level.
        hidden_channels: Of each depthwise convolution. The published code
            states it as a share of the level's input, 0.2, 0.5, 0.5, 0.5.
        attention: Behind each depthwise convolution: None, a config, or a
            list with one entry for each added level.
        norm_cfg: Norm behind every convolution, and of attentions that state
            none.
        act_cfg: Activation.
        init_cfg: Initialisation; the trunk's by default.

    Shape:
        ``(B, in_channels[i], H_i, W_i)`` for each input to the same and
        ``(B, out_channels[k], H_k, W_k)``, each half of the last, rounded up.

    Source: Andrew-Qibin/ssdlite-pytorch-mobilenext, the released code behind
        the SSDLite320 rows of Hou et al., arXiv:2103.02907, tables 2 and 3.
    Departs: the released file with SE in the extras has hidden channels 256,
        128, 128, 64; the parameter counts of the tables' attention rows need
        those of the plain row, the default. Attentions other than SE inside
        the extras were never released.

    Raises:
        TypeError: ``attention`` is not a config.
        ValueError: Lists of unequal length, or no channels in them; an
            unknown attention; another number of inputs; one image whose
            map is 1x1 behind a stride, while batch norms train.
    """

    def __init__(self,
                 in_channels: Sequence[int] = (96, 1280),
                 out_channels: Sequence[int] = (512, 256, 256, 64),
                 hidden_channels: Sequence[int] = (256, 256, 128, 128),
                 attention: Word = None,
                 norm_cfg: Optional[dict] = dict(type='BN'),
                 act_cfg: dict = dict(type='ReLU6'),
                 init_cfg: Union[None, dict, List[dict]] = dict(
                     type='Kaiming', layer='Conv2d')):
        super().__init__(in_channels, True, out_channels, hidden_channels,
                         init_cfg)
        conv = partial(build_conv_module, norm_cfg=norm_cfg)
        attentions = spread(attention, len(out_channels), 'attention',
                            'added levels')
        width = in_channels[-1]
        for hidden, out, cfg in zip(hidden_channels, out_channels,
                                    attentions):
            attend = factory(cfg, 'attention', norm_cfg)
            self.extras.append(
                Extra(
                    conv(width, hidden, 1, act_cfg=act_cfg),
                    conv(
                        hidden,
                        hidden,
                        3,
                        stride=2,
                        padding=1,
                        groups=hidden,
                        act_cfg=act_cfg),
                    conv(hidden, out, 1, act_cfg=None),
                    attention=attend(hidden) if attend else None))
            width = out


class MobileNeXtNeck(ExtraLevels):
    """Add levels of half the size each, the depthwise convolution first.

    ``e_k = expand(reduce(depthwise(e_{k-1})))`` with ``e_0`` the last input:
    3x3 depthwise convolution of stride 2, norm and activation; 1x1
    convolution to the hidden width and norm; 1x1 convolution, norm and
    activation.

    Keys: ``extras.0.conv.{0,1,2}.{conv,bn}.*``.

    Args:
        in_channels: Of each input. All but the last are levels of the
            result: for MobileNeXt the expanded maps inside its blocks 13 and
            20. The last, the end of block 20, only feeds the added levels.
        out_channels: Of each added level.
        hidden_channels: Between the two 1x1 convolutions. The published code
            states it as a share of the level's input, 0.2, 0.25, 0.5, 0.5.
        norm_cfg: Norm behind every convolution.
        act_cfg: Activation.
        init_cfg: Initialisation; the trunk's by default.

    Shape:
        ``(B, in_channels[i], H_i, W_i)`` for each input to the same without
        the last, and ``(B, out_channels[k], H_k, W_k)``, each half of the
        last, rounded up.

    Source: Andrew-Qibin/ssdlite-pytorch-mobilenext, the released code of the
        MobileNeXt row of Hou et al., arXiv:2103.02907, table 2.
    Departs: there is no place for an attention; no published row has one.

    Raises:
        ValueError: Lists of unequal length, or no channels in them; a single
            input; another number of inputs; one image whose map is 1x1
            behind a stride, while batch norms train.
    """

    def __init__(self,
                 in_channels: Sequence[int] = (576, 1280, 1280),
                 out_channels: Sequence[int] = (512, 256, 256, 128),
                 hidden_channels: Sequence[int] = (256, 128, 128, 128),
                 norm_cfg: Optional[dict] = dict(type='BN'),
                 act_cfg: dict = dict(type='ReLU6'),
                 init_cfg: Union[None, dict, List[dict]] = dict(
                     type='Kaiming', layer='Conv2d')):
        super().__init__(in_channels, False, out_channels, hidden_channels,
                         init_cfg)
        conv = partial(build_conv_module, norm_cfg=norm_cfg)
        width = in_channels[-1]
        for hidden, out in zip(hidden_channels, out_channels):
            self.extras.append(
                Extra(
                    conv(
                        width,
                        width,
                        3,
                        stride=2,
                        padding=1,
                        groups=width,
                        act_cfg=act_cfg),
                    conv(width, hidden, 1, act_cfg=None),
                    conv(hidden, out, 1, act_cfg=act_cfg),
                    attention=None))
            width = out
