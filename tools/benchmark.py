"""Measure time and memory of networks, parts and detectors, side by side."""
import argparse
import itertools
import re
import sys
from typing import List, Optional, Tuple

import torch
from mmengine.utils import ProgressBar

from mmattn.benchmark import Row, Setting, compare, parse
from mmattn.benchmark.candidates import GRAMMAR, need
from mmattn.benchmark.measure import baseline_of, check_device
from mmattn.benchmark.report import (depth_of, environment, make_folder, plot,
                                     table, write_csv, write_markdown)
from mmattn.benchmark.traffic import bandwidth
from mmattn.engine.launch import UsageError


def _size(text: str) -> Tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if match is None or '0' in match.groups():
        raise argparse.ArgumentTypeError(
            f'{text!r} must be HEIGHTxWIDTH, such as 224x224')
    return int(match[1]), int(match[2])


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'{text!r} must be a positive integer')
    return int(text)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=GRAMMAR,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'candidates', nargs='*', help='what to measure, in turn')
    parser.add_argument(
        '--baseline', nargs='+', default=[], metavar='LABEL',
        help='what ratios are to: for each candidate the last of these at or '
        'before it; default: the first candidate')
    parser.add_argument(
        '--mode', choices=['inference', 'training', 'both'], default='both',
        help='training: a forward and a backward, no optimizer')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument(
        '--input', nargs='+', type=_size, default=[(224, 224)],
        metavar='HxW', help="sizes of images, or of a part's map")
    parser.add_argument('--batch', nargs='+', type=_count, default=[1])
    parser.add_argument(
        '--channels', type=_count, help='of the input, where a callable takes '
        'other than images of 3')
    parser.add_argument(
        '--compile', nargs='+', choices=['off', 'on'], default=['off'])
    parser.add_argument('--amp', choices=['bf16', 'fp16'])
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument(
        '--rounds', type=_count, default=20, help='timings of each candidate')
    parser.add_argument('--warmup', type=_count, default=3)
    parser.add_argument(
        '--min-time', type=float, default=0.05, metavar='SECONDS',
        help='shorter steps are repeated within one timing')
    parser.add_argument('--threads', type=_count, help='of torch on the CPU')
    parser.add_argument(
        '--bandwidth', action='store_true', help='measure how fast a large '
        'map is copied, and give the floor for attended maps')
    parser.add_argument('--csv', metavar='FILE.csv')
    parser.add_argument('--markdown', metavar='FILE.md')
    parser.add_argument('--plot', metavar='FILE.png')
    parser.add_argument(
        '--plot-x', choices=['params', 'depth'], default='params',
        help="depth: the number that labels end in, 'ours/12 := CANDIDATE'")
    parser.add_argument(
        '--plot-y', choices=['throughput', 'time'], default='throughput')
    args = parser.parse_args(argv)
    if not args.candidates and not args.bandwidth:
        parser.error('give candidates, --bandwidth, or both')
    if args.rounds < 2:
        parser.error('--rounds must be 2 or more: one timing has no spread')
    return args


def settings(args: argparse.Namespace) -> List[Setting]:
    """One for each mode, size, batch and way to run."""
    modes = ['inference', 'training']
    return [
        Setting(
            mode,
            size,
            batch,
            channels=args.channels,
            device=args.device,
            amp=args.amp,
            channels_last=args.channels_last,
            compiled=compiled == 'on')
        for size, batch, compiled, mode in itertools.product(
            args.input, args.batch, args.compile,
            modes if args.mode == 'both' else [args.mode])
    ]


def run(args: argparse.Namespace) -> Tuple[List[Row], Optional[float]]:
    """Measure.

    Returns:
        A row for each setting and candidate, and the copy bandwidth.

    Raises:
        UsageError: Something cannot be measured; before anything is, where
            that can be told.
    """
    every = settings(args)
    check_device(every[0])
    candidates = [parse(text) for text in args.candidates]
    if candidates:
        baseline_of([c.label for c in candidates], args.baseline)
    if args.plot:
        need('matplotlib', '--plot')
    if args.plot and args.plot_x == 'depth':
        for candidate in candidates:
            depth_of(candidate.label)
    speed = bandwidth(args.device) if args.bandwidth else None
    rows: List[Row] = []
    if not candidates:
        return rows, speed
    bar = ProgressBar(
        len(every) * len(candidates) * args.rounds, file=sys.stderr)
    for setting in every:
        rows += compare(
            candidates,
            setting,
            rounds=args.rounds,
            warmup=args.warmup,
            min_time=args.min_time,
            baselines=args.baseline,
            bandwidth=speed,
            tick=bar.update)
    sys.stderr.write('\n')
    return rows, speed


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        for path in filter(None, (args.csv, args.markdown, args.plot)):
            make_folder(path)
        rows, speed = run(args)
        header = environment(args.device, sys.argv[1:] if argv is None
                             else argv)
        if speed is not None:
            header['copy bandwidth'] = (
                f'{speed / 1e9:.1f} GB/s (read and written)')
        for key, value in header.items():
            print(f'{key}: {value}')
        if rows:
            print('\n' + table(rows))
        if args.csv:
            write_csv(args.csv, rows, header)
        if args.markdown:
            write_markdown(args.markdown, rows, header)
        if args.plot:
            plot(args.plot, rows, args.plot_x, args.plot_y, header)
    except UsageError as error:
        sys.exit(f'benchmark.py: error: {error}')


if __name__ == '__main__':
    main()
