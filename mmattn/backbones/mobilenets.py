"""Mobile networks that are a table."""
from typing import Any

from torch import nn

from ..checks import check_bool, check_choice, make_divisible
from ..parts import Word
from ..registry import MODELS
from .mobile_blocks import DepthwiseSeparable
from .mobilenet import MobileNet, Row


@MODELS.register_module()
class MobileNetV1(MobileNet):
    """MobileNetV1: depthwise separable convolutions, no shortcuts.

    The words are ``MobileNet``'s: 5 stages of 64, 128, 256, 512 and 1024
    channels, no ``conv2``.

    Source: Howard et al., "MobileNets", arXiv:1704.04861, table 1; with ReLU6
        as in the released networks.
    """

    block = DepthwiseSeparable
    last_channels = None
    table = (Row(64, 1, 1), Row(128, 2, 2), Row(256, 2, 2), Row(512, 6, 2),
             Row(1024, 2, 2))


@MODELS.register_module()
class MNASNet(MobileNet):
    """MNASNet-B1, or A1 with squeeze-and-excitation.

    Inverted residuals with kernels of 3 and 5. The words are ``MobileNet``'s:
    7 stages, and ``conv2`` by index 7.

    Args:
        widen_factor: Width.
        arch: ``'B1'`` (torchvision's MNASNet) or ``'A1'``.
        attention: As for ``MobileNet``; None leaves A1 its own, SE over a
            quarter of the block's input channels in stages 3, 5 and 6.
        norm_cfg, act_cfg: As for ``MobileNet``; the statistics of B1's norms
            move as slowly as in the published network.
        published_start: Start the linear layers of attentions and links at
            N(0.01, 1), as DCANet's networks do by a slip (a mean where the
            standard deviation 0.01 was meant): its SE and CBAM rows score
            below the plain network, likely for that. For repeating those
            runs only; the classifier's start is the head's ``init_cfg``.

    Source: Tan et al., "MnasNet", arXiv:1807.11626, figure 7 (A1);
        torchvision's MNASNet and DCANet's for B1.

    Raises:
        ValueError: Another ``arch``; ``published_start`` and a ``gate_init``.
    """

    archs = dict(
        B1=((1, 16, 1, 1, 3), (3, 24, 3, 2, 3), (3, 40, 3, 2, 5),
            (6, 80, 3, 2, 5), (6, 96, 2, 1, 3), (6, 192, 4, 2, 5),
            (6, 320, 1, 1, 3)),
        A1=((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (3, 40, 3, 2, 5),
            (6, 80, 4, 2, 3), (6, 112, 2, 1, 3), (6, 160, 3, 2, 5),
            (6, 320, 1, 1, 3)))

    def __init__(self,
                 widen_factor: float = 1.,
                 *,
                 arch: str = 'B1',
                 attention: Word = None,
                 norm_cfg: dict = dict(type='BN', momentum=1 - 0.9997),
                 act_cfg: dict = dict(type='ReLU'),
                 published_start: bool = False,
                 **kwargs: Any):
        check_choice(sorted(self.archs), arch=arch)
        check_bool(published_start=published_start)
        if arch == 'A1' and attention is None:
            thirds, sixths = (dict(type='SE', ratio=4 * t) for t in (3, 6))
            attention = [None, None, thirds, None, sixths, sixths, None]
        self.table = tuple(
            Row(channels, num_blocks, stride,
                dict(expand_ratio=expand_ratio, kernel_size=kernel_size))
            for expand_ratio, channels, num_blocks, stride, kernel_size in
            self.archs[arch])
        super().__init__(
            widen_factor,
            attention=attention,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            **kwargs)
        self.published_start = published_start
        if published_start and any(
                getattr(m, 'gate_init', None) for m in self.modules()):
            raise ValueError('published_start=True and gate_init both say how '
                             'the gates start; give one')

    def init_weights(self) -> None:
        super().init_weights()
        from_file = isinstance(
            self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained'
        if not self.published_start or from_file:
            return
        for name, layer in self.named_modules():
            if name.endswith(('.fc1', '.fc2')) or isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.01, 1)
                nn.init.zeros_(layer.bias)

    def widen_last(self, widen_factor: float) -> int:
        return self.last_channels  # whatever the width


@MODELS.register_module()
class MobileNetV3(MobileNet):
    """MobileNetV3-Large, without the layers behind its pooling.

    Inverted residuals with kernels of 3 and 5, SE with a hard sigmoid, and
    h-swish in the second half. The words are ``MobileNet``'s: 6 stages of 16,
    24, 40, 80, 112 and 160 channels, and ``conv2`` of 960 by index 6.

    Args:
        widen_factor: Width.
        attention: As for ``MobileNet``; None leaves the network its own, SE
            in stages 3, 5 and 6.
        act_cfg: Of the stem, the second half and ``conv2``; the first three
            stages have ReLU.

    Source: Howard et al., "Searching for MobileNetV3", arXiv:1905.02244,
        table 1.
    """

    stem_channels = 16
    last_channels = 960
    table = tuple(
        Row(channels, len(ratios), stride,
            dict(expand_ratio=ratios, kernel_size=kernel_size), act_cfg)
        for channels, stride, kernel_size, ratios, act_cfg in (
            (16, 1, 3, [1], dict(type='ReLU')),
            (24, 2, 3, [4, 3], dict(type='ReLU')),
            (40, 2, 5, [3, 3, 3], dict(type='ReLU')),
            (80, 2, 3, [6, 2.5, 2.3, 2.3], None),
            (112, 1, 3, [6, 6], None),
            (160, 2, 5, [6, 6, 6], None),
        ))

    def __init__(self,
                 widen_factor: float = 1.,
                 *,
                 attention: Word = None,
                 act_cfg: dict = dict(type='HSwish'),
                 **kwargs: Any):
        if attention is None:
            se = dict(type='SE', ratio=4, divisor=8, gate='hardsigmoid')
            attention = [None, None, se, None, se, se]
        super().__init__(
            widen_factor, attention=attention, act_cfg=act_cfg, **kwargs)

    def widen_last(self, widen_factor: float) -> int:
        return make_divisible(self.last_channels * widen_factor)
