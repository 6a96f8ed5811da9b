from typing import Any, List, Optional, Sequence, Tuple

from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from ..parts import Parts
from ..registry import MODELS
from .blocks import ResidualBlock
from .resnet_blocks import downsample
from .resnet_presets import ResNet_CIFAR


class PreActBlock(ResidualBlock):
    """norm, act, 3x3, norm, act, 3x3 [, attention]; nothing after the join.

    The shortcut starts at the block's raw input; where shapes change it is
    projected, without a norm.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        stride: Of the first convolution.
        dilation: Of the first convolution.
        parts: The factories it is handed.
        carry_channels: What a link has to match.
        avg_down: Pool before the shortcut's projection.
    """

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None,
                 *,
                 avg_down: bool = False):
        super().__init__(parts)
        if parts.conv2:
            raise ValueError('conv2 and dcn replace the 3x3 convolution of a '
                             'Bottleneck; a PreActBlock has none to replace')
        self.norm1_name = self.add_norm(parts, in_channels, 1)
        self.conv1 = parts.conv(
            in_channels,
            channels,
            3,
            stride=stride,
            padding=dilation,
            dilation=dilation)
        self.norm2_name = self.add_norm(parts, channels, 2)
        self.conv2 = parts.conv(channels, channels, 3, padding=1)
        self.relu = parts.act(inplace=True)
        self.downsample = downsample(
            parts, in_channels, channels, stride, avg_down, norm=False)
        self.add_parts(parts, channels, channels, carry_channels)
        self.act = nn.Identity()

    def branch(self,
               x: Tensor,
               carry: Any,
               taps: Optional[dict] = None) -> Tuple[Tensor, Any]:
        y = self.conv1(self.relu(getattr(self, self.norm1_name)(x)))
        return self.conv2(self.relu(getattr(self, self.norm2_name)(y))), carry


@MODELS.register_module()
class PreActResNet_CIFAR(ResNet_CIFAR):
    """Pre-activation ResNet for small images, three stages.

    The image passes a batch norm without parameters, then a 3x3 convolution;
    norm and activation come before each 3x3 convolution of a block, and once
    more behind the last stage. The words are those of ``ResNet``.

    Args:
        depth: 20, 32, 44, 56, 110 (6 n + 2), or a tuple with the number of
            blocks of each stage.
        num_stages, strides, dilations, out_indices, avg_down: As for
            ``ResNet``, with other defaults.
        norm_cfg: Kind of norm, but for the image's.
        zero_init_residual: False; no norm ends a branch.

    Shape:
        ``(B, in_channels, H, W)`` to a tuple of the stages' maps.

    Source: He et al., "Identity Mappings in Deep Residual Networks",
        arXiv:1603.05027; the input norm, the pooled shortcut and the widths
        64, 128, 256 as in AFF-ResNet-32 (Dai et al., arXiv:2009.14082).

    Raises:
        ValueError: ``zero_init_residual`` is True.
    """

    custom_block = PreActBlock
    arch_settings = {
        6 * n + 2: (PreActBlock, (n, n, n))
        for n in (3, 5, 7, 9, 18)
    }

    def __init__(self,
                 depth,
                 *,
                 num_stages: int = 3,
                 strides: Sequence[int] = (1, 2, 2),
                 dilations: Sequence[int] = (1, 1, 1),
                 out_indices: Sequence[int] = (0, 1, 2),
                 norm_cfg: dict = dict(type='BN', requires_grad=True),
                 zero_init_residual: bool = False,
                 avg_down: bool = True,
                 **kwargs: Any):
        if zero_init_residual:
            raise ValueError('PreActResNet_CIFAR has no norm at the end of a '
                             'branch; zero_init_residual must be False')
        super().__init__(
            depth,
            num_stages=num_stages,
            strides=strides,
            dilations=dilations,
            out_indices=out_indices,
            norm_cfg=norm_cfg,
            zero_init_residual=False,
            avg_down=avg_down,
            **kwargs)
        self.last_norm_name, norm = build_norm_layer(
            norm_cfg, getattr(self, self.stage_names[-1])[-1].out_channels, 1)
        self.add_module(self.last_norm_name, norm)

    def _add_stem(self, parts: Parts, in_channels: int, channels: int) -> None:
        self.bn0 = nn.BatchNorm2d(in_channels, affine=False)
        self.conv1 = parts.conv(in_channels, channels, 3, padding=1)
        self.relu = parts.act(inplace=True)

    def forward_stem(self, x: Tensor) -> Tensor:
        return self.conv1(self.bn0(x))

    def stem_modules(self) -> List[nn.Module]:
        return [self.bn0, self.conv1]

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        outs = super().forward(x)
        if self.out_indices[-1] != self.num_stages - 1:
            return outs
        norm = getattr(self, self.last_norm_name)
        return (*outs[:-1], self.relu(norm(outs[-1])))
