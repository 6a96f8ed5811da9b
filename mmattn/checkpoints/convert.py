"""Published checkpoints to ours, by tables of key patterns.

In a pattern ``{}`` is a number, and ``*`` at its end the name of a parameter
or buffer. A target takes the numbers in their order.
"""
import os
import re
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from os import path as osp
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from .mxnet import is_params, read_params
from .safe import CheckpointError, load_checkpoint_file

# The modules of this package that hold TABLES: what --source can be.
SOURCES = ('aff', 'coordattention', 'dcanet', 'eca', 'lip', 'openmmlab',
           'peers', 'sda', 'timm', 'torchvision')
Weights = Dict[str, Tensor]
Join = Callable[[List[Tensor]], Tensor]
Rule = Union[None, str, Tuple[str, Join], Tuple[str, Join, int], List]
Rules = Dict[str, Rule]


@dataclass(frozen=True)
class Table:
    """The names of one layout of a published source.

    Args:
        name: In messages and in the written file: the source, and the layout
            where the source has several.
        signature: Patterns; each is found in every file of this layout.
        rules: From each pattern of the source to its target in our model;
            to None, for what is dropped on purpose; to a target and a
            function, for tensors that are joined or reshaped; or to a list
            of targets, for what the source uses several times. A target with
            a function may leave out the pattern's last number: the function
            gets the list of tensors that differ only in it, in numerical
            order. They are numbered from 0, or from a third entry. The first
            pattern that fits a key decides.
    """
    name: str
    signature: Tuple[str, ...]
    rules: Rules

    def match(self, key: str) -> Optional[Tuple]:
        """The rule of a key, with its numbers and leaf; None without one."""
        for pattern, rule in self.rules.items():
            found = _regex(pattern).fullmatch(key)
            if found:
                numbers = found.groups()[:pattern.count('{}')]
                leaf = found.groupdict().get('leaf', '')
                return rule, [int(n) for n in numbers], leaf
        return None


@lru_cache(maxsize=None)
def _regex(pattern: str) -> re.Pattern:
    pattern = re.escape(pattern).replace(r'\{\}', r'(\d+)')
    return re.compile(pattern.replace(r'\*', r'(?P<leaf>\w+)'))


def below(theirs: str, ours: str, rules: Rules) -> Rules:
    """The rules of a part of a network, with the names of both before them."""

    def target(rule: Rule) -> Rule:
        if isinstance(rule, list):
            return [target(one) for one in rule]
        if isinstance(rule, tuple):
            return (ours + rule[0], *rule[1:])
        return rule if rule is None else ours + rule

    return {theirs + pattern: target(rule) for pattern, rule in rules.items()}


def as_conv(tensors: List[Tensor]) -> Tensor:
    """The weight of a linear layer as that of a 1x1 convolution."""
    tensor, = tensors
    return tensor[..., None, None] if tensor.dim() == 2 else tensor


def as_vector(tensors: List[Tensor]) -> Tensor:
    """A tensor's numbers without its shape."""
    tensor, = tensors
    return tensor.flatten()


def _some(lines: Iterable[str]) -> str:
    lines = list(lines)
    more = ['...'] if len(lines) > 10 else []
    return '\n  '.join([f'{len(lines)}:', *lines[:10], *more])


def read_weights(path: str) -> Weights:
    """A published file's tensors: unwrapped, unprefixed, half made float.

    Files of PyTorch and MXNet.
    """
    read = read_params if is_params(path) else load_checkpoint_file
    weights = read(path)
    for wrapper in ('state_dict', 'model', 'net'):
        inner = isinstance(weights, dict) and weights.get(wrapper)
        weights = inner if isinstance(inner, dict) else weights
    if not isinstance(weights, dict) or not weights:
        wrong = [f'all of it: {type(weights).__name__}']
    else:
        wrong = [
            f'{key}: {type(value).__name__}'
            for key, value in weights.items() if not isinstance(value, Tensor)
        ]
    if wrong:
        raise CheckpointError(
            f'{path} must hold a dict of tensors, bare or under state_dict, '
            f'model or net; what is none, {_some(wrong)}')
    prefix = re.compile(r'(module\.(1\.)?)+')  # parallel and half wrappers
    if all(map(prefix.match, weights)):
        weights = {prefix.sub('', k, count=1): v for k, v in weights.items()}
    half = (torch.float16, torch.bfloat16)
    return {k: v.float() if v.dtype in half else v for k, v in weights.items()}


def find_table(weights: Weights, source: Optional[str] = None) -> Table:
    """The table of a file by the file's keys, of all sources or of one."""
    if source is not None and source not in SOURCES:
        raise CheckpointError(f'source {source!r} is not known; known are '
                              f'{", ".join(SOURCES)}')
    sources = SOURCES if source is None else (source, )
    tables = [
        table for name in sources
        for table in import_module(f'{__package__}.{name}').TABLES
    ]
    found = [
        table for table in tables
        if all(any(map(_regex(p).fullmatch, weights)) for p in table.signature)
    ]
    if len(found) > 1:  # layouts extend others: which knows most of the keys?
        unknown = [sum(t.match(k) is None for k in weights) for t in found]
        found = [t for t, n in zip(found, unknown) if n == min(unknown)]
    if len(found) != 1:
        fits = ' and '.join(table.name for table in found) or 'none'
        raise CheckpointError(
            'the keys must tell the source of the file; of the known sources '
            f'({", ".join(sources)}) they fit {fits}. If you know it, give '
            f'--source. Keys of the file, {_some(weights)}')
    return found[0]


def map_keys(table: Table, weights: Weights) -> Tuple[Weights, int]:
    """Rename, join and drop by a table; also says how many were dropped."""
    matches = {key: table.match(key) for key in weights}
    unknown = [key for key, match in matches.items() if match is None]
    if unknown:
        raise CheckpointError('keys without a rule in the table of '
                              f'{table.name}, {_some(unknown)}')
    parts, functions = {}, {}
    for key, (rules, numbers, leaf) in matches.items():
        for rule in rules if isinstance(rules, list) else [rules]:
            if rule is None:
                continue
            target, function, first = (
                (rule, None, 0) if isinstance(rule, str) else (*rule, 0)[:3])
            used = target.count('{}')
            target = target.replace('*', leaf).format(*numbers)
            functions[target] = function, first
            parts.setdefault(target, []).append((numbers[used:], key))
    mapped = {}
    for target, found in parts.items():
        found.sort()
        order, keys = zip(*found)
        function, first = functions[target]
        whole = [[first + i] for i in range(len(keys))]
        if list(order) not in ([[]], whole if function else [[]]):
            raise CheckpointError(f'{target} must come from one key, or be '
                                  f'joined from keys numbered from {first}; '
                                  f'it has {_some(keys)}')
        tensors = [weights[key] for key in keys]
        mapped[target] = function(tensors) if function else tensors[0]
    return mapped, sum(match[0] is None for match in matches.values())


def fit(mapped: Weights, model: Weights) -> Tuple[Weights, List[str]]:
    """Hold mapped weights against the state dict of the model they are for.

    A model takes all of itself, or the backbone if the file has no more. A
    model of another task, which has nothing by the names behind the file's
    backbone, takes the backbone alone; without the last convolution of a
    mobile network, where its backbone has none.

    Returns:
        What the model loads strictly, and in words what was done to it.
    """
    notes = []
    trunk = {k: v for k, v in mapped.items() if k.startswith('backbone.')}
    behind = mapped.keys() - trunk.keys()
    if behind and not any(key in model for key in behind):
        notes.append(f'{len(behind)} behind the backbone dropped: the model '
                     'has nothing by their names')
        mapped = trunk
    if len(trunk) == len(mapped):
        model = {k: v for k, v in model.items() if k.startswith('backbone.')}
        last = [key for key in mapped if key.startswith('backbone.conv2.')]
        if last and not any(k.startswith('backbone.conv2.') for k in model):
            notes.append(f'{len(last)} of the last convolution dropped: the '
                         'backbone has no conv2')
            mapped = {k: v for k, v in mapped.items() if k not in last}
    counters = {
        key: torch.zeros_like(value)
        for key, value in model.items()
        if key.endswith('.num_batches_tracked') and key not in mapped
    }
    if counters:
        notes.append(f'{len(counters)} num_batches_tracked set to 0')
    mapped = {**mapped, **counters}
    wrong = {
        'missing in the file': [k for k in model if k not in mapped],
        'not in the model': [k for k in mapped if k not in model],
        'of another shape': [
            f'{k}: file {tuple(v.shape)}, model {tuple(model[k].shape)}'
            for k, v in mapped.items()
            if k in model and v.shape != model[k].shape
        ],
    }
    if any(wrong.values()):
        lists = [f'keys {what}, {_some(k)}' for what, k in wrong.items() if k]
        raise CheckpointError('\n'.join(
            ['the file does not fit the model of the config:', *lists]))
    return mapped, notes


def _drop_init(node: Any) -> None:
    if isinstance(node, dict):
        for key in ('init_cfg', 'pretrained'):
            node.pop(key, None)
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            _drop_init(child)


def convert(src: str, dst: str, cfg: Config,
            source: Optional[str] = None) -> str:
    """Write a published checkpoint as one that the config's model loads.

    Args:
        src: The published file.
        dst: The file to write; replaced whole or not at all.
        cfg: A config with a ``model``.
        source: Name of the table; None tells it by the keys.

    Returns:
        One line that says what was written and what was not.

    Raises:
        FileNotFoundError: ``src`` does not exist.
        CheckpointError: ``src`` cannot be read, its source not be told, it
            has keys without a rule, or it does not fit the model; there is
            no model; ``dst`` is ``src``.
    """
    if osp.realpath(src) == osp.realpath(dst):
        raise CheckpointError(f'{dst} would replace its own source; give '
                              'another file to write')
    if 'model' not in cfg:
        raise CheckpointError('the config has no model to convert for')
    weights = read_weights(src)
    table = find_table(weights, source)
    mapped, dropped = map_keys(table, weights)
    model = deepcopy(cfg.model)
    _drop_init(model)
    model['_scope_'] = cfg.get('default_scope')
    state_dict, notes = fit(mapped, MODELS.build(model).state_dict())
    if dropped:
        notes.append(f'{dropped} dropped by the table')
    meta = dict(source=table.name, source_file=osp.basename(src))
    os.makedirs(osp.dirname(osp.abspath(dst)), exist_ok=True)
    part = f'{dst}.{os.getpid()}.part'
    try:
        torch.save(dict(meta=meta, state_dict=state_dict), part)
        os.replace(part, dst)
    finally:
        if osp.exists(part):
            os.remove(part)
    count = Counter(key.split('.')[0] for key in state_dict)
    tensors = ', '.join(f'{name} {n}' for name, n in count.items())
    return f'{table.name}: {"; ".join([tensors, *notes])} -> {dst}'
