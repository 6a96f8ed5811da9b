"""Print the parameters and multiply-accumulates of configs, and their shares.

    python tools/complexity.py CONFIG...
    python tools/complexity.py configs/mask_rcnn/*.py --convention mmcv \
        --format csv -o mask_rcnn.csv

Counts operators without computing them: no weights, no data, no GPU.
"""
import argparse
import re
import sys
from pathlib import Path
from typing import List, Optional, Tuple

from mmengine.utils import ProgressBar

import mmattn  # noqa: F401  (its configs and names resolve)
from mmattn.complexity import CONVENTIONS, PROPOSALS, measure
from mmattn.complexity.report import FORMATS, render
from mmattn.engine.configs import UsageError


def _size(text: str) -> Tuple[int, int]:
    if not re.fullmatch(r'[1-9]\d*x[1-9]\d*', text):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not HEIGHTxWIDTH in pixels, such as 800x1280')
    height, width = text.split('x')
    return int(height), int(width)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    conventions = '\n'.join(
        f'  {name}: {about}' for name, about in CONVENTIONS.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f'conventions:\n{conventions}',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument(
        '--input', type=_size, metavar='HxW',
        help='size of the one image; default: 224x224 for classifiers, 32x32 '
        'on CIFAR; 800x1280 for detectors, or the fixed size of their test '
        'data; 512x512 for segmentors, 512x1024 on Cityscapes')
    parser.add_argument(
        '--convention', choices=CONVENTIONS, default='macs',
        help='how to count, see below; default: macs')
    parser.add_argument(
        '--proposals', type=int, nargs=2, default=PROPOSALS,
        metavar=('BOXES', 'MASKS'),
        help='dummy proposals through the box and the mask heads of '
        'two-stage detectors; default: %d %d' % PROPOSALS)
    parser.add_argument('--format', choices=FORMATS, default='text')
    parser.add_argument('-o', '--out', help='file to write to')
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    missing = [c for c in args.configs if not Path(c).is_file()]
    if missing:
        sys.exit(f'complexity: config {missing[0]!r} is not a file; check the '
                 'path')
    rows = []
    bar = ProgressBar(len(args.configs), file=sys.stderr)
    for config in args.configs:
        try:
            rows.append((config, measure(config, args.input, args.convention,
                                         tuple(args.proposals))))
        except (ValueError, UsageError) as error:
            sys.exit(f'\ncomplexity: {config}: {error}')
        bar.update()
    print(file=sys.stderr)
    page = render(rows, args.format)
    if args.out is None:
        print(page, end='')
        return
    try:
        Path(args.out).write_text(page)
    except OSError as error:
        sys.exit(f'complexity: cannot write {args.out}: {error}')


if __name__ == '__main__':
    main()
