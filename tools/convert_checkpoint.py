"""Convert a published checkpoint to one that a config's model loads.

    python tools/convert_checkpoint.py PUBLISHED.pth OURS.pth --config CONFIG

The keys tell which source the file comes from; every key must have a rule in
that source's table, and the result must fit the model exactly. The file is
read as plain weights; one that names code is refused.
"""
import argparse
import sys

import mmattn  # noqa: F401  (its configs and names resolve)
from mmattn.checkpoints import CheckpointError, convert, install_safe_loading
from mmattn.checkpoints.convert import SOURCES
from mmattn.engine.configs import Options, UsageError, read_config


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', help='the published checkpoint, of '
                        'PyTorch, MXNet or safetensors')
    parser.add_argument('dst', help='the checkpoint to write')
    parser.add_argument(
        '--config', required=True, help='config whose model will load it')
    parser.add_argument(
        '--source',
        help='where it was published, if the keys do not tell: ' +
        ', '.join(SOURCES))
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        help='entries of the config to set, as key=value')
    return parser.parse_args()


def main():
    args = parse_args()
    install_safe_loading()
    try:
        cfg = read_config(args.config)
        if args.cfg_options is not None:
            cfg.merge_from_dict(args.cfg_options)
        print(convert(args.src, args.dst, cfg, args.source))
    except (CheckpointError, UsageError, OSError) as error:
        sys.exit(f'convert_checkpoint: {error}')


if __name__ == '__main__':
    main()
