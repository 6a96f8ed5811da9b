import argparse
import ast
import os
import re
import tempfile
import textwrap
from pathlib import Path
from typing import Any, List, Optional

from . import CommandError

HELP = 'write a config with another backbone, and check that it builds'
WORDS = ('attention', 'link', 'fusion', 'depth_fusion')
WORD = """\
replaces the backbone's own; a registered name, and options if it needs some:
SE or SE:ratio=16,gate_init=identity; none for none"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``mmattn swap`` takes."""
    parser.add_argument(
        'config', nargs='?', metavar='CONFIG',
        help='of mmdet, mmseg or mmpretrain: a file, or a name such as '
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    parser.add_argument(
        '--backbone', metavar='NAME', help='see --list; for instance sda_r50')
    parser.add_argument(
        '-o', '--out', metavar='OUT.py', help='the config to write')
    for word in WORDS:
        option = word.replace('_', '-')
        parser.add_argument(
            f'--{option}', metavar='TYPE[:KEY=VALUE,...]',
            help=WORD if word == 'attention' else 'likewise')
    parser.add_argument(
        '--force', action='store_true', help='overwrite OUT.py')
    parser.add_argument(
        '--list', action='store_true', help='print the names of backbones')


def parse_word(text: str) -> Optional[dict]:
    """``Type:key=value,...`` as a config word; ``none`` is None.

    Values are Python's: numbers, True, None, lists; all else is a string.

    Raises:
        CommandError: It is not of that form.
    """
    if text.lower() == 'none':
        return None
    kind, colon, rest = text.partition(':')
    word = dict(type=kind)
    for item in re.split(r',(?=\w+=)', rest) if colon else []:
        key, equals, value = item.partition('=')
        if not (key.isidentifier() and equals and value):
            raise CommandError(
                f'{text!r} is not TYPE:KEY=VALUE,KEY=VALUE; for instance '
                'SE:ratio=16')
        try:
            word[key] = ast.literal_eval(
                {'true': 'True', 'false': 'False', 'none': 'None'}.get(
                    value, value))
        except (SyntaxError, ValueError):
            word[key] = value
    if not kind.isidentifier():
        raise CommandError(f'{text!r} does not begin with the name of a part; '
                           '`mmattn list --parts` prints them')
    return word


def written(value: Any, indent: int = 0, lead: int = 0) -> str:
    """A config value as code, in lines of at most 79 columns.

    Args:
        value: Dicts, lists and plain values.
        indent: Columns before the line.
        lead: Columns that stand before the value in its first line.
    """
    if isinstance(value, dict):
        items = [(f'{k}=', v) for k, v in value.items()]
        opening, closing = 'dict(', ')'
    elif isinstance(value, (list, tuple)):
        items = [('', v) for v in value]
        opening, closing = '[]' if isinstance(value, list) else '()'
    else:
        return repr(value)
    inner = [key + written(v, -10**6) for key, v in items]
    comma = ',' if isinstance(value, tuple) and len(inner) == 1 else ''
    line = opening + ', '.join(inner) + comma + closing
    if indent + lead + len(line) < 79 or not inner:
        return line
    pad = ' ' * (indent + 4)
    lines = [pad + key + written(v, indent + 4, len(key) + 1)
             for key, v in items]
    return opening + '\n' + ',\n'.join(lines) + comma + closing


def _comment(text: str) -> List[str]:
    return textwrap.wrap(
        text, 79, initial_indent='# ', subsequent_indent='# ',
        break_long_words=False, break_on_hyphens=False)


def read_config(base: str, folder: Path) -> Any:
    """Read a config that stands as ``_base_``; CommandError if it cannot."""
    from mmengine.config import Config
    if '::' not in base and not (folder / base).is_file():
        raise CommandError(f'config {base!r} is not a file (looked from '
                           f'{folder})')
    if '::' not in base:
        text = (folder / base).read_text('utf-8', errors='replace')
        if re.search(r'^\s*with read_base\(\)', text, re.M):
            raise CommandError(
                f'{base} is a config in pure Python, and no _base_ of a text '
                "config; give the text config of that name, as 'mmdet::...'")
    return _read(f'_base_ = {base!r}\n', folder, Config)


def _read(text: str, folder: Path, reader: Any) -> Any:
    with tempfile.NamedTemporaryFile(
            'w', suffix='.py', dir=folder, delete=False,
            encoding='utf-8') as file:
        file.write(text)
    try:
        return reader.fromfile(file.name)
    except Exception as error:  # a config is code
        raise CommandError(f'the config cannot be read: '
                           f'{type(error).__name__}: {error}') from error
    finally:
        os.unlink(file.name)


def check(cfg: Any, strides: List[int]) -> None:
    """Build the model of a config and run what stands before its heads.

    Raises:
        CommandError: It does not build or run.
    """
    import torch
    from mmengine.registry import MODELS

    from .backbone import SIZE
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    scope = cfg.get('default_scope')
    try:
        model = MODELS.build(cfg.model)
        model.eval()
        channels = cfg.model.backbone.get('in_channels', 3)
        image = torch.zeros(1, channels, SIZE, SIZE)
        with torch.no_grad():
            if scope in ('mmseg', 'mmpretrain'):
                model(image, mode='tensor')
            else:
                maps = model.extract_feat(image)
                head = getattr(model, 'rpn_head', None)
                if head is None and cfg.model.get('neck', {}).get(
                        'type') == 'SSDNeck':
                    head = model.bbox_head
                if head is not None:
                    head(maps)
    except Exception as error:  # the model's own, whatever it is
        raise CommandError(f'the result does not build or run: '
                           f'{type(error).__name__}: {error}') from error


def run(args: argparse.Namespace) -> int:
    """Write the config, or say why not."""
    from .presets import preset, table
    if args.list:
        print(table())
        return 0
    if not (args.config and args.backbone and args.out):
        raise CommandError('CONFIG, --backbone and -o are needed; '
                           '`mmattn swap --help` says more')
    out = Path(args.out)
    if out.suffix != '.py':
        raise CommandError(f'{out} is a config to write: it must end in .py')
    if out.exists() and not args.force:
        raise CommandError(f'{out} exists; give another -o, or --force')
    if not out.parent.is_dir():
        raise CommandError(f'{out.parent} is not a folder')
    base = args.config
    if '::' not in base:
        base = os.path.relpath(base, out.parent)
    chosen = preset(args.backbone)
    words = {
        word: parse_word(getattr(args, word))
        for word in WORDS if getattr(args, word) is not None
    }
    text, report = compose(base, out.parent, args.backbone, chosen, words)
    out.write_text(text, encoding='utf-8')
    print(f'wrote {out}')
    print('\n'.join(report))
    return 0


def compose(base: str, folder: Path, name: str, chosen: Any,
            words: dict) -> tuple:
    """The text of the config, and what to tell about it.

    Args:
        base: What it inherits from, as seen from its folder.
        folder: Where it will be.
        name: Of the backbone.
        chosen: The preset of that name.
        words: What replaces the preset's words.

    Raises:
        CommandError: The backbone cannot be swapped, or the result fails.
    """
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    from .backbone import swap_backbone
    from .channels import reader_overrides
    cfg = read_config(base, folder)
    model = cfg.get('model')
    if not isinstance(model, dict) or not isinstance(
            model.get('backbone'), dict):
        raise CommandError(f'{base} has no model.backbone to swap')
    model = cfg.model.to_dict()
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    scope = cfg.get('default_scope') or 'mmengine'
    with DefaultScope.overwrite_default_scope(scope):
        swap = swap_backbone(model, chosen, words)
        override = dict(backbone=swap.override)
        override.update(reader_overrides(model, swap.old, swap.new))
        if model.get('pretrained') and not swap.same_trunk:
            override = dict(pretrained=None, **override)
        notes = swap.notes
        lines = [f'_base_ = {base!r}', '',
                 f'model = {written(override, 0, 8)}']
        if cfg.get('load_from') and not swap.same_trunk:
            lines.append('load_from = None')
            notes.append(f'load_from {cfg.load_from} is of the old network')
        added = ''.join(
            f' --{word.replace("_", "-")} {part["type"] if part else "none"}'
            for word, part in words.items())
        header = _comment(f'{base} with the backbone {name}{added}, by '
                          '`mmattn swap`.')
        for note in notes:
            header += _comment(note[0].upper() + note[1:] + '.')
        text = '\n'.join(header + lines) + '\n'
        check(_read(text, folder, Config), swap.strides)
    report = [f'backbone: channels {swap.new} at strides {swap.strides}'
              f'{"" if swap.old == swap.new else f" (were {swap.old})"}',
              *notes]
    return text, report
