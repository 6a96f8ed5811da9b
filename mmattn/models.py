"""The models of our configs by name.

A name is the stem of a config file; no two files share one.
"""
import fnmatch
import re
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from mmengine.config import Config
from mmengine.fileio import dump
from torch import nn

from .checkpoints import CheckpointError, load_exactly
from .engine.build import build_model

CONFIGS = Path(__file__).parent / '.mim' / 'configs'
# Of our names among those of mmpretrain.
PREFIX = 'mmattn_'
# Stands for weights that nobody may hand out but their authors.
UNPUBLISHED = 'mmattn-unpublished://'
NO_WEIGHTS = """\
mmattn hands out no weights for {name!r}, which is described as: {about}
Get the authors' file of this row and convert it,
    python tools/convert_checkpoint.py FILE OUT.pth --config {config}
or train that config; then give the result's path: pretrained='OUT.pth'"""


def config_paths(pattern: Optional[str] = None) -> Dict[str, Path]:
    """The config file of each model.

    Args:
        pattern: Of names, with ``*``, ``?`` and ``[]``; None for all.

    Raises:
        RuntimeError: The configs are not where they are installed to, or two
            share a name.
    """
    paths: Dict[str, Path] = {}
    for path in sorted(CONFIGS.resolve().glob('**/*.py')):
        if '_base_' in path.parts:
            continue
        if path.stem in paths:
            raise RuntimeError(f'{paths[path.stem]} and {path} have the same '
                               'name; rename one')
        paths[path.stem] = path
    if not paths:
        raise RuntimeError(
            f'no configs in {CONFIGS}; install mmattn again, from a checkout '
            'with symbolic links or from a wheel')
    return {
        name: paths[name]
        for name in sorted(paths)
        if pattern is None or fnmatch.fnmatchcase(name, pattern)
    }


def list_models(pattern: Optional[str] = None) -> List[str]:
    """The names of our models, sorted.

    Args:
        pattern: As ``'sda_*'``, with ``*``, ``?`` and ``[]``; None for all.
    """
    return list(config_paths(pattern))


def about(path: Path) -> str:
    """What a config's header says first: paper, table and row."""
    lines = []
    for line in path.read_text(encoding='utf-8').splitlines():
        if not line.startswith('#'):
            break
        lines.append(line.lstrip('# '))
    return re.split(r'\. (?=[A-Z])|\.$', ' '.join(lines))[0]


def _config_path(name: str) -> Path:
    paths = config_paths()
    if name not in paths:
        near = [other for other in paths if name in other][:5]
        hint = f'; near it: {", ".join(near)}' if near else ''
        raise ValueError(f'there is no model {name!r}{hint}. '
                         'mmattn.list_models() has all names')
    return paths[name]


def _refuse(name: str) -> None:
    path = _config_path(name)
    raise CheckpointError(
        NO_WEIGHTS.format(name=name, about=about(path), config=path))


def get_model(name: str,
              pretrained: Union[bool, str] = False,
              cfg_options: Optional[Dict[str, Any]] = None) -> nn.Module:
    """Build the model of a config, through the toolbox it belongs to.

    Args:
        name: One of ``list_models()``.
        pretrained: The path of a checkpoint, which must fit exactly and is
            read as plain weights. Without one, parameters are as PyTorch
            makes them; ``model.init_weights()`` starts as a training does.
        cfg_options: Entries of the config to set, such as
            ``{'model.backbone.out_indices': (0, 1, 2, 3)}``.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: There is no such model.
        CheckpointError: The checkpoint cannot be had, read or fitted;
            always for ``pretrained=True``, since we hand out no weights.
        FileNotFoundError: The checkpoint is not there.
    """
    path = _config_path(name)
    if pretrained is True:
        _refuse(name)
    cfg = Config.fromfile(str(path))
    cfg.merge_from_dict(cfg_options or {})
    model = build_model(cfg)
    if pretrained:
        load_exactly(model, pretrained, f'the model {name}',
                     'A published file is converted by '
                     'tools/convert_checkpoint.py')
    return model.eval()


def register_models() -> List[str]:
    """Show our classifiers among mmpretrain's models.

    Afterwards ``mmpretrain.list_models()`` has them, and
    ``mmpretrain.get_model()`` builds them, by our names with ``mmattn_``
    before. A second call changes nothing.

    Returns:
        Their names in mmpretrain.

    Raises:
        ModuleNotFoundError: mmpretrain is not installed.
    """
    from mmengine.runner.checkpoint import CheckpointLoader
    from mmpretrain.apis import ModelHub
    paths = {
        PREFIX + name: path
        for name, path in config_paths().items()
        if path.parts[-3] in ('imagenet', 'cifar100')
    }
    new = [
        dict(
            Name=name,
            Config=str(path),
            Weights=UNPUBLISHED + name[len(PREFIX):],
            Results=[
                dict(
                    Task='Image Classification',
                    Dataset=path.parts[-3],
                    Metrics={})
            ]) for name, path in paths.items() if not ModelHub.has(name)
    ]
    # Asking for them is what an error is for.
    CheckpointLoader.register_scheme(
        UNPUBLISHED,
        lambda filename, map_location: _refuse(filename[len(UNPUBLISHED):]),
        force=True)
    if new:
        with tempfile.TemporaryDirectory() as folder:
            index = Path(folder, 'model-index.yml')
            dump(dict(Models=new), str(index))
            ModelHub.register_model_index(index)
    return list(paths)
