"""Write the model zoo from the metafiles that model-index.yml names.

``python tools/make_model_zoo.py`` writes docs/model_zoo.md and, between their
two markers, the tables in the README of every folder of configs; with
``--check`` it writes nothing and says which of them are out of date.
"""
import argparse
from collections import defaultdict
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import yaml

from mmattn.complexity import CONVENTIONS, reproduces
from mmattn.complexity.conventions import find

ROOT = Path(__file__).resolve().parents[1]
BEGIN = '<!-- Written by tools/make_model_zoo.py from metafile.yml: -->'
END = '<!-- end of what it writes -->'
PAPERS = ('DCANet', 'SDA-xNet', 'Coordinate Attention', 'AFF', 'ECA-Net')
HEADER = """\
# Model zoo

Written by `python tools/make_model_zoo.py` from the `metafile.yml` of every
folder of configs. All rows of the papers' tables, in their order.

**Every metric here is published: it belongs to the paper. Nothing was trained
by us yet.** Parameters and FLOPs are on the one hand what the paper prints, on
the other what the config's network has, measured: parameters that can be
learned (and, where stages are frozen, those that train), and MACs, its
multiply-adds for one image. Measure them again by

```shell
python tools/complexity.py configs/mask_rcnn/mask_rcnn_sda_r86_1x_coco.py
```

Papers count in different ways. `same rule` is our network counted by the
convention named under the table, `--convention` of that tool. A row is
**exact** where that, rounded, gives every printed digit of parameters and
FLOPs (`300M` is read as rounded to tens), and **explained** otherwise; the
number leads to a note. `tests/test_model_zoo.py` measures every network and
fails where one of these figures no longer holds.

Images are 224 x 224 for ImageNet, 32 x 32 for CIFAR, 1280 x 800 for detectors
(with 1000 proposals, 100 for masks), 320 x 320 for SSDLite, 512 x 512 for VOC
2012 and 1024 x 512 for Cityscapes. The conventions:

"""


def read() -> List[dict]:
    """Every metafile, in the order of model-index.yml."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    return [yaml.safe_load((ROOT / path).read_text())
            for path in index['Import']]


def like(figure: dict) -> str:
    """What is counted here, in the unit and precision of what is printed."""
    number, unit = figure['Printed'][:-1], figure['Printed'][-1]
    power = {'M': 2, 'G': 3}[unit]
    value = figure['Counted'] / find(figure['Convention']).base**power
    return f"{value:.{len(number.partition('.')[2])}f}{unit}"


def exact(row: dict) -> bool:
    """Whether each figure a row prints is what its convention gives here."""
    printed = figures(row).values()
    return bool(printed) and all(
        reproduces(figure['Counted'], figure['Printed'],
                   find(figure['Convention']).base) == 'rounded'
        for figure in printed)


def figures(row: dict) -> Dict[str, dict]:
    """What a row prints of the network's size."""
    return {k: row[k] for k in ('Parameters', 'FLOPs') if k in row}


def _size(model: dict) -> List[str]:
    """Measured parameters and multiply-adds."""
    data = model['Metadata']
    parameters = f"{data['Parameters']:,}"
    if 'Trainable' in data:
        parameters += f" ({data['Trainable']:,} train)"
    return [parameters, f"{data['FLOPs'] / 1e9:.3f}G"]


def _line(cells: List[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def _link(model: dict, folder: str) -> str:
    """A link to the config, from docs or from the folder itself."""
    path = Path(model['Config'])
    target = f'../{path}' if folder == 'docs' else path.name
    return f'[{path.stem}]({target})'


def table(rows: List[Tuple[dict, dict]], folder: str) -> str:
    """One table of a paper: the models with what is published of each."""
    metrics = list(dict.fromkeys(
        name for _, row in rows for name in row.get('Metrics', {})))
    heads = ['method', 'config'] + [f'{name}, published' for name in metrics]
    shown = [key for key in ('Parameters', 'FLOPs')
             if any(key in row for _, row in rows)]
    for key in shown:
        heads += [f'{key}, published', 'same rule']
    heads += ['parameters, measured', 'MACs, measured', 'match']
    lines = [_line(heads), '|' + '---|' * len(heads)]
    notes = []
    for model, row in rows:
        cells = [row['Row'], _link(model, folder)]
        cells += [row.get('Metrics', {}).get(name, '-') for name in metrics]
        for key in shown:
            figure = row.get(key)
            cells += [figure['Printed'], like(figure)] if figure else '--'
        match = 'exact' if exact(row) else 'explained'
        if 'Note' in row:
            if row['Note'] not in notes:
                notes.append(row['Note'])
            match += f" ({notes.index(row['Note']) + 1})"
        lines.append(_line(cells + _size(model) + [match]))
    lines += [''] + list(_conventions(rows, shown))
    lines += [f'{i}. {note}' for i, note in enumerate(notes, 1)]
    return '\n'.join(lines).rstrip() + '\n'


def _conventions(rows: List[Tuple[dict, dict]],
                 shown: List[str]) -> Iterator[str]:
    """Which rule counts which column, and the rows with another one."""
    for key in shown:
        names = defaultdict(list)
        for _, row in rows:
            if key in row:
                names[row[key]['Convention']].append(row['Row'])
        usual = max(names, key=lambda name: len(names[name]))
        others = ''.join(
            f"; `{name}` for {', '.join(methods)}"
            for name, methods in names.items() if name != usual)
        yield f'{key} by convention `{usual}`{others}.\n'


def _rules() -> str:
    """A list of the conventions."""
    return ''.join(f'- `{name}`: {about}\n'
                   for name, about in CONVENTIONS.items())


def _without_row(models: List[dict], folder: str) -> str:
    """The models that no table has."""
    lines = [_line(['config', 'parameters, measured', 'MACs, measured']),
             '|---|---|---|']
    lines += [_line([_link(model, folder)] + _size(model))
              for model in models]
    return '\n'.join(lines) + '\n'


def _sections(metafiles: List[dict], folder: str,
              level: str) -> Iterator[str]:
    """Every table of every paper, then what no table has."""
    tables, rest = defaultdict(list), []
    for model in (m for metafile in metafiles for m in metafile['Models']):
        published = model['Metadata'].get('Published', [])
        for row in published:
            key = (PAPERS.index(row['Paper']), row['Table'], row['Title'])
            tables[key].append((model, row))
        if not published:
            rest.append(model)
    for (paper, number, title), rows in sorted(
            tables.items(), key=lambda item: item[0][:2]):
        word = 'tables' if '+' in number else 'table'
        yield (f"{level} {PAPERS[paper]}, {word} "
               f"{number.replace('+', ' and ')}: {title}\n")
        yield table(rows, folder)
    if rest:
        yield f"{level} In no paper's table\n"
        yield _without_row(rest, folder)


def pages() -> Dict[Path, str]:
    """What every generated file has to hold."""
    metafiles = read()
    made = {
        ROOT / 'docs' / 'model_zoo.md':
        '\n'.join([HEADER + _rules(), *_sections(metafiles, 'docs', '##')])
    }
    for metafile in metafiles:
        path = ROOT / metafile['Collections'][0]['README']
        text = path.read_text()
        if text.count(BEGIN) != 1 or text.count(END) != 1:
            raise ValueError(
                f'{path} needs one line "{BEGIN}" and, below it, one line '
                f'"{END}": the tables go between them')
        before, _, tail = text.partition(BEGIN)
        after = tail.partition(END)[2]
        tables = '\n'.join(_sections([metafile], str(path.parent), '###'))
        made[path] = f'{before}{BEGIN}\n\n{tables}\n{END}{after}'
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Write docs/model_zoo.md and the tables of the READMEs '
        'of configs, from the metafiles.')
    parser.add_argument(
        '--check', action='store_true',
        help='write nothing; exit with 1 if a file is out of date')
    check = parser.parse_args().check
    old = {path: text for path, text in pages().items()
           if not path.exists() or path.read_text() != text}
    for path, text in old.items():
        print('out of date:' if check else 'written:', path.relative_to(ROOT))
        if not check:
            path.write_text(text)
    if check and old:
        raise SystemExit('run: python tools/make_model_zoo.py')


if __name__ == '__main__':
    main()
