"""Who reads the maps of a config's backbone, and what they must expect."""
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import CommandError

# Necks that hand on as many channels as they get.
PASSING = ('GlobalAveragePooling', 'GeneralizedMeanPooling',
           'ClsBatchNormNeck')
INPUTS = ('in_channels', 'input_features')
NOT_HEADS = ('backbone', 'neck', 'data_preprocessor', 'train_cfg', 'test_cfg')


def mapped(value: Any, old: Sequence[int], new: Sequence[int],
           index: Any = None) -> Any:
    """What ``in_channels`` becomes.

    Args:
        value: The config's: a number, or a sequence of them.
        old: Channels of the stock backbone's outputs.
        new: Those of the new one.
        index: Which outputs are read, where the config says so.

    Returns:
        The new value; None where the old one does not fit the old backbone.
    """
    if not isinstance(value, (list, tuple)):
        if isinstance(index, (list, tuple)):
            if len(index) != 1:
                return None
            index = index[0]
        if index is None:
            found = [i for i, channels in enumerate(old) if channels == value]
            # The last is what heads without an index read.
            index = found[-1] if found else len(old)
        fits = -len(old) <= index < len(old) and old[index] == value
        return new[index] if fits else None
    kind, value, old, new = type(value), list(value), list(old), list(new)
    if isinstance(index, (list, tuple)):
        if not all(-len(old) <= i < len(old) for i in index):
            return None
        old, new = [old[i] for i in index], [new[i] for i in index]
    if value == old:
        return kind(new)
    if value == old[::-1]:  # from the deepest on, as in YOLOv3
        return kind(new[::-1])
    if value[:len(old)] == old:  # further levels behind, as in SSD
        return kind(new + value[len(old):])
    return None


def _type(node: dict) -> str:
    kind = node.get('type', '')
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def _unclear(place: str, value: Any, old: Sequence[int]) -> CommandError:
    return CommandError(
        f'cannot tell what {place} reads: it expects {value!r} channels, and '
        f'the backbone of the config returns {list(old)}. Write the override '
        'by hand: model.backbone, and the in_channels of whatever reads it')


def _reader(place: str, node: dict, old: Sequence[int],
            new: Sequence[int]) -> Optional[Dict[str, Any]]:
    """What changes in a neck or head; None if it reads no backbone."""
    changes = {}
    for key in INPUTS:
        if node.get(key) is not None:
            changes[key] = mapped(node[key], old, new, node.get('in_index'))
            if changes[key] is None:
                raise _unclear(f'{place}.{key}', node[key], old)
    if node.get('c1_in_channels'):  # DeepLabV3+: the first output
        changes['c1_in_channels'] = mapped(node['c1_in_channels'], old, new, 0)
        if changes['c1_in_channels'] is None:
            raise _unclear(f'{place}.c1_in_channels', node['c1_in_channels'],
                           old)
    return changes or None


def _neck(neck: Any, old: Sequence[int], new: Sequence[int]
          ) -> Tuple[Any, bool]:
    """The override of a neck, and whether heads still see the backbone."""
    listed = isinstance(neck, (list, tuple))
    overrides, passing = [], True
    for one in neck if listed else [neck]:
        changes = {}
        if passing:
            changes = _reader('neck', one, old, new) or {}
            passing = _type(one) in PASSING
            if not passing and not changes:
                raise _unclear(f'neck ({_type(one)})', None, old)
            out = one.get('out_channels')
            if isinstance(out, (list, tuple)) and len(out) > len(old):
                extended = mapped(out, old, new)  # SSD's neck
                changes.update({'out_channels': extended} if extended else {})
        overrides.append({**one, **changes} if listed else changes)
    return (overrides if listed else overrides[0]), passing


def _heads(model: dict, old: Sequence[int], new: Sequence[int]) -> dict:
    overrides: Dict[str, Any] = {}
    for name, node in model.items():
        nodes = node if isinstance(node, (list, tuple)) else [node]
        if name in NOT_HEADS or not all(isinstance(n, dict) for n in nodes):
            continue
        changes = [_reader(name, n, old, new) for n in nodes]
        if name == 'roi_head' and changes == [None]:
            raise CommandError(
                'cannot tell what roi_head reads where there is no neck; '
                'use a config with one, or write the override by hand')
        if isinstance(node, dict) and changes[0]:
            overrides[name] = changes[0]
        elif not isinstance(node, dict) and any(changes):
            overrides[name] = [
                {**n, **(change or {})} for n, change in zip(nodes, changes)
            ]
    return overrides


def reader_overrides(model: dict, old: List[int], new: List[int]) -> dict:
    """What a model needs besides its backbone when channels change.

    Args:
        model: The stock model's config.
        old: Channels of the stock backbone's outputs.
        new: Those of the new one, as many.

    Returns:
        The entries of neck and heads that change.

    Raises:
        CommandError: Who reads the backbone cannot be told.
    """
    if list(old) == list(new):
        return {}
    overrides: Dict[str, Any] = {}
    passing, neck = True, model.get('neck')
    if neck:
        changes, passing = _neck(neck, old, new)
        overrides.update({'neck': changes} if changes else {})
        wide = changes.get('out_channels') if isinstance(changes,
                                                         dict) else None
        if wide:
            head = model.get('bbox_head') or {}
            if list(head.get('in_channels', ())) != list(neck['out_channels']):
                raise _unclear('bbox_head', head.get('in_channels'), old)
            overrides['bbox_head'] = dict(in_channels=wide)
    if passing:
        heads = _heads(model, old, new)
        if not heads:
            raise CommandError(
                'no head of the config says in_channels, so it cannot be told '
                'who reads the backbone; write the override by hand')
        overrides.update(heads)
    return overrides
