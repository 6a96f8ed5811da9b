"""Checks of what is installed."""
import re
from typing import Dict, List, Tuple

from .finding import FATAL, OK, WARNING, Finding
from .stack import (GPU_OPS, ONEDL, OPENMMLAB, OPS, PACKAGES, TOOLBOXES, Stack,
                    flavour)

# Distributions whose name is not that of the module they hold.
DISTRIBUTION_OF = dict(
    cv2='opencv-python', PIL='pillow', sklearn='scikit-learn', yaml='pyyaml',
    skimage='scikit-image', pkg_resources='"setuptools<81"')
INSTALL = {
    ONEDL: dict(
        mmengine='onedl-mmengine', mmcv='onedl-mmcv',
        mmdet='onedl-mmdetection', mmseg='onedl-mmsegmentation',
        mmpretrain='onedl-mmpretrain'),
    OPENMMLAB: dict(
        mmengine='mmengine', mmcv='mmcv', mmdet='mmdet',
        mmseg='mmsegmentation', mmpretrain='mmpretrain'),
}
REBUILD = ('install the mmcv wheel made for your torch and CUDA, or build it '
           'from source against this torch (pip install --no-build-isolation '
           '--no-binary {mmcv} --force-reinstall --no-deps {mmcv})')
# Error of an import -> what it means, what to do. Groups of the pattern and
# the names of the distributions are filled in.
EXPLAINED = [
    (r"No module named 'mmcv\._ext'",
     'mmcv is installed without its compiled operators (mmcv-lite, or built '
     'without them)', REBUILD),
    (r'torchvision::nms|compiled with different CUDA|torchvision.*undefined',
     'torchvision was built for another torch',
     'install the torchvision of the same release as torch, from the same '
     'index'),
    (r'undefined symbol|DLL load failed|miss in module _ext',
     'mmcv\'s compiled operators were built against another torch', REBUILD),
    (r'(lib(?:cudart|c10_cuda|torch_cuda|cublas|nvrtc)[\w.\-]*): cannot open',
     'it was built for a CUDA that this torch does not bring ({0})', REBUILD),
    (r'(?i:mmcv|mmengine)==(\S+) is used but incompatible.*?install '
     r'((?:mmcv|mmengine)\S*), ?(<\S+?)\.?$',
     'it refuses the installed version {0} and accepts {1}, {2}',
     'install a version in that range, or a release of the toolbox that '
     'accepts {0}'),
    (r'Numpy is not available|_ARRAY_API|numpy\.dtype size changed|'
     r'numpy\.core\.multiarray failed',
     'a compiled package here was built for another major version of numpy',
     'pip install "numpy<2"; torch before 2.3 knows numpy 1 only'),
    (r'(libGL\.so\.1|libgthread-2\.0\.so\.0): cannot open',
     'OpenCV misses the system library {0}',
     'pip uninstall opencv-python; pip install opencv-python-headless'),
    (r"No module named '(\w+)[\w.]*'", 'it needs the module {0}',
     'pip install {module}'),
]


def explain(error: str, stack: Stack) -> Tuple[str, str]:
    """What an import error means and what to do, '' where unknown."""
    names = INSTALL[stack.flavour()]
    for pattern, meaning, fix in EXPLAINED:
        match = re.search(pattern, error)
        if match:
            groups = match.groups()
            module = (groups or ('', ))[0]
            module = names.get(module, DISTRIBUTION_OF.get(module, module))
            return (meaning.format(*groups),
                    fix.format(*groups, module=module, mmcv=names['mmcv']))
    return '', 'the error names the cause; reinstall what it names'


def check_versions(stack: Stack, needed: set) -> List[Finding]:
    """Versions of the stack; what is missing of it."""
    names = INSTALL[stack.flavour()]
    found, findings = [], []
    for package, owners in stack.owners.items():
        found += [f'{name} {version}' for name, version in owners.items()]
        if owners or package in stack.trials:
            continue
        fix = f'pip install {names.get(package, package)}'
        optional = package in TOOLBOXES and package not in needed
        findings.append(
            Finding(OK if optional else FATAL, 'versions',
                    f'{package} is not installed',
                    f'only its configs need it: {fix}' if optional else fix))
    return [Finding(OK, 'versions', ', '.join(found))] + findings


def check_flavours(stack: Stack, needed: set) -> List[Finding]:
    """One owner for each import package, all of one flavour."""
    findings = []
    kinds: Dict[str, List[str]] = {}
    for package in PACKAGES:
        owners = sorted(stack.owners[package])
        for name in owners:
            kinds.setdefault(flavour(name), []).append(name)
        if len(owners) > 1:
            findings.append(
                Finding(
                    FATAL, 'flavour', f'{" and ".join(owners)} are both '
                    f'installed and hold the same package {package}: each '
                    'overwrote files of the other',
                    f'pip uninstall {" ".join(owners)}, then install one of '
                    'them'))
    if len(kinds) > 1 and not findings:
        findings.append(
            Finding(
                WARNING, 'flavour',
                'the stack mixes two publishers: ' + '; '.join(
                    f'{kind}: {", ".join(names)}'
                    for kind, names in kinds.items()) +
                '; their requirements name different distributions, so a '
                'later installation can bring both at once',
                'install all of one kind'))
    elif kinds and not findings:
        kind = next(iter(kinds))
        findings.append(Finding(OK, 'flavour', f'all packages are {kind}\'s'))
    return findings


def check_torchvision(stack: Stack, needed: set) -> List[Finding]:
    """The torch that torchvision asks for is the one installed."""
    from importlib.metadata import requires
    torch = stack.version('torch').split('+')[0]
    if not torch or not stack.version('torchvision'):
        return []
    for requirement in requires('torchvision') or ():
        match = re.match(r'torch\s*\(?\s*==\s*([\w.]+)', requirement)
        if match and match[1] != torch:
            return [
                Finding(
                    WARNING, 'torchvision',
                    f'torchvision {stack.version("torchvision")} was built '
                    f'for torch {match[1]}, installed is {torch}',
                    'install the torchvision of the same release as torch')
            ]
    return []


def severity_of(name: str, stack: Stack, needed: set) -> str:
    """Whether a package that cannot be imported stops the user."""
    if name in TOOLBOXES:
        return FATAL if not needed or name in needed else WARNING
    if name in (OPS, GPU_OPS):
        users = {'mmdet', 'mmseg'}
        present = needed or {p for p in TOOLBOXES if p in stack.trials}
        return FATAL if users & present else WARNING
    return FATAL


def check_imports(stack: Stack, needed: set) -> List[Finding]:
    """Everything installed can be imported; one finding per cause."""
    causes: Dict[str, List[str]] = {}
    for name, trial in stack.trials.items():
        if trial.error and name != GPU_OPS:
            causes.setdefault(trial.error, []).append(name)
    findings = []
    for error, names in causes.items():
        meaning, fix = explain(error, stack)
        severities = [severity_of(name, stack, needed) for name in names]
        shown = ' '.join(error.split())
        if len(shown) > 300:
            shown = shown[:300] + ' ...'
        findings.append(
            Finding(
                FATAL if FATAL in severities else WARNING, 'imports',
                f'{", ".join(names)} cannot be imported'
                f'{": " + meaning if meaning else ""} ({shown})', fix))
    return findings


ENVIRONMENT_CHECKS = (check_versions, check_flavours, check_torchvision,
                      check_imports)
