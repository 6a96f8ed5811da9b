"""Reading a config, and walking through it."""
import difflib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple, Union

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from ..engine.configs import UsageError, require_model
from .environment import INSTALL
from .finding import FATAL, Finding, one_line
from .stack import TOOLBOXES, Stack

# Entries that a Runner builds something from.
BUILT = ('model', 'data_preprocessor', 'train_dataloader', 'val_dataloader',
         'test_dataloader', 'val_evaluator', 'test_evaluator', 'train_cfg',
         'val_cfg', 'test_cfg', 'optim_wrapper', 'param_scheduler',
         'default_hooks', 'custom_hooks', 'visualizer', 'log_processor',
         'tta_model', 'model_wrapper_cfg', 'strategy')


@dataclass
class Case:
    """A config and what its checks need beside it.

    Args:
        cfg: The config.
        stack: What is installed.
        gpus: How many processes will train; None if not said.
        offline: Whether URLs are left alone.
        model: The built model, once ``check_build`` has built it.
    """
    cfg: Config
    stack: Stack
    gpus: Optional[int] = None
    offline: bool = False
    model: Any = None

    @property
    def scope(self) -> str:
        """The scope in which the config's names are looked up."""
        return self.cfg.get('default_scope') or 'mmengine'

    def usable(self, package: str) -> bool:
        """Whether a package may be imported here: no toolbox may be broken."""
        return package not in TOOLBOXES or self.stack.sound(package)


def walk(node: Any, path: str = '') -> Iterator[Tuple[str, dict]]:
    """Every dict of a config, with its path, outer ones first."""
    if isinstance(node, dict):
        yield path, node
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        return
    for key, value in items:
        yield from walk(value, f'{path}.{key}' if path else str(key))


def built(cfg: Config) -> Iterator[Tuple[str, dict]]:
    """Every dict of the entries that a Runner builds something from."""
    for key in BUILT:
        yield from walk(cfg.get(key), key)


def locate(config: str) -> Path:
    """The file of a config, a path or ``'mmdet::folder/name.py'``.

    Raises:
        FileNotFoundError: There is none; names the nearest.
        ModuleNotFoundError: The package before ``::`` is not installed.
    """
    package, sign, rest = config.partition('::')
    path = Path(rest if sign else config)
    if sign:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f'{package} is not installed')
        path = Path(spec.origin).parent / '.mim' / 'configs' / rest
    if path.is_file():
        return path
    names = sorted(p.name for p in path.parent.glob('*.py'))
    near = difflib.get_close_matches(path.name, names)
    hint = f'; near it are {", ".join(near)}' if near else ''
    raise FileNotFoundError(f'config {config!r} is not a file{hint}')


def check_model(case: Case) -> List[Finding]:
    """The config has a model."""
    try:
        require_model(case.cfg)
    except UsageError as error:
        return [
            Finding(FATAL, 'model', str(error),
                    'give the config that trains, not one of its _base_ files')
        ]
    return []


def _advice(error: Exception, stack: Stack) -> str:
    text = str(error)
    names = INSTALL[stack.flavour()]
    for package in TOOLBOXES:
        if isinstance(error, ModuleNotFoundError) and package in text:
            return f'pip install {names[package]}'
    if isinstance(error, ModuleNotFoundError):
        return 'install that package, or put its folder on PYTHONPATH'
    if isinstance(error, FileNotFoundError):
        return ('correct the path in _base_: it is relative to the file that '
                "says it, or 'mmdet::...' for a file of an installed toolbox")
    if '_delete_' in text:
        return 'add _delete_=True to the dict that replaces an inherited one'
    return 'correct the config where the error says'


def read_config(config: Union[str, Path, Config], stack: Stack,
                options: Optional[dict] = None
                ) -> Tuple[Optional[Config], List[Finding]]:
    """Read a config as our tools do.

    Args:
        config: A path, ``'mmdet::...'``, or a config already read.
        stack: What is installed.
        options: Entries that replace those of the config.

    Returns:
        The config, None where it cannot be read, and findings.

    Raises:
        FileNotFoundError: ``config`` names no file.
    """
    try:
        if not isinstance(config, Config):
            config = Config.fromfile(
                locate(str(config)), import_custom_modules=False)
        # A copy, so that a config that was handed in stays as it is.
        cfg = Config(config.to_dict(), filename=config.filename)
        _apply(cfg, options or {})
    except FileNotFoundError as error:
        if 'config' in str(error) and 'is not a file' in str(error):
            raise
        return None, [_unreadable(error, stack)]
    except Exception as error:
        return None, [_unreadable(error, stack)]
    return cfg, _import_custom(cfg)


def _apply(cfg: Config, options: dict) -> None:
    from ..engine.launch import DATA_ROOT, set_data_root
    root = options.get('data_root', os.environ.get(DATA_ROOT))
    if root is not None:
        set_data_root(cfg, root)
    cfg.merge_from_dict(options)


def _unreadable(error: Exception, stack: Stack) -> Finding:
    return Finding(FATAL, 'config',
                   f'the config cannot be read: {one_line(error)}',
                   _advice(error, stack))


def _import_custom(cfg: Config) -> List[Finding]:
    custom = cfg.get('custom_imports')
    if not custom:
        return []
    try:
        import_modules_from_strings(**custom)
    except Exception as error:
        return [
            Finding(
                FATAL, 'config', f'custom_imports {custom.get("imports")} '
                f'cannot be imported: {one_line(error)}',
                'put the folder that holds them on PYTHONPATH, or correct '
                'the names')
        ]
    return []
