"""Show one or more training runs on one HTML page.

    python tools/make_report.py work_dirs/baseline work_dirs/attention \
        -o report.html

Loss, metric and learning-rate curves, the table of best results and sample
pictures, if there are any. The page needs no other file.
"""
import argparse
import sys
from typing import List, Optional

from mmattn.engine.launch import UsageError
from mmattn.visualization.report import make_report


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number')
    return int(text)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'work_dirs', nargs='+', metavar='WORK_DIR', help='what a training '
        'wrote to; its newest run is shown')
    parser.add_argument(
        '-o', '--out', default='report.html', help='default: report.html')
    parser.add_argument(
        '--pictures', type=_count, default=6,
        help='at most so many of each run; default: 6')
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    try:
        make_report(args.work_dirs, args.out, args.pictures)
    except UsageError as error:
        sys.exit(f'make_report.py: error: {error}')
    print(f'see {args.out}')


if __name__ == '__main__':
    main()
