"""How deep a parameter lies, for learning rates that decay by layer.

mmpretrain's ``LearningRateDecayOptimWrapperConstructor`` asks a classifier,
and the classifier its backbone. The constructors of mmdetection and
mmsegmentation (``LearningRateDecayOptimizerConstructor``,
``LayerDecayOptimizerConstructor``) ask nobody: they know the names of ConvNeXt
and BEiT, and refuse every other backbone.
"""
from math import ceil
from typing import List, Sequence, Tuple

# Blocks that are one layer in the second and the third stage, by the number
# of blocks of these stages: ResNet-152, -200 and -269.
SIZES = {(8, 36): (4, 4), (24, 36): (4, 4), (30, 48): (5, 6)}


def layer_sizes(blocks: Sequence[int]) -> List[int]:
    """How many blocks of each stage make one layer.

    The first and the last stage are one layer each, as are 2 blocks of the
    second and 3 of every other stage; more of them in very deep networks.

    Args:
        blocks: The number of blocks of each stage.
    """
    sizes = SIZES.get(tuple(blocks[1:3]), (2, 3))
    between = [sizes[0], *[sizes[1]] * len(blocks)]
    inner = between[:max(0, len(blocks) - 2)]
    return [blocks[0], *inner, blocks[-1]][:len(blocks)]


def layer_depth(name: str, children: Sequence[str], stages: Sequence[str],
                blocks: Sequence[int]) -> Tuple[int, int]:
    """The layer of a backbone's parameter, and how many layers there are.

    Layer 0 is what comes before the stages; then come the layers of
    ``layer_sizes``, and the head is the last of all. What a network adds to
    a block counts with the block, what follows the blocks of a stage (depth
    fusion, the stage's attention) and what follows the stages with the last
    layer before.

    Args:
        name: Of the parameter, without the backbone's prefix; an empty one
            is the head.
        children: The backbone's modules in their order.
        stages: The names of its stages among them.
        blocks: The number of blocks of each stage.

    Raises:
        ValueError: The backbone has no such parameter.
    """
    sizes = layer_sizes(blocks)
    ends = [0]  # the last layer of the stem, then of each stage
    for count, size in zip(blocks, sizes):
        ends.append(ends[-1] + ceil(count / size))
    total = ends[-1] + 2
    if not name:
        return total - 1, total
    child, _, rest = name.partition('.')
    if child not in children:
        raise ValueError(f'{name} is no parameter of this backbone; its '
                         f'modules are {", ".join(children)}')
    if child not in stages:
        place = children.index(child)
        behind = place > children.index(stages[-1])
        return ends[-1] if behind else 0, total
    stage, block = stages.index(child), rest.partition('.')[0]
    if not block.isdigit():
        return ends[stage + 1], total
    return ends[stage] + 1 + int(block) // sizes[stage], total
