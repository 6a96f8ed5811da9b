import argparse
import inspect

HELP = 'list our models with their configs, or the registered parts'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``mmattn list`` takes."""
    parser.add_argument(
        'pattern', nargs='?', metavar='PATTERN',
        help="names to list, such as '*sda*'; quote it")
    parser.add_argument(
        '--parts', action='store_true',
        help='list the names that a config can give as type instead')


def _models(pattern: str) -> list:
    from mmattn.models import CONFIGS, about, config_paths
    return [(name, str(path.relative_to(CONFIGS.resolve())), about(path))
            for name, path in config_paths(pattern).items()]


def _parts(pattern: str) -> list:
    from fnmatch import fnmatchcase

    from mmattn.registry import MODELS
    MODELS.get('ResNet')  # imports what the registry knows by location
    return [(name, made.__module__.split('.')[1],
             inspect.getdoc(made).split('\n')[0])
            for name, made in sorted(MODELS.module_dict.items())
            if fnmatchcase(name, pattern or '*')]


def run(args: argparse.Namespace) -> int:
    """Print a line for each: its name, where it is, what it is."""
    from . import CommandError
    rows = (_parts if args.parts else _models)(args.pattern)
    if not rows:
        raise CommandError(
            f'no name fits {args.pattern!r}; * stands for anything, as in '
            f"'*{args.pattern}*', and `mmattn list` prints all")
    widths = [max(map(len, column)) for column in list(zip(*rows))[:2]]
    for name, place, what in rows:
        print(f'{name:{widths[0]}}  {place:{widths[1]}}  {what}')
    return 0
