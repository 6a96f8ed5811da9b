"""Show what trained models look at and decide.

    python tools/visualize.py cam --model CONFIG CHECKPOINT \
        --model CONFIG2 CHECKPOINT2 --images FOLDER -o OUT
    python tools/visualize.py gates --model CONFIG CHECKPOINT --images FOLDER
    python tools/visualize.py erf --model CONFIG CHECKPOINT --images FOLDER
    python tools/visualize.py predictions --model CONFIG CHECKPOINT

Each writes PNG into OUT/<subcommand> and all that OUT holds on one page,
OUT/index.html, which needs no other file. Checkpoints are read without
running code of theirs; the word random in place of one leaves the weights at
a random start.
"""
import argparse
import os
import sys
from pathlib import Path
from typing import List, Optional

from mmengine.device import get_device

import mmattn  # noqa: F401  (its configs and names resolve)
from mmattn.checkpoints import install_safe_loading
from mmattn.engine.images import ImageError
from mmattn.engine.launch import DATA_ROOT, UsageError
from mmattn.visualization.cam import cam
from mmattn.visualization.drawing import write_page
from mmattn.visualization.erf import erf
from mmattn.visualization.gates import gates
from mmattn.visualization.grad_cam import METHODS
from mmattn.visualization.loading import (Loaded, find_images, load_model,
                                          unique_names)
from mmattn.visualization.predictions import predictions


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a positive whole number')
    return int(text)


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not from 0 to 1')
    return value


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(
        dest='command', metavar='COMMAND', required=True)

    def add(name: str, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.add_argument(
            '--model', nargs=2, action='append', required=True,
            metavar=('CONFIG', 'CHECKPOINT'), help='a trained model; several '
            'times to see them beside each other')
        sub.add_argument(
            '-o', '--out', type=Path, default=Path('visualized'),
            help='folder; default: visualized')
        sub.add_argument(
            '--device', default=get_device(),
            help='such as cpu or cuda:1; default: a GPU if there is one')
        return sub

    def add_images(sub: argparse.ArgumentParser, limit: int) -> None:
        sub.add_argument(
            '--images', required=True, help='a picture, or a folder of them')
        sub.add_argument(
            '--limit', type=_positive, default=limit,
            help=f'at most so many pictures; default: {limit}')

    def add_layers(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            '--layer', nargs='+', default=[], metavar='NAME',
            help='full names, such as backbone.layer3.2, first to last; '
            "default: the backbone's stages")

    sub = add('cam', 'where predictions come from (Grad-CAM)')
    add_images(sub, 8)
    add_layers(sub)
    sub.add_argument(
        '--count', type=_positive, default=3,
        help='how many predictions of the first model; default: 3')
    sub.add_argument(
        '--threshold', type=_score, default=0.3,
        help='lowest score of a box; default: 0.3')
    sub.add_argument(
        '--method', choices=METHODS, help='default: hires-cam, which tells '
        'alike objects apart, for detectors; grad-cam for the others')
    sub = add('gates', 'what attentions, fusions and links decide')
    add_images(sub, 50)
    sub.add_argument(
        '--boxes', metavar='FILE.json', help="COCO's annotations of these "
        'pictures: shares of blocks by the size of objects')
    sub = add('erf', 'effective receptive fields of backbones')
    add_images(sub, 20)
    add_layers(sub)
    sub.add_argument(
        '--size', type=_positive, default=224,
        help='pictures are resized to squares of this side; default: 224')
    sub = add('predictions', 'predictions beside the ground truth')
    sub.add_argument(
        '--count', type=_positive, default=8,
        help='how many pictures of the test data; default: 8')
    sub.add_argument(
        '--threshold', type=_score, default=0.3,
        help='lowest score of a box; default: 0.3')
    sub.add_argument(
        '--data-root', default=os.environ.get(DATA_ROOT),
        help=f'where the data of the configs are; default: {DATA_ROOT} of '
        'the environment')
    return parser.parse_args(argv)


def draw(args: argparse.Namespace, models: List[Loaded],
         images: List[Path]) -> List[str]:
    """Run the subcommand; return what to tell the user."""
    out = args.out / args.command
    if args.command == 'predictions':
        predictions(models, out, args.count, args.threshold)
    elif args.command == 'erf':
        erf(models, images, out, args.layer, args.size)
    elif args.command == 'gates':
        for loaded in models:
            gates(loaded, images, out / loaded.name, args.boxes)
    else:
        empty = cam(models, images, out, args.layer, args.count,
                    args.threshold, args.method)
        if empty:
            return [f'{models[0].name} predicts nothing for '
                    f'{", ".join(empty)}']
    return []


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    install_safe_loading()
    try:
        images = []
        if args.command != 'predictions':
            images = find_images(args.images, args.limit)
        models = unique_names([
            load_model(config, checkpoint, args.device,
                       getattr(args, 'data_root', None))
            for config, checkpoint in args.model
        ])
        notes = draw(args, models, images)
    except (ImageError, UsageError) as error:
        sys.exit(f'\nvisualize.py: error: {error}')  # behind a bar
    print('', *notes, f'see {write_page(args.out)}', sep='\n')


if __name__ == '__main__':
    main()
