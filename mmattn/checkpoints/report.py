"""Says what a checkpoint gave a backbone, and refuses half a trunk."""
import logging
from collections import Counter
from typing import Dict, Iterable, List, Optional

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from ..registry import HOOKS
from .repair import fitting_prefixes, rename, unwrap, without_module

# What a network adds to a trunk, by a component of the parameter's name.
# Whatever else a backbone holds is its trunk.
PARTS = ('attention', 'link', 'fusion', 'depth_fusion', 'stage_attention',
         'branches', 'conv_offset')
# Names shown on each side of an error.
SHOWN = 4


def part_of(key: str) -> str:
    """The part that a parameter belongs to, ``'trunk'`` if to none."""
    for name in key.split('.'):
        if name in PARTS:
            return name
    return 'trunk'


def _some(keys: Iterable[str]) -> str:
    keys = list(keys)
    more = f', ... ({len(keys)} in all)' if len(keys) > SHOWN else ''
    return (', '.join(keys[:SHOWN]) or 'none') + more


def _counted(state: dict) -> Dict[str, torch.Size]:
    """Shapes by name, without the counters that old files lack."""
    return {
        key: value.shape
        for key, value in state.items() if isinstance(value, torch.Tensor)
        and not key.endswith('num_batches_tracked')
    }


def _misfits(own: dict, given: dict) -> List[str]:
    """What a file has in another shape, with both shapes."""
    return [
        f'{key} {tuple(given[key])} for {tuple(shape)}'
        for key, shape in own.items() if given.get(key, shape) != shape
    ]


def _likely_prefix(own: Iterable[str], given: Iterable[str]) -> str:
    """What to put before our names to get the most of the file's."""
    own = set(own)
    prefixes = Counter()
    for key in given:
        parts = key.split('.')
        for i in range(1, len(parts)):
            if '.'.join(parts[i:]) in own:
                prefixes['.'.join(parts[:i]) + '.'] += 1
                break
    return prefixes.most_common(1)[0][0] if prefixes else ''


def _advice(trunk: List[str], given: Dict[str, torch.Size]) -> str:
    prefix = _likely_prefix(trunk, given)
    if prefix:
        return (f'The names agree behind the prefix {prefix!r}: write '
                "init_cfg=dict(type='Pretrained', checkpoint=..., "
                f'prefix={prefix!r}); if the names in the file begin with '
                f"'module.', prefix={'module.' + prefix!r}.")
    return ('If it is a published checkpoint in its authors\' names, convert '
            'it with tools/convert_checkpoint.py.')


def check_trunk(backbone: nn.Module, state_dict: dict, prefix: str) -> None:
    """Report in one line what a state dict holds of a backbone.

    Counts the trunk and each added part. What the network adds may be
    missing; nothing of the trunk, or some of it, is an error.

    Args:
        backbone: The backbone about to load; its ``on_partial_load`` says
            whether a bad trunk is an error or a warning.
        state_dict: What it will load from.
        prefix: Of the backbone's names in it.

    Raises:
        RuntimeError: The trunk would be left out or loaded in part.
    """
    own = _counted(backbone.state_dict())
    given = {
        key[len(prefix):]: shape
        for key, shape in _counted(state_dict).items()
        if key.startswith(prefix)
    }
    total, loaded = Counter(), Counter()
    for key, shape in own.items():
        total[part_of(key)] += 1
        loaded[part_of(key)] += given.get(key) == shape
    unused = [key for key in given if key not in own]
    line = f'{type(backbone).__name__} loads ' + ', '.join(
        f'{part} {loaded[part]}/{count}' for part, count in total.items())
    if unused:
        line += f'; not in this network: {_some(unused)}'
    misfits = _misfits(
        {k: v for k, v in own.items() if part_of(k) != 'trunk'}, given)
    if misfits:
        line += f'; of another shape: {_some(misfits)}'
    problem = _problem(own, given, unused, loaded['trunk'], prefix)
    if problem is None:
        print_log(line, logger='current')
        return
    message = f'{line}.\n{problem}'
    if backbone.on_partial_load == 'warn':
        print_log(message, logger='current', level=logging.WARNING)
        return
    raise RuntimeError(
        f"{message}\nTo go on with what fits, set on_partial_load='warn' in "
        'the backbone (--cfg-options model.backbone.on_partial_load=warn).')


def _problem(own: dict, given: dict, unused: List[str], loaded: int,
             prefix: str) -> Optional[str]:
    trunk = [key for key in own if part_of(key) == 'trunk']
    if loaded == 0:
        return ('Nothing of the trunk is in the checkpoint. The network has '
                f'{_some(trunk)}; the file has {_some(given)}'
                f'{f" behind {prefix!r}" if prefix else ""}. ' +
                _advice(trunk, given))
    problems = []
    missing = [key for key in trunk if key not in given]
    if missing:
        problems.append(f'The file lacks {_some(missing)}.')
    mismatched = _misfits({key: own[key] for key in trunk}, given)
    if mismatched:
        problems.append('Shapes of the file that do not fit the network: '
                        f'{_some(mismatched)}.')
    stages = {key.split('.')[0] for key in trunk}
    deeper = [
        key for key in unused
        if part_of(key) == 'trunk' and key.split('.')[0] in stages
    ]
    if deeper:
        problems.append(f'The file has more of a trunk: {_some(deeper)}.')
    if not problems:
        return None
    return ('Only some of the trunk would be loaded, so the network would '
            'start half trained. ' + ' '.join(problems) +
            ' Is it a checkpoint of this depth, groups and style?')


def _by_module(keys: Iterable[str]) -> Dict[str, List[str]]:
    """Names below each top-level module of a model."""
    modules = {}
    for key in keys:
        module, _, rest = key.partition('.')
        modules.setdefault(module, []).append(rest or module)
    return modules


def _details(own: dict, given: dict) -> List[str]:
    """For each module of a model what the file lacks or has in other shape."""
    lacking = _by_module(key for key in own if key not in given)
    other = _by_module(_misfits(own, given))
    return [
        f'{what} for {module}: {_some(names[module])} (left as initialised)'
        for module in _by_module(own)
        for what, names in (('missing', lacking), ('another shape', other))
        if module in names
    ]


@HOOKS.register_module()
class LoadReportHook(Hook):
    """Says what ``load_from`` or a resume gives the whole model.

    For each module (backbone, neck, heads) it counts what is loaded and names
    what is missing or of another shape, such as the class scores of a head
    for other classes: these are not loaded, as in mmengine. The backbone
    reports its own share whichever way it is loaded. Our command-line tools
    install it.

    Weights that lie deeper in the file than mmengine looks, or whose names
    differ from the model's by no more than a prefix (``'module.'``,
    ``'model.'``, ``'encoder_q.'``, none for ``'backbone.'``), are put right
    for mmengine and for the averages of ``EMAHook``, in one line each.

    Raises:
        RuntimeError: The file has no weights, or nothing for the backbone.
    """

    # Before EMAHook, which reads the same weights.
    priority = 'ABOVE_NORMAL'

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        own = _counted(model.state_dict())
        weights = self._repaired(model, own, checkpoint)
        given = _counted(weights)
        total, loaded = Counter(), Counter()
        for key, shape in own.items():
            module = key.split('.')[0]
            total[module] += 1
            loaded[module] += given.get(key) == shape
        unused = [key for key in given if key not in own]
        lines = [
            'Checkpoint holds ' + ', '.join(
                f'{module} {loaded[module]}/{count}'
                for module, count in total.items()) +
            (f'; not in this model: {_some(unused)}' if unused else ''),
            *_details(own, given)
        ]
        print_log('\n  '.join(lines), logger='current')

    def _repaired(self, model: nn.Module, own: dict, checkpoint: dict) -> dict:
        """The file's weights by the model's names, also put in its place."""
        weights, path, left = unwrap(checkpoint)
        if path != ['state_dict']:
            checkpoint['state_dict'] = weights = dict(weights)
            if path:
                print_log(
                    f'Checkpoint has its weights under {".".join(path)}' +
                    (f'; not read: {", ".join(left)}' if left else ''),
                    logger='current')
        plain = without_module(weights)
        core = {
            key: shape
            for key, shape in own.items()
            if key.startswith('backbone.') and part_of(key) == 'trunk'
        }
        if not core or any(key in plain for key in core):
            if plain.keys() != weights.keys():
                checkpoint['state_dict'] = plain  # EMAHook takes it as it is
                print_log("Checkpoint is loaded with 'module.' removed",
                          logger='current')
            return plain
        pairs = fitting_prefixes(core, _counted(weights))
        if len(pairs) == 1:
            theirs, ours = pairs[0]
            checkpoint['state_dict'] = weights = rename(weights, theirs, ours)
            print_log(
                'Checkpoint is loaded with ' +
                (f'{theirs!r} removed' if not ours else
                 f'{theirs!r} replaced by {ours!r}' if theirs else
                 f'{ours!r} put before all names'),
                logger='current')
            return weights
        if getattr(getattr(model, 'backbone', None), 'on_partial_load',
                   None) == 'error':
            raise RuntimeError(self._refusal(core, plain, pairs))
        return plain

    @staticmethod
    def _refusal(core: dict, given: dict, pairs: list) -> str:
        prefixes = [theirs for theirs, _ in pairs] or list(
            filter(None, [
                _likely_prefix([key[len('backbone.'):] for key in core], given)
            ]))
        return ('The checkpoint has nothing for the backbone. The model has '
                f'{_some(core)}; the file has {_some(given)}. ' +
                (f'Its backbone seems to start with '
                 f'{" or ".join(map(repr, prefixes))}. ' if prefixes else '') +
                'load_from needs a checkpoint of the whole model, or one '
                'whose names differ by one prefix; weights of a backbone '
                'alone can be given as model.backbone.init_cfg=dict('
                "type='Pretrained', checkpoint=..., prefix=...). To go on "
                "with what fits, set on_partial_load='warn' in the backbone "
                '(--cfg-options model.backbone.on_partial_load=warn).')
