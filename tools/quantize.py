"""Quantise a trained classifier to int8, without training it further.

    python tools/quantize.py CONFIG CHECKPOINT --data FOLDER -o OUT.pt2

Convolutions and linear layers become int8 on the scales that some training
images call for; the accuracy on the config's test images is printed for both
networks, and the sizes of their weights and files. OUT is read back with
torch.export.load, once torchao.quantization.pt2e is imported.
"""
import argparse
import copy
import sys
from itertools import islice
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple

import torch
from mmengine.runner import Runner
from mmengine.utils import track_iter_progress
from torch import Tensor

import mmattn  # noqa: F401  (its configs and names resolve)
from mmattn.checkpoints import install_safe_loading
from mmattn.engine.launch import UsageError
from mmattn.export import ExportError, Network
from mmattn.export.quantize import accuracy, quantize, save, weights_size
from mmattn.visualization.loading import (RANDOM, Loaded, build_dataset,
                                          load_model, scope_of)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a positive whole number')
    return int(text)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument(
        '--data', required=True, metavar='FOLDER',
        help='where the data of the config are, in place of its data_root')
    parser.add_argument(
        '-o', '--out', type=Path, required=True, help='the file to write')
    parser.add_argument(
        '--batches', type=_positive, default=16,
        help='batches of training images to calibrate with; default: 16')
    parser.add_argument(
        '--batch-size', type=_positive, default=32,
        help='at least 2; default: 32')
    args = parser.parse_args(argv)
    if args.out.suffix != '.pt2':
        parser.error(f'-o {args.out} must end in .pt2')
    if not args.out.parent.is_dir():
        parser.error(f'{args.out.parent} is not a folder; make it first')
    if args.batch_size < 2:
        parser.error('--batch-size must be 2 or more')
    return args


def batches_of(loaded: Loaded, split: str, size: int) -> Any:
    """The loader of a split's images, prepared as the config's test does."""
    cfg = loaded.cfg
    if not cfg.get(f'{split}_dataloader') or not cfg.get('test_dataloader'):
        raise UsageError(f'{cfg.filename} has no {split}_dataloader and '
                         'test_dataloader, which say what to read')
    loader = copy.deepcopy(cfg[f'{split}_dataloader'])
    loader.dataset.pipeline = cfg.test_dataloader.dataset.pipeline
    loader.update(
        dataset=build_dataset(cfg, loader.dataset, '--data'),
        batch_size=size,
        num_workers=0,
        persistent_workers=False,
        sampler=dict(type='DefaultSampler', shuffle=split == 'train'))
    with scope_of(cfg):
        return Runner.build_dataloader(loader, seed=0)


def examples(loaded: Loaded, loader: Any) -> Iterator[Tuple[Tensor, Tensor]]:
    """Normalised images and their classes."""
    for batch in loader:
        data = loaded.model.data_preprocessor(batch, False)
        labels = torch.cat([s.gt_label for s in data['data_samples']])
        yield data['inputs'], labels


def run(args: argparse.Namespace) -> List[str]:
    """Quantise, measure and write; return what to tell the user."""
    loaded = load_model(args.config, args.checkpoint, data_root=args.data)
    net = Network(loaded.model).eval()
    if net.kind != 'classifier':
        raise UsageError(f'{args.config} is a config of a {net.kind}; '
                         'classifiers can be quantised')
    train = examples(loaded, batches_of(loaded, 'train', args.batch_size))
    calibration = [images for images, _ in islice(train, args.batches)
                   if len(images) > 1]
    small = quantize(net, calibration)
    test = batches_of(loaded, 'test', args.batch_size)
    right = []
    for model in (net, small):
        shown = track_iter_progress((examples(loaded, test), len(test)))
        right.append(accuracy(model, shown))
    part = args.out.with_name(f'{args.out.stem}.float.pt2')
    try:
        files = (save(net, calibration[0][:2], part),
                 save(small, calibration[0][:2], args.out))
    finally:
        part.unlink(missing_ok=True)
    sizes = weights_size(net), weights_size(small)
    return [
        f'{name}: {top:.2f} % of {len(test.dataset)} images right, weights '
        f'of {weights:.2f} MB, file of {file:.2f} MB'
        for name, top, weights, file in zip(
            ('float32', 'int8'), right, sizes, files)
    ]


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    install_safe_loading()
    try:
        lines = run(args)
    except (ExportError, UsageError, ValueError, FileNotFoundError) as error:
        sys.exit(f'quantize.py: error: {error}')
    if args.checkpoint == RANDOM:
        print('the weights are random: this accuracy means nothing')
    print('', *lines, f'wrote {args.out}', sep='\n')


if __name__ == '__main__':
    main()
