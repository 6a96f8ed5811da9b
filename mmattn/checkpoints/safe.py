"""Read checkpoints without running what they carry.

A checkpoint is a pickle, and a pickle may name any function to be called while
it is read. Ours are read with an allow-list: tensors, plain values, and what
mmengine's own checkpoints hold beside them (log histories, numpy values).
There is no way back to full unpickling. What a file may ask for is limited by
its size (limits.py). Files of safetensors hold nothing but tensors.
"""
import http.client
import importlib
import os
import pickle
import re
import sys
from _codecs import encode
from collections import Counter
from os import path as osp
from typing import Any, BinaryIO, Callable, Dict
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from mmengine.runner import checkpoint as host
from mmengine.utils import digit_version

from .limits import LimitError, check_limits, check_tensors

# Older ones let no names be added to their restricted reader.
TORCH_TAKES_NAMES = digit_version(torch.__version__) >= digit_version('2.6.0')

REFUSED = """\
{name} was not read: it asks for {what}, which is neither a tensor nor a plain
value, so reading it would run code that the file chooses. A pickled model
object is refused for the same reason. If you trust its author, write its
weights to a plain file where that code is installed, and use that file:
    import torch
    x = torch.load({name!r}, map_location='cpu', weights_only=False)
    x = x.get('state_dict', x) if isinstance(x, dict) else x.state_dict()
    torch.save({{k: v.cpu() for k, v in x.items()}}, 'weights.pth')"""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be had, read or converted, and why."""


# The methods that mmengine's checkpoints hold, as getattr(class, name).
METHODS = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _method(owner: Any, name: str) -> Any:
    # stands in for getattr, which would reach everything
    if name not in METHODS.get(owner, ()):
        raise pickle.UnpicklingError(f'GLOBAL getattr({owner}, {name!r})')
    return getattr(owner, name)


def _allowed() -> Dict[str, Any]:
    """What may be named in a file besides torch's own list, by full name."""
    names = {
        'builtins.getattr': _method,
        'builtins.set': set,
        'collections.Counter': Counter,  # milestones of MultiStepLR
        '_codecs.encode': encode,  # how protocol 2 spells bytes
        'numpy.dtype': np.dtype,
        'numpy.ndarray': np.ndarray,
    }
    for core in ('numpy.core', 'numpy._core'):  # numpy 1, numpy 2
        rebuild, scalar = np.zeros(1).__reduce__(), np.float64().__reduce__()
        names[f'{core}.multiarray._reconstruct'] = rebuild[0]
        names[f'{core}.multiarray.scalar'] = scalar[0]
    # of dtypes the plain ones, not 'O'
    dtypes = [type(np.dtype(code)) for code in '?bhilqBHILQefdFDSU']
    for kind in [*METHODS, *dtypes]:
        names[f'{kind.__module__}.{kind.__name__}'] = kind
    return names


class _Unpickler(pickle.Unpickler):
    """The same allow-list for a torch that takes no names."""

    def find_class(self, module: str, name: str) -> Any:
        full = f'{module}.{name}'.replace('__builtin__.', 'builtins.', 1)
        known = torch._weights_only_unpickler._get_allowed_globals()
        known = {**known, **_allowed()}
        if full not in known:
            raise pickle.UnpicklingError(f'GLOBAL {full}')
        return known[full]


class _RestrictedPickle:
    """What ``torch.load`` wants of a ``pickle_module``."""
    Unpickler = _Unpickler

    @staticmethod
    def load(file: BinaryIO, **kwargs) -> Any:
        return _Unpickler(file, **kwargs).load()


def _torch_load(file: BinaryIO, map_location: Any) -> Any:
    check_limits(file)
    if TORCH_TAKES_NAMES:
        names = [(value, full) for full, value in _allowed().items()]
        with torch.serialization.safe_globals(names):
            return torch.load(file, map_location, weights_only=True)
    return torch.load(
        file, map_location, _RestrictedPickle, weights_only=False)


def _library(module: str, what: str) -> Any:
    """A module of a library that is not among our requirements."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition('.')[0]
        raise CheckpointError(
            f'{what} is read with {package}, which cannot be imported '
            f'({error}): pip install {package}') from None


def _load_safetensors(path: str, map_location: Any) -> Dict[str, Any]:
    library = _library('safetensors.torch', path)
    plain = isinstance(map_location, (str, torch.device))
    try:
        return library.load_file(
            path, device=str(map_location) if plain else 'cpu')
    except Exception as error:  # its kinds differ by version
        raise CheckpointError(
            f'{path} cannot be read as safetensors ({type(error).__name__}: '
            f'{error}). If it is empty, cut off or of another format, get it '
            'again.') from None


def load_checkpoint_file(path: str, map_location: Any = 'cpu') -> Any:
    """Read a local file of ``torch.save``, weights and values only.

    A file whose name ends with ``.safetensors`` is read with that library.

    Args:
        path: The file; ``~`` is expanded.
        map_location: As in ``torch.load``.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is damaged, names code, asks for more than
            it holds, or has tensors that are no weights; its library is
            missing.
    """
    path = osp.expanduser(path)
    if not osp.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    if path.endswith('.safetensors'):
        return _load_safetensors(path, map_location)
    try:
        with open(path, 'rb') as file:
            loaded = _torch_load(file, map_location)
        check_tensors(loaded, str(map_location) == 'meta')
        return loaded
    except LimitError as error:
        raise CheckpointError(
            f'{path} was not read: {error}. Get it again, from a source that '
            'you trust.') from None
    except Exception as error:  # a damaged file can raise nearly anything
        kind, message = type(error).__name__, str(error)
    # torch's and our words for a name, and for what a name must not make
    refused = re.search(
        r'GLOBAL (getattr\(.*\)|\S+)|(?:got|function) (<.+)', message)
    if kind == 'UnpicklingError' and refused:
        what = refused[1] or refused[2]
        raise CheckpointError(REFUSED.format(name=path, what=what))
    if kind != 'UnpicklingError' and message:
        kind += ': ' + message.splitlines()[0].split('. ')[0]
    raise CheckpointError(
        f'{path} cannot be read as a checkpoint ({kind}). If it is empty, cut '
        'off or not in the usual format of torch.save, get it again.')


def _fetch(url: str) -> str:
    """The copy of ``url`` in torch's hub folder, downloaded if need be."""
    name = osp.basename(urlparse(url).path)
    path = osp.join(torch.hub.get_dir(), 'checkpoints', name)
    sha256 = re.search(r'-([0-9a-f]{8,})\.', name)
    try:
        if not osp.isfile(path):
            os.makedirs(osp.dirname(path), exist_ok=True)
            torch.hub.download_url_to_file(
                url, path, sha256 and sha256[1], sys.stderr.isatty())
    # RuntimeError: the content is not what the hash in the name says
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise CheckpointError(
            f'cannot download {url} ({error}). Download it where there is a '
            f'network, then give its local path or put it at {path}') from None
    return path


def load_from_local(filename: str, map_location: Any = None) -> Any:
    return load_checkpoint_file(filename, map_location)


def _first_alone(fetch: Callable[[str], str], name: str) -> str:
    """What a download returns; one process does it, the others find it."""
    try:
        if get_rank() == 0:
            fetch(name)
    finally:  # those who waited find the file, or fail with the same words
        barrier()
    return fetch(name)


def load_from_http(filename: str, map_location: Any = None) -> Any:
    return load_checkpoint_file(_first_alone(_fetch, filename), map_location)


def _fetch_from_hub(filename: str) -> str:
    """The copy of a file of the Hugging Face Hub in its own cache."""
    owner, _, rest = filename[len('hf://'):].partition('/')
    repository, _, name = rest.partition('/')
    if not (owner and repository and name):
        raise CheckpointError(f'{filename} must name a file of a repository: '
                              'hf://owner/repository/file')
    library = _library('huggingface_hub', filename)
    try:
        return library.hf_hub_download(f'{owner}/{repository}', name)
    except Exception as error:  # its kinds differ by version
        raise CheckpointError(
            f'cannot download {filename} ({type(error).__name__}: {error}). '
            'Download it where there is a network, then give its local '
            'path') from None


def load_from_hub(filename: str, map_location: Any = None) -> Any:
    path = _first_alone(_fetch_from_hub, filename)
    return load_checkpoint_file(path, map_location)


def load_from_zoo(filename: str, map_location: Any = None) -> Any:
    scheme, _, name = filename.partition('://')
    if scheme in ('torchvision', 'modelzoo'):
        urls = host.get_torchvision_models()
    elif scheme == 'mmcls':
        urls = host.get_mmcls_models()
    else:
        urls = host.get_external_models()
        name = host.get_deprecated_model_names().get(name, name)
    if not urls.get(name):
        raise CheckpointError(f'{filename}: {scheme} has no {name!r}')
    if not urls[name].startswith(('http://', 'https://')):
        path = osp.join(host._get_mmengine_home(), urls[name])
        return load_checkpoint_file(path, map_location)
    weights = load_from_http(urls[name], map_location)
    if scheme == 'mmcls':  # mmengine hands on the trunk of a classifier
        weights = weights.get('state_dict', weights)
        weights = {
            'state_dict': {
                key[len('backbone.'):]: value
                for key, value in weights.items()
                if key.startswith('backbone.')
            }
        }
    return weights


def load_from_elsewhere(filename: str, map_location: Any = None) -> Any:
    raise CheckpointError(
        f'{filename}: only local files, http(s)://, hf:// and the model zoos '
        'are read. Download the file and give its local path')


SCHEMES = {
    '': load_from_local,
    'http://': load_from_http,
    'https://': load_from_http,
    'hf://': load_from_hub,
    r'.*\.safetensors$': load_from_local,
    'torchvision://': load_from_zoo,
    'modelzoo://': load_from_zoo,
    'open-mmlab://': load_from_zoo,
    'openmmlab://': load_from_zoo,
    'mmcls://': load_from_zoo,
    r'(\S+\:)?s3://': load_from_elsewhere,
    r'(\S+\:)?petrel://': load_from_elsewhere,
    'pavi://': load_from_elsewhere,
}


def install_safe_loading() -> None:
    """Make mmengine read every checkpoint with the allow-list of this module.

    Replaces the loaders of all schemes that unpickle, for this process, and
    adds ``hf://`` and files of safetensors.
    Loaders that a user registers afterwards are the user's.
    """
    for scheme, loader in SCHEMES.items():
        host.CheckpointLoader.register_scheme(scheme, loader, force=True)
