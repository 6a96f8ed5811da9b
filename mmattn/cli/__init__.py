"""The command ``mmattn``: one module for each subcommand.

Such a module has ``HELP``, ``add_arguments(parser)`` and ``run(args)``, which
returns the exit code. It imports what takes long inside ``run``.
"""
import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import List, Optional

import mmattn

# Each subcommand and its module in this package.
COMMANDS = {
    'list': 'list_models',
    'swap': 'swap',
    'doctor': 'doctor',
    'infer': 'infer',
}


class CommandError(Exception):
    """What a user can put right; printed in place of a traceback."""


def _parser(only: Optional[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='mmattn', description=mmattn.__doc__.splitlines()[0])
    parser.add_argument(
        '--version', action='version', version=mmattn.__version__)
    commands = parser.add_subparsers(
        title='commands', metavar='COMMAND', required=True)
    for name, module in COMMANDS.items():
        full = f'{__name__}.{module}'
        if only not in (None, name) or find_spec(full) is None:
            continue
        command = import_module(full)
        sub = commands.add_parser(
            name, help=command.HELP, description=command.HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    """Run a subcommand.

    Args:
        argv: Its name and arguments; those of the process by default.

    Returns:
        The exit code: the subcommand's, or 1 after an error. Wrong arguments
        end in ``SystemExit`` with 2, as argparse has it.
    """
    argv = sys.argv[1:] if argv is None else argv
    # A known name needs no other subcommand's module.
    only = argv[0] if argv and argv[0] in COMMANDS else None
    args = _parser(only).parse_args(argv)
    try:
        return args.run(args)
    except CommandError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
