"""Print the table of docs/parts.md: ``python tools/list_parts.py``."""
import inspect
from typing import Iterator, List

from torch import nn

from mmattn.attentions import Attention
from mmattn.backbones import Backbone
from mmattn.fusions import Fusion
from mmattn.links import Link
from mmattn.necks import FPN
from mmattn.registry import MODELS

# What the slot or the network fills in itself.
GIVEN = ('num_maps', 'carry_channels')
REQUIRED_GIVEN = ('in_channels', 'attention')
HEADER = """\
# Registered names

Written by `python tools/list_parts.py > docs/parts.md`. Use a name as
`type='X'` in the words of a backbone, and as `type='mmattn.X'` elsewhere. A
parameter without a default must be given.
"""


def _slot(made: object) -> str:
    if not inspect.isclass(made):
        return 'link'
    for base, slot in ((Fusion, 'fusion, depth_fusion'),
                       (Attention, 'attention, stage_attention'),
                       (Link, 'link'), (Backbone, 'backbone'), (FPN, 'neck'),
                       (nn.Module, 'conv2')):
        if issubclass(made, base):
            return slot
    raise TypeError(f'{made} fits no slot')


def _parameters(made: object) -> Iterator[str]:
    for name, p in inspect.signature(made).parameters.items():
        required = p.default is p.empty
        if (name in GIVEN or p.kind is p.VAR_KEYWORD
                or required and name in REQUIRED_GIVEN):
            continue
        yield f'`{name}`' if required else f'`{name}={p.default!r}`'


def rows() -> List[str]:
    """The table, one row for each registered name."""
    MODELS.get('ResNet')  # imports what the registry knows by location
    lines = ['| name | word | what it does | parameters |', '|---' +
             '|---|---|---|']
    for name, made in sorted(
            MODELS.module_dict.items(), key=lambda kv: (_slot(kv[1]), kv[0])):
        does = inspect.getdoc(made).split('\n')[0].rstrip('.')
        parameters = ', '.join(_parameters(made)) or 'none'
        lines.append(f'| `{name}` | {_slot(made)} | {does} | {parameters} |')
    return lines


def page() -> str:
    """The whole page."""
    return HEADER + '\n' + '\n'.join(rows()) + '\n'


if __name__ == '__main__':
    print(page(), end='')
