"""Why a ``type`` is not found."""
import difflib
import logging
import re
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import mmengine.registry
from mmengine.logging import MMLogger
from mmengine.registry import Registry

from .config import Case, built
from .environment import INSTALL
from .finding import FATAL, Finding, one_line
from .stack import TOOLBOXES

# Words of a network of ours: what they name lies in our scope.
WORDS = ('attention', 'link', 'fusion', 'depth_fusion', 'stage_attention')
# Dicts whose ``type`` is looked up in no registry.
UNREGISTERED = ('nms', 'roi_layer')
ROOTS = [
    r for r in vars(mmengine.registry).values() if isinstance(r, Registry)
]
TOO_FAR = 0.7


@contextmanager
def quiet(level: int = logging.CRITICAL):
    """Keep mmengine's log away from the report."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


class Names:
    """Looks names up as the toolboxes do, in all kinds of registries.

    Args:
        case: Says which toolboxes may be imported.
    """

    def __init__(self, case: Case):
        self.case = case
        self.errors: Dict[str, str] = {}
        self.find = lru_cache(maxsize=None)(self._find)

    def registries(self, scope: str) -> List[Registry]:
        """The registries of a scope, those of mmengine where it has none."""
        own = []
        if scope != 'mmengine' and self.case.usable(scope):
            try:
                module = import_module(f'{scope}.registry')
            except ImportError as error:
                self.errors[scope] = one_line(error)
            else:  # a toolbox may have kinds that mmengine has not
                own = [r for r in vars(module).values()
                       if isinstance(r, Registry) and r.parent is None]
        return [root.children.get(scope, root) for root in ROOTS] + own

    def _find(self, name: str, scope: str) -> bool:
        for registry in self.registries(scope):
            try:
                if registry.get(name) is not None:
                    return True
            except Exception as error:  # a location that cannot be imported
                self.errors[scope] = one_line(error)
        return False

    def known(self, scope: str) -> List[str]:
        """Names of a scope, without those it inherits."""
        found = set()
        for registry in self.registries(scope):
            if registry.scope != scope:
                continue
            try:
                registry.import_from_location()
            except Exception as error:
                self.errors[scope] = one_line(error)
            found.update(registry.module_dict)
        return sorted(found)


def scopes(case: Case) -> List[str]:
    """The scopes whose names can be known here."""
    return ['mmattn', *(t for t in TOOLBOXES if case.stack.sound(t))]


def _near(name: str, known: List[str]) -> List[str]:
    lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), lower, 3, TOO_FAR)
    return [lower[k] for k in found]


def _not_importable(case: Case, scope: str) -> str:
    """Install hint of a scope that is a toolbox and absent, else ''."""
    if scope in TOOLBOXES and not case.usable(scope):
        if scope in case.stack.trials:
            return f'{scope} cannot be imported; see imports'
        names = INSTALL[case.stack.flavour()]
        return f'install {scope}: pip install {names[scope]}'
    return ''


def _why_path(name: str, case: Case) -> Tuple[str, str]:
    """Why ``package.module.Class`` is not there."""
    package = name.split('.')[0]
    hint = _not_importable(case, package)
    if hint:
        return f'{package} is not usable here', hint
    if find_spec(package) is None:
        return (f'there is no package {package}',
                'install it, put its folder on PYTHONPATH, or correct the '
                'name')
    module, _, attribute = name.rpartition('.')
    try:
        loaded = import_module(module)
    except Exception as error:
        return f'{module} cannot be imported ({one_line(error)})', (
            'correct the path, or install what it needs')
    near = _near(attribute, dir(loaded))
    return (f'{module} has no {attribute}', f'did you mean {module}.{near[0]}?'
            if near else f'look at what {module} holds')


def _unregistered(scope: str, name: str) -> Optional[Tuple[str, str]]:
    """Why a class that is in a toolbox's files is not registered."""
    spec = find_spec(scope)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    line = re.compile(rf'^class {re.escape(name)}\b', re.MULTILINE)
    for file in sorted(folder.rglob('*.py')):
        if '.mim' in file.parts or not line.search(
                file.read_text(errors='replace')):
            continue
        parts = file.relative_to(folder.parent).with_suffix('').parts
        module = '.'.join(parts)
        try:
            import_module(module)
        except Exception as error:
            return (f'{module} has it and cannot be imported '
                    f'({one_line(error)})', 'install what the error names')
        return (f'{module} has it and was not imported (some modules are so '
                f'only with the optional requirements of {scope})',
                f'install these, or custom_imports=dict(imports=[{module!r}])')
    return None


def why(name: str, scope: str, path: str, names: Names) -> Tuple[str, str]:
    """Why a name is not found, and what to write.

    Args:
        name: The ``type``.
        scope: Where it was looked for.
        path: Of its dict in the config.
        names: What is known.

    Returns:
        The reason and the fix.
    """
    case = names.case
    word = path.split('.')[-1]
    prefix, _, bare = name.rpartition('.')
    if prefix.count('.') or prefix and prefix not in scopes(case):
        return _why_path(name, case)
    if prefix:
        elsewhere = [s for s in scopes(case) if bare in names.known(s)]
        near = _near(bare, names.known(prefix))
        if near:
            return (f'{prefix} registers no {bare}',
                    f"did you mean '{prefix}.{near[0]}'?")
        if elsewhere:
            return (f'{bare} is a name of {elsewhere[0]}',
                    f"write '{elsewhere[0]}.{bare}'")
        return f'{prefix} registers no {bare}', (
            'mmattn list shows ours; a class of your own needs '
            'custom_imports=dict(imports=[...])')
    for other in scopes(case):
        if other == scope or bare not in names.known(other):
            continue
        if other == 'mmattn' and word in WORDS:
            return (f'{word} is a word of mmattn\'s backbones, and this '
                    'dict is not in one', "give the backbone "
                    "type='mmattn.ResNet' or another of mmattn's")
        return (f'{other} registers it, {scope} does not',
                f"write type='{other}.{bare}'")
    reason = scope in scopes(case) and _unregistered(scope, bare)
    if reason:
        return reason
    near = [f"'{n}'" for n in _near(
        bare, [*names.known(scope), *names.known('mmengine')])]
    near += [f"'{other}.{n}'" for other in scopes(case) if other != scope
             for n in _near(bare, names.known(other))[:1]]
    if near:
        return 'no registry has it', f'did you mean {" or ".join(near[:3])}?'
    broken = names.errors.get(scope)
    if broken:
        return (f'and the modules of {scope} could not all be imported '
                f'({broken})', 'repair that import first')
    absent = [t for t in TOOLBOXES if t not in case.stack.trials]
    return 'no registry has it', (
        'a class of your own needs custom_imports=dict(imports=[...]) with '
        'the module that registers it' +
        (f'; one of {", ".join(absent)}, not installed here, needs its '
         'installation' if absent else ''))


def _inside(path: str, ours: List[str]) -> bool:
    return any(path.startswith(f'{parent}.') for parent in ours)


def _scope_of(path: str, given: Dict[str, str], default: str) -> str:
    """The scope set by the nearest enclosing ``_scope_``."""
    best = max((p for p in given if path == p or path.startswith(p + '.')),
               key=len, default=None)
    return default if best is None else given[best]


def check_types(case: Case) -> List[Finding]:
    """Every ``type`` of the config is registered somewhere it is looked for.

    A name is taken as found when any kind of registry has it, so that no
    name is reported which some module looks up in its own way.
    """
    hint = _not_importable(case, case.scope)
    if hint:
        return [
            Finding(FATAL, 'types', f"default_scope='{case.scope}' and this "
                    'toolbox is not usable here; types were not looked up',
                    hint)
        ]
    names, findings = Names(case), []
    ours: List[str] = []
    given: Dict[str, str] = {}
    with quiet():
        for path, node in built(case.cfg):
            if '_scope_' in node:
                given[path] = node['_scope_']
            name: Optional[str] = node.get('type')
            if not isinstance(name, str):
                if getattr(name, '__module__', '').startswith('mmattn.'):
                    ours.append(path)
                continue
            if name.startswith('mmattn.'):
                ours.append(path)
            if path.split('.')[-1] in UNREGISTERED:
                continue
            scope = _scope_of(path, given, case.scope)
            if names.find(name, scope) or (
                    _inside(path, ours) and names.find(name, 'mmattn')):
                continue
            reason, fix = why(name, scope, path, names)
            findings.append(
                Finding(FATAL, 'types',
                        f"{path}.type='{name}' is not found: {reason}", fix))
    return findings
