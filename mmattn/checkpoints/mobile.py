"""Rules of mobile networks, by torchvision's names or ones close to them.

Sources extend these rules; no table is here.
"""
from typing import Dict, Sequence, Tuple

from .convert import Rules, below


def conv_norm(ours: str, conv: str, norm: str) -> Rules:
    """A convolution and its norm, which are one module of ours."""
    return {f'{conv}.*': f'{ours}.conv.*', f'{norm}.*': f'{ours}.bn.*'}


CONV_NORM = {'0.*': 'conv.*', '1.*': 'bn.*'}
# Inverted residuals; the first of MobileNetV2 has no expansion.
FIRST = {
    **below('conv.0.', 'conv.0.', CONV_NORM),
    **conv_norm('conv.1', 'conv.1', 'conv.2'),
}
INVERTED = {
    **below('conv.0.', 'conv.0.', CONV_NORM),
    **below('conv.1.', 'conv.1.', CONV_NORM),
    **conv_norm('conv.2', 'conv.2', 'conv.3'),
}
# Those of MNASNet are one sequence with its activations.
SEQUENCE = below(
    'layers.', '', {
        **conv_norm('conv.0', '0', '1'),
        **conv_norm('conv.1', '3', '4'),
        **conv_norm('conv.2', '6', '7'),
    })


def in_a_row(blocks: str, start: int,
             lengths: Sequence[int]) -> Dict[int, Tuple[str, str]]:
    """Blocks that the source numbers from ``start``, past all stages.

    Args:
        blocks: Their prefix.
        start: The first number.
        lengths: How many blocks a stage has.

    Returns:
        By its number the name of a block, theirs and ours.
    """
    ours = [
        f'backbone.layer{stage}.{j}.'
        for stage, length in enumerate(lengths, 1) for j in range(length)
    ]
    return {i: (f'{blocks}{i}.', name) for i, name in enumerate(ours, start)}


def mobilenet_v2(first: Rules = FIRST,
                 others: Rules = INVERTED,
                 stem: str = 'features.0.',
                 blocks: str = 'features.',
                 start: int = 1,
                 last: str = 'features.18.') -> Rules:
    """A MobileNetV2, by the rules of its first block and of the others.

    Args:
        first: Rules of the first block.
        others: Of the other 16.
        stem: Prefix of the first convolution and its norm.
        blocks: Prefix of the numbered blocks.
        start: Number of the first block.
        last: Prefix of the last convolution and its norm.
    """
    rules = {
        **below(stem, 'backbone.conv1.', CONV_NORM),
        **below(last, 'backbone.conv2.', CONV_NORM),
        'classifier.1.*': 'head.fc.*'
    }
    names = in_a_row(blocks, start, (1, 2, 3, 4, 3, 3, 1))
    for i, (theirs, ours) in names.items():
        rules.update(below(theirs, ours, first if i == start else others))
    return rules


def mnasnet(parts: Rules = {},
            stem: str = 'layers.',
            stacks: str = 'layers.',
            start: int = 8,
            last: Tuple[str, str] = ('layers.14', 'layers.15')) -> Rules:
    """A MNASNet with ``parts`` in the blocks of its stacks.

    Args:
        parts: What its blocks have besides convolutions.
        stem: Prefix of the first three convolutions and their norms.
        stacks: Prefix of the numbered stacks.
        start: Number of the first stack.
        last: The last convolution and its norm.
    """
    rules = {
        **below(stem, 'backbone.', {
            **conv_norm('conv1', '0', '1'),
            **conv_norm('layer1.0.conv.0', '3', '4'),
            **conv_norm('layer1.0.conv.1', '6', '7'),
        }),
        **conv_norm('backbone.conv2', *last), 'classifier.1.*': 'head.fc.*'
    }
    for i in range(6):
        rules.update(
            below(f'{stacks}{start + i}.{{}}.', f'backbone.layer{i + 2}.{{}}.',
                  {**SEQUENCE, **parts}))
    return rules
