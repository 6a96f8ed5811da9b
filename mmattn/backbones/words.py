"""What the words of a backbone's config come to."""
import inspect
from typing import Any, List, Optional, Union

from torch import nn

from ..checks import check_init_cfg
from ..parts import spread


def refuse_unknown(cls: type, unknown: dict) -> None:
    """Raise for config words that a backbone does not have.

    Raises:
        TypeError: Lists the words it has.
    """
    if unknown:
        words = {
            name
            for base in cls.__mro__ if issubclass(base, nn.Module)
            for name, p in inspect.signature(base).parameters.items()
            if p.kind is p.KEYWORD_ONLY
        }
        raise TypeError(f'{cls.__name__} has no option '
                        f'{", ".join(map(repr, unknown))}; it has '
                        f'{", ".join(sorted(words))}')


def _given(entry: Any) -> bool:
    """Whether a stage's entry of a word is there for any of its blocks."""
    if isinstance(entry, (list, tuple)):
        return any(entry)
    return entry is not None


def stage_words(num_stages: int, **words: Any) -> List[dict]:
    """The config words of each stage.

    Args:
        num_stages: How many stages there are.
        words: ``attention``, ``attention_at``, ``link``, ``fusion``,
            ``depth_fusion``, ``stage_attention``, ``conv2``: each None, one
            value for all stages, or a list with one entry for each stage, of
            which an entry may be a list with one for each block.

    Raises:
        ValueError: A list of another length; a link or a place for an
            attention that is not there.
    """
    lists = {
        word: spread(value, num_stages, word, 'stages')
        for word, value in words.items()
    }
    there = [_given(entry) for entry in lists['attention']]
    for word in ('attention_at', 'link'):
        listed = isinstance(words[word], (list, tuple))
        for stage, entry in enumerate(lists[word]):
            # One value for all stages skips those without an attention.
            if _given(entry) and not (there[stage] if listed else any(there)):
                raise ValueError(f'{word}={words[word]!r} needs an attention, '
                                 f'and stage {stage + 1} has none')
    return [dict(zip(lists, entries)) for entries in zip(*lists.values())]


def initialisation(pretrained: Optional[str],
                   init_cfg: Union[None, dict, List[dict]]) -> Any:
    """The ``init_cfg`` of a backbone; Kaiming by default.

    Raises:
        TypeError: ``pretrained`` is no path.
        ValueError: Both say how to start; an unknown initialiser.
    """
    if pretrained is not None:
        if init_cfg is not None:
            raise ValueError('pretrained and init_cfg both say how to '
                             'start; give one')
        if not isinstance(pretrained, str):
            raise TypeError('pretrained must be None or the path of a '
                            f'checkpoint, got {pretrained!r}')
        return dict(type='Pretrained', checkpoint=pretrained)
    check_init_cfg(init_cfg)
    return init_cfg or [
        dict(type='Kaiming', layer='Conv2d'),
        dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm'])
    ]
