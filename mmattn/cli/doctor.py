"""``mmattn doctor``: what is wrong with the stack or a config, and the fix."""
import argparse
import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import List

from ..engine.configs import Options

HELP = 'look for what keeps the installed stack or a config from working'


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'must be a number of processes from 1 on, got {text!r}')
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'config', nargs='?', help="a file, or 'mmdet::folder/name.py' of an "
        'installed toolbox; without it only the stack is checked')
    parser.add_argument(
        '--gpus', type=_count, metavar='N',
        help='how many processes will train, for the learning rate')
    parser.add_argument(
        '--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
        help='entries that replace those of the config')
    parser.add_argument(
        '--offline', action='store_true',
        help='ask no server whether it has the weights')
    parser.add_argument(
        '--json', action='store_true',
        help='print a list of findings in JSON')
    parser.set_defaults(usage_error=parser.error)


def show(findings: List) -> str:
    """The findings as text, fatal ones last, where they are seen."""
    lines = []
    for severity in ('ok', 'warning', 'fatal'):
        for finding in findings:
            if finding.severity == severity:
                lines.append(f'{severity:7}  {finding.check}: '
                             f'{finding.message}')
                if finding.fix:
                    lines.append(f'         -> {finding.fix}')
    counts = [f.severity for f in findings]
    lines.append(f'{counts.count("fatal")} fatal, '
                 f'{counts.count("warning")} warning(s)')
    return '\n'.join(lines)


def run(args: argparse.Namespace) -> int:
    """Print the findings.

    Returns:
        0 where nothing is fatal, 1 where something is; wrong usage ends in
        ``SystemExit`` with 2.
    """
    from mmattn.doctor import FATAL, diagnose
    try:
        # What libraries print must not end up in the report.
        with redirect_stdout(sys.stderr):
            findings = diagnose(args.config, args.gpus, args.offline,
                                args.cfg_options)
    except FileNotFoundError as error:
        args.usage_error(str(error))
    if args.json:
        print(json.dumps([asdict(f) for f in findings], indent=2))
    else:
        print(show(findings))
    return int(any(f.severity == FATAL for f in findings))
