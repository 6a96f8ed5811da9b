from typing import Any, Optional, Sequence, Union

from torch import nn

from ..checks import check_choice, check_positive
from ..parts import Parts, Word
from ..registry import MODELS
from .resnet import ResNet
from .resnet_blocks import Bottleneck


class PyConvBottleneck(Bottleneck):
    """A bottleneck whose shortcut keeps the largest of 3x3 values.

    Where the block has a stride; the convolution behind has none.

    Args:
        avg_down: Pool by the mean instead.
        in_channels, channels, stride, dilation, parts, carry_channels,
            settings: As for a bottleneck.
    """

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int,
                 dilation: int,
                 parts: Parts,
                 carry_channels: Optional[int] = None,
                 *,
                 avg_down: bool = False,
                 **settings: Any):
        super().__init__(
            in_channels,
            channels,
            stride,
            dilation,
            parts,
            carry_channels,
            avg_down=True,
            **settings)
        if stride > 1 and not avg_down:
            self.downsample[0] = nn.MaxPool2d(3, stride=stride, padding=1)


def pyramid(kernel_sizes: Sequence[int], branch_groups: Sequence[int],
            shares: Optional[Sequence[int]] = None) -> dict:
    return dict(
        type='PyConv',
        kernel_sizes=kernel_sizes,
        branch_groups=branch_groups,
        shares=shares)


@MODELS.register_module()
class PyConvResNet(ResNet):
    """ResNet whose 3x3 convolutions are pyramids of kernels up to 9x9.

    Four kernels in the first stage, three, two and one in the others. The
    words are those of ``ResNet``, but for ``branches``.

    The stem does not pool: the first block of the first stage has twice the
    stride that ``strides`` says, and shortcuts are pooled by the maximum. The
    stages' strides are those of a ResNet, 4, 8, 16 and 32.

    Args:
        depth: 50, 86, 101, 152, or a tuple with the number of blocks of each
            stage.
        arch: ``'plain'``, or ``'HG'``, high grouping: kernels have 32 groups
            and more, on twice the channels.
        conv2: None leaves the network its own pyramids.
        groups: Of the 3x3 kernels; None is 1, in arch HG 32. Larger kernels
            have a multiple of it.
        base_width: As for ``ResNet``; None is the plain width, in arch HG 4.
        width_per_group: The same under mmpretrain's name.
        avg_down: Pool shortcuts by the mean.

    Source: Duta et al., "Pyramidal Convolution", arXiv:2006.11538, table 2,
        and the authors' released code.
    Departs: HG's blocks double their hidden channels where the released code
        doubles all and halves the expansion (the same network).

    Raises:
        TypeError: An option it does not have.
        ValueError: Another ``arch``; ``branches``; ``dcn``; options that
            contradict each other or the depth.
    """

    custom_block = PyConvBottleneck
    arch_settings = {
        depth: (PyConvBottleneck, depths)
        for depth, (block, depths) in ResNet.arch_settings.items()
        if block is Bottleneck
    }
    # The kernels of each stage; the groups are over those of the 3x3 kernel.
    archs = dict(
        plain=(pyramid((3, 5, 7, 9), (1, 4, 8, 16)),
               pyramid((3, 5, 7), (1, 4, 8), (1, 1, 2)),
               pyramid((3, 5), (1, 4)), None),
        HG=(pyramid((3, 5, 7, 9), (1, 1, 1, 1)),
            pyramid((3, 5, 7), (1, 2, 2), (1, 1, 2)),
            pyramid((3, 5), (1, 2)), None))

    def __init__(self,
                 depth: Union[int, Sequence[int]],
                 *,
                 arch: str = 'plain',
                 conv2: Word = None,
                 groups: Optional[int] = None,
                 base_width: Optional[int] = None,
                 width_per_group: Optional[int] = None,
                 num_stages: int = 4,
                 branches: None = None,
                 dcn: None = None,
                 **kwargs: Any):
        check_choice(self.archs, arch=arch)
        if branches is not None or dcn is not None:
            raise ValueError('PyConvResNet has pyramids in place of its 3x3 '
                             'convolutions; branches and dcn belong to '
                             'ResNet')
        check_positive(num_stages=num_stages)
        if conv2 is None:
            conv2 = self.archs[arch][:num_stages]
        if groups is None:
            groups = 32 if arch == 'HG' else 1
        if arch == 'HG' and base_width is None and width_per_group is None:
            base_width = 4
        super().__init__(
            depth,
            conv2=conv2,
            groups=groups,
            base_width=base_width,
            width_per_group=width_per_group,
            num_stages=num_stages,
            **kwargs)

    def add_stage(self, block_type: Any, rows: Sequence[dict],
                  *args: Any) -> Any:
        first, *others = rows
        if not self.stage_names:
            first = dict(first, stride=2 * first['stride'])
        return super().add_stage(block_type, [first, *others], *args)

    def _add_stem(self, parts: Parts, in_channels: int, channels: int) -> None:
        super()._add_stem(parts, in_channels, channels)
        self.maxpool = nn.Identity()
