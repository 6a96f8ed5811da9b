import argparse
import sys
from pathlib import Path

from . import CommandError

HELP = 'run a trained model on pictures or a video'


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not from 0 to 1')
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``mmattn infer`` takes."""
    parser.add_argument(
        'config', metavar='CONFIG', help='of mmdet, mmseg or mmpretrain')
    parser.add_argument(
        'checkpoint', metavar='CHECKPOINT', help='a file that fits the config '
        'exactly; read without running code of it')
    parser.add_argument(
        'source', metavar='IMAGE|FOLDER|VIDEO', help='a picture; a folder, of '
        'which every file is tried but hidden ones and those of subfolders; '
        'or a video')
    parser.add_argument(
        '-o', '--out', metavar='OUT', required=True, help='folder for the '
        'drawn pictures and predictions.json, which '
        'mmattn.inference.infer describes')
    parser.add_argument(
        '--device', help='such as cpu or cuda:1; default: a GPU if there is '
        'one')
    parser.add_argument(
        '--score-thr', type=_score, metavar='0..1', help='lowest score of an '
        'object (detectors only), in pictures and JSON; default: 0.3')


def run(args: argparse.Namespace) -> int:
    """Predict, and name each file without a result; 1 if there is one."""
    from ..checkpoints import install_safe_loading
    from ..engine.launch import UsageError
    from ..inference import RESULTS, infer
    install_safe_loading()
    try:
        results = infer(args.config, args.checkpoint, args.source, args.out,
                        args.device, args.score_thr)
    except UsageError as error:
        raise CommandError(str(error)) from error
    what = 'frames' if 'video' in results else 'images'
    done, failed = len(results[what]), results['failed']
    announced = results.get('announced_frames', 0)
    print(f'{done} {what}, see {Path(args.out, RESULTS)}')
    if announced > done + len(failed):
        print(f'the header of {results["video"]} announces {announced} '
              f'frames; {done + len(failed)} could be read')
    notes = {}
    for entry in results[what]:
        if 'note' in entry:
            notes.setdefault(entry['note'], []).append(entry['image'])
    for note, names in notes.items():
        print(f'{names[0]} {note}; such images: {len(names)}',
              file=sys.stderr)
    for entry in failed:
        name = entry.get('image', f'frame {entry.get("frame")}')
        print(f'error: {name}: {entry["error"]}', file=sys.stderr)
    return 1 if failed else 0
