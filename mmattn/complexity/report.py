"""Writes complexities as text, Markdown, CSV or JSON."""
import csv
import io
import json
from dataclasses import asdict
from typing import List, Sequence, Tuple

from . import CONVENTIONS, PARTS, Complexity

Row = Tuple[str, Complexity]
FORMATS = ('text', 'markdown', 'csv', 'json')


def _units(base: int) -> Tuple[str, str]:
    return ('M', 'G') if base == 1000 else ('Mi', 'Gi')


def _cells(name: str, c: Complexity) -> List[str]:
    mega, giga = c.base**2, c.base**3
    height, width = c.input_size
    # A share of parameters, a share of MACs; nothing for what is not there.
    shares = [
        f'{100 * params / c.params:.1f} / {100 * macs / c.macs:.1f}'
        if params or macs else '-' for params, macs in c.parts.values()
    ]
    return [name, f'{height}x{width}',
            *(f'{n / mega:.2f}' for n in (c.params, c.trainable, c.total,
                                          c.counted)),
            f'{c.macs / giga:.3f}', *shares]


def _table(rows: Sequence[Row]) -> List[List[str]]:
    mega, giga = _units(rows[0][1].base)
    head = ['config', 'input', f'params ({mega})', f'trainable ({mega})',
            f'total ({mega})', f'counted ({mega})', f'FLOPs ({giga})']
    head += [f'{part} (% params / FLOPs)' for part in PARTS]
    return [head, *(_cells(name, c) for name, c in rows)]


def _legend(rows: Sequence[Row]) -> str:
    convention = rows[0][1].convention
    lines = [
        f'{convention}: {CONVENTIONS[convention]}.',
        'params: all parameters; trainable: without frozen stages; total: '
        'params and the running statistics of norms; counted: as the '
        'convention counts them. One image.'
    ]
    proposals = next((c.proposals for _, c in rows if c.proposals), None)
    if proposals:
        lines.append(f'Box heads see {proposals[0]} dummy proposals, mask '
                     f'heads {proposals[1]}.')
    return '\n'.join(lines)


def _text(rows: Sequence[Row]) -> str:
    """One block a config: seven shares do not fit a line."""
    mega, giga = _units(rows[0][1].base)
    blocks = []
    for name, c in rows:
        height, width = c.input_size
        m, g = c.base**2, c.base**3
        lines = [f'{name}  ({height}x{width})']
        for word in ('params', 'trainable', 'total', 'counted'):
            n = getattr(c, word)
            lines.append(f'  {word:<14}{n:>16,}{n / m:>10.2f} {mega}')
        lines.append(f'  {"FLOPs":<14}{c.macs:>16,}{c.macs / g:>10.3f} {giga}')
        lines.append(f'  {"share of":<14}{"params":>16}{"FLOPs":>18}')
        for part, (params, macs) in c.parts.items():
            if params or macs:
                lines.append(f'  {part:<14}{params:>16,}{macs:>18,}'
                             f'{100 * params / c.params:>7.1f} %'
                             f'{100 * macs / c.macs:>7.1f} %')
        blocks.append('\n'.join(lines))
    return '\n\n'.join([*blocks, _legend(rows)]) + '\n'


def _markdown(rows: Sequence[Row]) -> str:
    head, *body = _table(rows)
    lines = ['| ' + ' | '.join(cells) + ' |'
             for cells in (head, ['---'] * len(head), *body)]
    return '\n'.join([*lines, '', _legend(rows)]) + '\n'


def flat(name: str, c: Complexity) -> dict:
    """One level of names and whole numbers, as CSV and JSON hold them."""
    record = dict(config=name, **asdict(c))
    record['height'], record['width'] = record.pop('input_size')
    boxes, masks = record.pop('proposals') or (None, None)
    record.update(box_proposals=boxes, mask_proposals=masks)
    for part, (params, macs) in record.pop('parts').items():
        key = part.replace(' ', '_')
        record.update({f'{key}_params': params, f'{key}_macs': macs})
    return record


def _csv(rows: Sequence[Row]) -> str:
    records = [flat(name, c) for name, c in rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def _json(rows: Sequence[Row]) -> str:
    return json.dumps([flat(*row) for row in rows], indent=1) + '\n'


def render(rows: Sequence[Row], form: str) -> str:
    """Write complexities of one convention.

    Args:
        rows: At least one name of a config with its complexity.
        form: One of ``FORMATS``. CSV and JSON hold whole numbers.
    """
    return dict(
        text=_text, markdown=_markdown, csv=_csv, json=_json)[form](rows)
