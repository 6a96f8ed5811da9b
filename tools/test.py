"""Test what a config of mmdet, mmsegmentation or mmpretrain describes."""
import argparse
import copy
import sys
from typing import List, Optional, Tuple

from mmengine.config import Config, ConfigDict
from mmengine.registry import METRICS
from torch.distributed.elastic.multiprocessing.errors import record

import mmattn  # noqa: F401 (config lookups)
from mmattn.checkpoints import CheckpointError, install_safe_loading
from mmattn.engine.faults import (check_writable, disk_errors, image_errors,
                                  peer_errors)
from mmattn.engine.launch import (UsageError, build_runner, finish,
                                  load_config, make_parser, prepare_cpu,
                                  require_file, type_name)

# What switches on each toolbox's visualization hook, for every sample.
DRAW_ALL = dict(
    DetVisualizationHook=dict(draw=True),
    SegVisualizationHook=dict(draw=True),
    VisualizationHook=dict(enable=True, interval=1))


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='write the predictions to a pickle '
        'file (detection and classification)')
    parser.add_argument(
        '--show', action='store_true', help='show the predictions')
    parser.add_argument(
        '--show-dir', help='folder for images with the predictions, placed '
        "where the toolbox's visualization hook places it")
    parser.add_argument(
        '--wait-time', type=float, default=2,
        help='seconds for which --show shows an image')
    parser.add_argument(
        '--tta', action='store_true', help='average over the augmentations '
        'of tta_pipeline; flips for a detector without one')
    return parser.parse_args(argv)


def toolbox_of(cfg: Config) -> str:
    """Return the toolbox a config is for, such as ``'mmdet'``."""
    scope = cfg.get('default_scope')
    if scope is None:  # new-style configs name classes instead
        kind = cfg.model.type
        scope = kind if isinstance(kind, str) else kind.__module__
    return scope.split('.')[0]


def check_out(cfg: Config, out: str) -> None:
    """Raise UsageError where ``--out`` cannot name a pickle file."""
    if toolbox_of(cfg) == 'mmseg':
        raise UsageError(
            '--out writes predictions to one pickle file, which '
            'mmsegmentation does not do: there it names a folder for label '
            'maps. For those use --cfg-options '
            'test_evaluator.output_dir=FOLDER')
    if not out.endswith(('.pkl', '.pickle')):
        raise UsageError(f'--out {out!r} must end with .pkl or .pickle')


def dump_metric(cfg: Config, out: str):
    """Build the metric that writes predictions to the file ``out``."""
    kind = ('mmdet.DumpDetResults' if toolbox_of(cfg) == 'mmdet' else
            'mmengine.DumpResults')
    return METRICS.build(dict(type=kind, out_file_path=out))


def draw_predictions(cfg: Config, args: argparse.Namespace) -> None:
    """Switch the config's visualization hook on for ``--show[-dir]``.

    Raises:
        UsageError: The config has no visualization hook, or none of a kind
            that is known here.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise UsageError(
            '--show and --show-dir need a visualization hook and the config '
            'has none; add default_hooks.visualization')
    kind = type_name(hook)
    if kind not in DRAW_ALL:
        raise UsageError(
            f'--show and --show-dir cannot switch on {kind}, only '
            f'{", ".join(DRAW_ALL)}; set its options with --cfg-options')
    hook.update(DRAW_ALL[kind])
    if args.show:
        hook.show = True
        hook.wait_time = args.wait_time
    if args.show_dir and kind == 'DetVisualizationHook':
        hook.test_out_dir = args.show_dir
    elif args.show_dir and kind == 'SegVisualizationHook':
        cfg.visualizer.save_dir = args.show_dir
    elif args.show_dir:
        hook.out_dir = args.show_dir


def use_tta(cfg: Config) -> List[str]:
    """Wrap the model in ``tta_model`` and read through ``tta_pipeline``.

    A detector without them gets both: with and without a horizontal flip,
    merged by non-maximum suppression, as mmdet does.

    Returns:
        What to tell the user, one line each.

    Raises:
        UsageError: One of the two is missing and it is no mmdet config, or
            a detector with masks, which mmdet does not merge.
    """
    missing = [k for k in ('tta_model', 'tta_pipeline') if not cfg.get(k)]
    if missing and toolbox_of(cfg) != 'mmdet':
        raise UsageError(
            f'--tta needs {" and ".join(missing)}, which the config does not '
            'have; only mmdet configs have a default')
    heads = cfg.model.get('roi_head') or cfg.model
    if 'tta_model' in missing and heads.get('mask_head'):
        raise UsageError('--tta merges boxes only, and this detector has '
                         'masks; leave --tta out, or give the config a '
                         'tta_model of your own')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if 'tta_model' in missing:
        cfg.tta_model = dict(
            type='DetTTAModel',
            tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
    if 'tta_pipeline' in missing:
        *read, pack = copy.deepcopy(dataset.pipeline)
        pack.meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape',
                          'scale_factor', 'flip', 'flip_direction')
        flips = [dict(type='RandomFlip', prob=p) for p in (1., 0.)]
        cfg.tta_pipeline = [
            *read, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    return [f'--tta uses the default {k}' for k in missing]


def prepare(args: argparse.Namespace) -> Tuple[Config, List[str]]:
    """Read the config and apply the arguments.

    Returns:
        The config and what to tell the user, one line each.
    """
    require_file(args.checkpoint, 'checkpoint')
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.out is not None:
        check_out(cfg, args.out)
    if args.show or args.show_dir:
        draw_predictions(cfg, args)
    notes = use_tta(cfg) if args.tta else []
    check_writable(cfg.work_dir, 'work directory')
    notes += prepare_cpu(cfg)
    return cfg, notes


def run(cfg: Config, notes: List[str], out: Optional[str]) -> None:
    """Build the Runner, log the notes and test."""
    runner = build_runner(cfg)
    for note in notes:
        runner.logger.warning(note)  # printed by rank 0, kept in the log
    if out is not None:
        runner.test_evaluator.metrics.append(dump_metric(cfg, out))
    runner.test()


@record
def main() -> None:
    args = parse_args()
    install_safe_loading()
    try:
        cfg, notes = prepare(args)
        with disk_errors(cfg.work_dir), peer_errors(), image_errors():
            run(cfg, notes, args.out)
    except (UsageError, CheckpointError) as error:
        sys.exit(f'test.py: error: {error}')
    finish()


if __name__ == '__main__':
    main()
