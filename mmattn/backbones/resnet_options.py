"""Options of the stock ResNets, checked and put into our words."""
from fractions import Fraction
from typing import List, Optional, Sequence, Tuple

from ..checks import check_choice, check_positive, is_list
from ..parts import Word, factory
from .resnet_blocks import Bottleneck, SKBottleneck


def block_and_settings(block_type: type, depth: object, base_channels: int,
                       expansion: Optional[int], avg_down: bool, groups: int,
                       base_width: Optional[int],
                       width_per_group: Optional[int], style: str,
                       branches: Optional[Sequence[dict]]
                       ) -> Tuple[type, dict]:
    """The block of a network, and what all its blocks are called with.

    Raises:
        ValueError: Options that contradict each other or the block.
    """
    if expansion not in (None, block_type.expansion):
        raise ValueError(f'expansion={expansion!r}: the blocks of depth '
                         f'{depth} have {block_type.expansion}')
    check_choice(('pytorch', 'caffe'), style=style)
    if width_per_group is not None:
        if base_width not in (None, width_per_group):
            raise ValueError(f'base_width={base_width} and '
                             f'width_per_group={width_per_group} are two '
                             'names of one thing; give one')
        base_width = width_per_group
    settings = dict(avg_down=avg_down)
    if not issubclass(block_type, Bottleneck):
        if (groups != 1 or base_width is not None or style != 'pytorch'
                or branches is not None):
            raise ValueError(f'groups={groups}, base_width={base_width}, '
                             f'style={style!r}, branches={branches!r}: depth '
                             f'{depth} has basic blocks, which know none of '
                             'them')
        return block_type, settings
    width = 1. if base_width is None else (
        Fraction(base_width * groups, base_channels))  # no rounding
    settings.update(groups=groups, width=width, style=style)
    if branches is not None:
        check_branches(branches)
        return SKBottleneck, dict(settings, branches=branches)
    return block_type, settings


def check_branches(branches: Sequence[dict],
                   allowed: Sequence[str] = ('dilation', 'groups')) -> None:
    """Raise ValueError unless each is a dict of options that branches have."""
    if not is_list(branches) or not branches or not all(
            isinstance(options, dict) and set(options) <= set(allowed)
            for options in branches):
        raise ValueError(
            'branches must list one dict for each further convolution, with '
            f'{" or ".join(allowed)}, as [dict(dilation=2)]; got '
            f'{branches!r}')
    for options in branches:
        check_positive(**options)


def spatial_convs(conv2: Word, dcn: Optional[dict],
                  stage_with_dcn: Sequence[bool], num_stages: int) -> Word:
    """``conv2`` for each stage, with the host's ``dcn`` filled in."""
    if not is_list(stage_with_dcn) or not all(
            isinstance(with_dcn, bool) for with_dcn in stage_with_dcn):
        raise ValueError('stage_with_dcn must list True or False for each '
                         f'stage, got {stage_with_dcn!r}')
    if dcn is None:
        if any(stage_with_dcn):
            raise ValueError('stage_with_dcn needs dcn, the deformable '
                             "convolution: dcn=dict(type='DCNv2', "
                             'deform_groups=1)')
        return conv2
    if len(stage_with_dcn) != num_stages or not any(stage_with_dcn):
        raise ValueError(f'dcn needs stage_with_dcn with one entry for '
                         f'each of {num_stages} stages and one of them '
                         f'True, got {tuple(stage_with_dcn)}')
    if conv2 is not None:
        raise ValueError('dcn and conv2 both replace the 3x3 '
                         'convolution; give one')
    if not isinstance(dcn, dict):
        raise TypeError(f'dcn must be a dict, got {dcn!r}')
    dcn = dict(dcn)
    if dcn.pop('fallback_on_stride', False):
        raise ValueError('fallback_on_stride=True would leave plain '
                         'convolutions; drop dcn from those stages')
    try:
        factory(dcn, 'conv2')
    except (TypeError, ValueError) as error:
        raise type(error)(f'dcn is a conv2, and {error}') from error
    return [dcn if with_dcn else None for with_dcn in stage_with_dcn]


def block_dilations(dilation: int, num_blocks: int, contract: bool,
                    multi_grid: Optional[Sequence[int]]) -> List[int]:
    """The dilation of each block of a stage."""
    if multi_grid is not None:
        if len(multi_grid) != num_blocks:
            raise ValueError(f'multi_grid={tuple(multi_grid)} must have '
                             f'one entry for each of the {num_blocks} '
                             'blocks of the last stage')
        return list(multi_grid)
    first = dilation // 2 if contract and dilation > 1 else dilation
    return [first] + [dilation] * (num_blocks - 1)
