"""Checkpoints whose names differ from a model's by no more than a prefix."""
from collections import defaultdict
from typing import Any, Dict, List, Set, Tuple

from torch import Size, Tensor

# Under what other programs put their weights; the first that is there.
WRAPPERS = ('state_dict', 'model', 'net', 'model_state_dict', 'model_state',
            'ema_model', 'model_ema', 'state_dict_ema', 'ema_state_dict',
            'ema')
Prefixes = Tuple[str, str]


def _has_tensors(node: dict) -> bool:
    return any(isinstance(value, Tensor) for value in node.values())


def unwrap(checkpoint: Any) -> Tuple[dict, List[str], List[str]]:
    """The weights of a checkpoint, as deep as they lie.

    Returns:
        The weights; the keys that lead to them; what else there seemed to
        hold weights and is left.

    Raises:
        RuntimeError: It has no tensors where weights are looked for.
    """
    node, path, left = checkpoint, [], []
    while isinstance(node, dict) and not _has_tensors(node):
        keys = [k for k in WRAPPERS if isinstance(node.get(k), dict)]
        if not keys:
            break
        path.append(keys[0])
        left += keys[1:]
        node = node[keys[0]]
    if not isinstance(node, dict) or not _has_tensors(node):
        what = f'a {type(node).__name__}'
        if isinstance(node, dict):
            what += f' with {", ".join(map(str, list(node)[:8])) or "nothing"}'
        raise RuntimeError(
            f'The checkpoint has no weights{" under " if path else ""}'
            f'{".".join(path)}: there is {what}. Expected are tensors by '
            f'name, bare or under one of {", ".join(WRAPPERS)}')
    return node, path, left


def fitting_prefixes(core: Dict[str, Size],
                     given: Dict[str, Size]) -> List[Prefixes]:
    """Prefixes of a file that would fit if they were ones of ours.

    Args:
        core: Shapes of what the file should hold, by our names.
        given: Shapes of the file.

    Returns:
        The pairs (theirs, ours) by which most of the file's tensors fit, by
        name and shape; several if they take different tensors.
    """
    fits: Dict[Prefixes, Set[str]] = defaultdict(set)
    for key, shape in given.items():
        parts = key.split('.')
        for i in range(len(parts)):
            theirs = ''.join(part + '.' for part in parts[:i])
            for ours in ('', 'backbone.'):
                if core.get(ours + key[len(theirs):]) == shape:
                    fits[theirs, ours].add(key)
    most = max(map(len, fits.values()), default=0)
    found = {}
    for pair, keys in sorted(fits.items()):  # shorter prefixes first
        if len(keys) == most:
            found.setdefault(frozenset(keys), pair)
    return list(found.values()) if 2 * most >= len(core) else []


def without_module(weights: dict) -> dict:
    """The weights without the prefix that wrappers for several GPUs leave."""
    return {
        key[7:] if key.startswith('module.') else key: value
        for key, value in weights.items()
    }


def rename(weights: dict, theirs: str, ours: str) -> dict:
    """The weights with one prefix for another; the rest as it is.

    Raises:
        RuntimeError: Two tensors would have one name.
    """
    renamed = {
        ours + key[len(theirs):] if key.startswith(theirs) else key: value
        for key, value in weights.items()
    }
    if len(renamed) != len(weights):
        raise RuntimeError(
            f'The checkpoint has {theirs!r} where the model has {ours!r}, and '
            'some tensors under both names; keep one kind of them')
    return renamed
