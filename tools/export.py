"""Write a trained model to a file that runs without this package.

    python tools/export.py CONFIG CHECKPOINT -o OUT.onnx
    python tools/export.py CONFIG -o OUT.pt2 --input 320x320
    python tools/export.py --table > table.md

The ending of OUT is the format: .pt (TorchScript), .pt2 (torch.export) or
.onnx. The file goes from the normalised image, (B, 3, H, W) for any B, H and
W, to raw outputs: a classifier's scores, a segmentor's scores of each pixel,
what a one-stage detector's head says on each level. It is run beside the
model on two image sizes before this reports success.
"""
import argparse
import re
import sys
import tempfile
from typing import List, Optional, Tuple

import mmattn  # noqa: F401  (its configs and names resolve)
from mmattn.checkpoints import install_safe_loading
from mmattn.complexity.models import default_size
from mmattn.engine.launch import UsageError
from mmattn.export import FORMATS, ExportError, Network, export
from mmattn.export.table import table
from mmattn.visualization.loading import RANDOM, load_model


def _size(text: str) -> Tuple[int, int]:
    if not re.fullmatch(r'[1-9]\d*x[1-9]\d*', text):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not HEIGHTxWIDTH in pixels, such as 320x320')
    height, width = text.split('x')
    return int(height), int(width)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', metavar='CONFIG')
    parser.add_argument(
        'checkpoint', nargs='?', default=RANDOM, metavar='CHECKPOINT',
        help='read without running code of its; without one the weights are '
        'at a random start, to see whether the model can be exported')
    parser.add_argument('-o', '--out', help='the file to write')
    parser.add_argument(
        '--input', type=_size, metavar='HxW',
        help='size of the example it is exported with; default: what '
        'tools/complexity.py counts the model at')
    parser.add_argument(
        '--table', action='store_true', help='print which of our networks go '
        'into which format, by trying all: minutes')
    args = parser.parse_args(argv)
    if args.table and (args.config or args.out or args.input):
        parser.error('--table stands alone')
    if not args.table and not (args.config and args.out):
        parser.error('give a CONFIG and -o OUT'
                     f'{{{",".join(FORMATS)}}}, or --table')
    return args


def print_table() -> None:
    # What libraries print while they export is not part of the page.
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        with tempfile.TemporaryDirectory() as folder:
            page = table(folder)
    finally:
        sys.stdout = stdout
    print(page, end='')


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    if args.table:
        print_table()
        return
    install_safe_loading()
    try:
        loaded = load_model(args.config, args.checkpoint)
        net = Network(loaded.model)
        report = export(net, args.out,
                        args.input or default_size(loaded.cfg, net.kind))
    except (ExportError, UsageError, ValueError) as error:
        sys.exit(f'export.py: error: {error}')
    if args.checkpoint == RANDOM:
        print('no checkpoint: the weights in this file are random')
    for shape, difference in zip(report.shapes, report.differences):
        print(f'{"x".join(map(str, shape))}: differs from the model by '
              f'{difference:.1e} of the largest output')
    size = report.path.stat().st_size / 1e6
    print(f'wrote {report.path}, {size:.1f} MB')


if __name__ == '__main__':
    main()
