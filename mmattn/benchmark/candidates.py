"""What can be measured, by name."""
import ast
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Optional, Tuple

from torch import nn

from ..engine.launch import UsageError
from ..folding import fuse
from ..fusions import Fusion
from ..registry import MODELS

GRAMMAR = """\
candidates, before all options, each with an optional label before ':=':
  mmattn.ResNet(depth=50, attention=dict(type="SE"))
      a registered network of mmattn or of a toolbox (mmpretrain.ResNet(...))
  part:SE(in_channels=256)
      one attention, fusion or convolution of mmattn, on a map of --input
  CONFIG.py or mmdet::retinanet/NAME.py
      the whole model of a config; CONFIG.py:backbone its backbone
  timm:seresnet50(num_classes=0, global_pool="")
  torchvision:resnet50
  mmpretrain:resnet50_8xb32_in1k
      a model by name, without weights; :backbone for its backbone
  package.module:function(ARGUMENTS) or path/to/file.py:function(ARGUMENTS)
      any callable that returns a module
  fuse:CANDIDATE
      the same in the form of mmattn.fuse (inference only)
arguments are Python literals and dict(...)"""

# What to install for a module that is missing.
PACKAGES = dict(
    timm='timm', torchvision='torchvision', mmdet='mmdet',
    mmseg='mmsegmentation', mmpretrain='mmpretrain',
    matplotlib='matplotlib')


@dataclass(frozen=True)
class Candidate:
    """Something to measure.

    Args:
        label: Its name in tables.
        text: As it was given.
        build: Makes the module.
        kind: What it is called with: ``'image'``, ``'part'`` (a map) or
            ``'model'`` (a toolbox's batch).
        channels: Of the map or image.
        fused: Whether it is for inference only.
    """
    label: str
    text: str
    build: Callable[[], nn.Module]
    kind: str = 'image'
    channels: int = 3
    fused: bool = False


def need(name: str, what: str) -> ModuleType:
    """Import a module, or raise UsageError with the package to install."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or name).split('.')[0]
        if missing not in (name.split('.')[0], *PACKAGES):
            raise UsageError(f'{what}: importing {name} failed: {error}; '
                             f'pip install {missing}') from error
        package = PACKAGES.get(missing)
        hint = f'; pip install {package}' if package else ''
        raise UsageError(
            f'{what} needs {missing}, which is not installed{hint}') from error


def parse(text: str) -> Candidate:
    """Read one candidate; nothing is built yet.

    Raises:
        UsageError: It has none of the forms; its package is missing.
    """
    label, mark, rest = text.partition(':=')
    label, rest = (label.strip(), rest.strip()) if mark else (text, text)
    fused = rest.startswith('fuse:')
    inner = rest[len('fuse:'):].strip() if fused else rest
    build, kind = _builder(inner)
    channels = _channels(inner) if kind == 'part' else 3

    def checked() -> nn.Module:
        try:
            model = build()
        except (AttributeError, FileNotFoundError, KeyError, RuntimeError,
                TypeError, ValueError) as error:
            raise UsageError(f'candidate {inner!r} cannot be built: '
                             f'{type(error).__name__}: {error}') from error
        if not isinstance(model, nn.Module):
            raise UsageError(f'candidate {inner!r} must make a torch module, '
                             f'got {type(model).__name__}')
        return fuse(model.eval()) if fused else model

    return Candidate(label, rest, checked, kind, channels, fused)


def _builder(text: str) -> Tuple[Callable[[], Any], str]:
    source, _, rest = text.partition(':')
    if source == 'part':
        return _part(rest), 'part'
    if '::' in text or re.search(r'\.py(:backbone)?$', text):
        from .toolboxes import config_model
        backbone = text.endswith(':backbone')
        path = text[:-len(':backbone')] if backbone else text
        return (lambda: config_model(path, backbone),
                'image' if backbone else 'model')
    if source in ('timm', 'torchvision', 'mmpretrain'):
        return _zoo(source, rest, text), 'image'
    if ':' in re.sub(r'\(.*', '', text, flags=re.S):
        return _callable(source, rest, text), 'image'
    return _registered(text), 'image'


def call(text: str) -> Tuple[str, list, dict]:
    """Split ``name(arguments)``; arguments are literals and ``dict(...)``.

    Raises:
        UsageError: They are not.
    """
    match = re.fullmatch(r'\s*([\w.\-/]+)\s*(?:\((.*)\))?\s*', text, re.S)
    if match is None:
        raise UsageError(f'{text!r} is no candidate.\n{GRAMMAR}')
    name, arguments = match.groups()
    try:
        node = ast.parse(f'f({arguments or ""})', mode='eval').body
        args = [_literal(value) for value in node.args]
        kwargs = {k.arg: _literal(k.value) for k in node.keywords}
    except (SyntaxError, ValueError) as error:
        raise UsageError(f'arguments of {text!r} must be literals or '
                         f'dict(...): {error}') from error
    return name, args, kwargs


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if getattr(node.func, 'id', None) != 'dict' or node.args:
            raise ValueError(f'{ast.unparse(node)} is not allowed')
        return {k.arg: _literal(k.value) for k in node.keywords}
    if isinstance(node, (ast.List, ast.Tuple)):
        made = [_literal(value) for value in node.elts]
        return made if isinstance(node, ast.List) else tuple(made)
    return ast.literal_eval(node)


def _part(text: str) -> Callable[[], nn.Module]:
    name, args, kwargs = call(text)
    made = MODELS.get(name)
    if made is None:
        raise UsageError(f'part:{name} is not registered in mmattn; '
                         'docs/parts.md lists the names')
    return lambda: made(*args, **kwargs)


def _channels(text: str) -> int:
    """Of the map that a part takes."""
    _, args, kwargs = call(text.partition(':')[2])
    channels = args[0] if args else kwargs.get('in_channels')
    if not isinstance(channels, int):
        raise UsageError(f'{text!r} must say how many channels its map has: '
                         'part:NAME(in_channels=256)')
    return channels


def _zoo(source: str, text: str, candidate: str) -> Callable[[], nn.Module]:
    backbone = text.endswith(':backbone')
    name, args, kwargs = call(text[:-len(':backbone')] if backbone else text)
    package = need(source, f'candidate {candidate!r}')

    def build() -> nn.Module:
        if source == 'timm':
            model = package.create_model(name, *args, **kwargs)
        elif source == 'torchvision':
            model = package.models.get_model(name, *args, **kwargs)
        else:
            model = package.get_model(name, *args, **kwargs)
        return model.backbone if backbone else model

    return build


def _callable(source: str, rest: str,
              text: str) -> Callable[[], nn.Module]:
    name, args, kwargs = call(rest)
    if source.endswith('.py'):
        module = _module_of(source)
    else:
        module = need(source, f'candidate {text!r}')
    made: Optional[Callable] = module
    for part in name.split('.'):
        made = getattr(made, part, None)
    if not callable(made):
        raise UsageError(f'candidate {text!r}: {source} has no callable '
                         f'{name!r}')
    return lambda: made(*args, **kwargs)


def _module_of(path: str) -> ModuleType:
    """Import a file; what lies beside it can be imported from there."""
    file = Path(path).resolve()
    if not file.is_file():
        raise UsageError(f'{path!r} is not a file')
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles look there.
    sys.modules.setdefault(file.stem, module)
    spec.loader.exec_module(module)
    return module


def _registered(text: str) -> Callable[[], nn.Module]:
    name, args, kwargs = call(text)
    scope, dot, key = name.partition('.')
    if not dot:
        raise UsageError(f'{text!r} is no candidate.\n{GRAMMAR}')
    if importlib.util.find_spec(scope) is None and scope not in PACKAGES:
        raise UsageError(f'candidate {text!r}: there is no package '
                         f'{scope!r}.\n{GRAMMAR}')
    registry = need(f'{scope}.registry', f'candidate {text!r}').MODELS
    made = registry.get(key)
    if made is None:
        raise UsageError(f'candidate {text!r}: {key!r} is not registered in '
                         f'{scope}')
    return lambda: made(*args, **kwargs)


def num_maps(part: nn.Module) -> Optional[int]:
    """How many maps a part is called with; None for a map of its own."""
    return part.num_maps if isinstance(part, Fusion) else None
