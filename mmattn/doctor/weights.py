"""Whether the weights a config starts from can be had."""
import difflib
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Dict, Iterator, List, Tuple
from urllib.parse import urlparse

import torch

from .config import Case, walk
from .finding import FATAL, OK, WARNING, Finding

TIMEOUT = 5


def starts(case: Case) -> Iterator[Tuple[str, str]]:
    """Every checkpoint that the config reads, with its place in it."""
    cfg = case.cfg
    if isinstance(cfg.get('load_from'), str) and cfg.load_from:
        yield 'load_from', cfg.load_from
    for path, node in walk(cfg.get('model'), 'model'):
        kind = str(node.get('type')).split('.')[-1]
        keys = ['pretrained', 'teacher_ckpt']
        keys += ['checkpoint'] * kind.startswith('Pretrained')
        for key in keys:
            if isinstance(node.get(key), str) and node[key]:
                yield f'{path}.{key}', node[key]


def resolve(name: str) -> str:
    """The URL or path behind the schemes of mmengine.

    Raises:
        KeyError: The scheme has no such model; names the nearest.
    """
    from mmengine.runner import checkpoint as schemes
    scheme, _, model = name.partition('://')
    tables = {
        'torchvision': schemes.get_torchvision_models,
        'modelzoo': schemes.get_torchvision_models,
        'open-mmlab': schemes.get_external_models,
        'openmmlab': schemes.get_external_models,
        'mmcls': schemes.get_mmcls_models,
    }
    if scheme not in tables:
        return name
    table = tables[scheme]()
    if scheme in ('open-mmlab', 'openmmlab'):
        model = schemes.get_deprecated_model_names().get(model, model)
    if model not in table:
        near = difflib.get_close_matches(model, table)
        raise KeyError(f'{scheme}:// knows no {model}' +
                       (f'; near it are {", ".join(near)}' if near else ''))
    url = table[model]
    if '://' not in url:
        home = os.environ.get('MMENGINE_HOME', '~/.cache/mmengine')
        url = str(Path(home).expanduser() / url)
    return url


def cached(url: str) -> Path:
    """Where torch and mmengine keep the file of a URL."""
    name = Path(urlparse(url).path).name
    return Path(torch.hub.get_dir()) / 'checkpoints' / name


def ask(url: str, silent: Dict[str, str]) -> Tuple[str, str]:
    """Ask a server for a file without fetching it.

    Args:
        url: Of the file.
        silent: Hosts that did not answer, with the reason; added to.

    Returns:
        ``'there'``, ``'refused'`` or ``'silent'``, and the reason.
    """
    host = urlparse(url).netloc
    if host not in silent:
        request = urllib.request.Request(
            url, method='HEAD', headers={'User-Agent': 'mmattn-doctor'})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):
                return 'there', ''
        except urllib.error.HTTPError as error:
            return 'refused', f'HTTP {error.code}'
        except OSError as error:
            silent[host] = str(getattr(error, 'reason', error))
    return 'silent', silent[host]


def _url(place: str, url: str, offline: bool, silent: dict) -> Finding:
    keep = cached(url)
    if keep.is_file():
        return Finding(OK, 'weights', f'{place}: {keep} is there')
    by_hand = f'fetch {url} elsewhere and put it at {keep}'
    if offline:
        return Finding(WARNING, 'weights', f'{place}: {url} is not in the '
                       'cache and was not asked for (--offline)', by_hand)
    answer, reason = ask(url, silent)
    if answer == 'there':
        return Finding(OK, 'weights', f'{place}: {url} will be downloaded')
    # Some stores answer HEAD with 403 or 405 and give the file.
    if answer == 'refused' and reason in ('HTTP 404', 'HTTP 410'):
        return Finding(FATAL, 'weights', f'{place}: {url} does not exist '
                       f'({reason})', 'correct the address')
    return Finding(WARNING, 'weights', f'{place}: {url} is not in the cache '
                   f'and could not be reached ({reason})', by_hand)


def _hub(place: str, name: str) -> List[Finding]:
    """hf:// and safetensors need a library."""
    from importlib.util import find_spec
    needs = {'huggingface_hub': name.startswith('hf://'),
             'safetensors': name.endswith('.safetensors')}
    return [
        Finding(FATAL, 'weights', f'{place}: {name} needs the package '
                f'{package}', f'pip install {package}')
        for package, needed in needs.items()
        if needed and find_spec(package) is None
    ]


def check_weights(case: Case) -> List[Finding]:
    """Every starting checkpoint is a file, cached, or can be downloaded."""
    findings: List[Finding] = []
    places: Dict[str, List[str]] = {}
    silent: Dict[str, str] = {}
    for place, name in starts(case):
        places.setdefault(name, []).append(place)
    for name, found in places.items():
        place = found[0] + (f' and {len(found) - 1} more' if found[1:] else '')
        missing = _hub(place, name)
        findings += missing
        if missing:
            continue
        try:
            target = resolve(name)
        except KeyError as error:
            findings.append(
                Finding(FATAL, 'weights', f'{place}: {error.args[0]}',
                        'correct the name'))
            continue
        if target.startswith(('http://', 'https://')):
            findings.append(_url(place, target, case.offline, silent))
        elif '://' in target:
            findings.append(
                Finding(OK, 'weights', f'{place}: {target} was not checked'))
        elif Path(target).expanduser().is_file():
            findings.append(
                Finding(OK, 'weights', f'{place}: {target} is there'))
        else:
            findings.append(
                Finding(
                    FATAL, 'weights', f'{place}: {target} is not a file '
                    f'(looked from {os.getcwd()})',
                    'correct the path; published files are converted with '
                    'tools/convert_checkpoint.py, the rest is the result of '
                    'its own training config'))
    return findings
