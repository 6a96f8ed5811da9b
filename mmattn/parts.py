"""What a block is handed: factories, made from config words in one place."""
import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, List, Optional, Sequence, Union

from torch import nn

from .attentions import Attention
from .checks import NOT_FOR_MAPS
from .fusions import Add, Fusion
from .links import DCA, Link
from .registry import MODELS

Factory = Callable[..., nn.Module]
Word = Union[None, dict, Sequence[Optional[dict]]]

# What the words of a config build, but for conv2: any convolution.
SLOTS = {
    'attention': Attention,
    'attention of branches': Fusion,
    'link': Link,
    'fusion': Fusion,
    'depth_fusion': Fusion,
    'stage_attention': Attention,
}


@dataclass(frozen=True)
class Parts:
    """Factories and settings of one block.

    A factory is anything called with the channel count: a class, a partial,
    a lambda. ``dataclasses.replace`` makes the parts of another block.

    Args:
        conv: ``(in_channels, out_channels, kernel_size, **conv arguments)``.
        norm: ``(channels, postfix=...) -> (name, layer)``.
        act: ``(inplace=...)``.
        conv2: The spatial convolution, called like ``conv``.
        attention: ``(in_channels)``.
        attention_at: The place of the attention: ``'hidden'`` behind the
            spatial convolution, ``'output'`` before the join.
        link: ``(attention, in_channels, carry_channels)``.
        fusion: ``(in_channels)``; joins branch and shortcut.
        drop_path: Probability of dropping the branch.
        with_cp: Recompute the block in backward instead of storing it.
        inplace: Whether the activation behind the join may overwrite the
            sum; not where the stage keeps the sums.
    """
    conv: Factory
    norm: Callable
    act: Factory = nn.ReLU
    conv2: Optional[Factory] = None
    attention: Optional[Factory] = None
    attention_at: str = 'output'
    link: Optional[Factory] = None
    fusion: Factory = Add
    drop_path: float = 0.
    with_cp: bool = False
    inplace: bool = True


def _fits(made: Any, slot: str) -> bool:
    """Whether what is registered under a name fits a config word."""
    if slot == 'conv2':  # called like one; DCN packs hide it behind *args
        return inspect.isclass(made) and made not in NOT_FOR_MAPS and any(
            {'out_channels', 'kernel_size'} <= set(
                inspect.signature(base).parameters)
            for base in made.__mro__ if issubclass(base, nn.Module))
    if made is DCA:
        return slot == 'link'
    fits = inspect.isclass(made) and issubclass(made, SLOTS[slot])
    return fits and not (SLOTS[slot] is Attention and issubclass(made, Fusion))


def _may_fit(made: Any, slot: str) -> bool:
    """Whether what a config gives itself, not by name, fits a config word."""
    if inspect.isclass(made):
        ours = issubclass(made, (Attention, Link))
        return _fits(made, slot) if ours else (
            issubclass(made, nn.Module) and made not in NOT_FOR_MAPS)
    return callable(made)


def known(slot: str) -> List[str]:
    """Registered names that fit a config word."""
    MODELS.get('ResNet')  # imports what the registry knows by location
    modules = dict(MODELS.module_dict)
    if slot == 'conv2':
        modules.update(MODELS.parent.module_dict)
    return sorted(
        name for name, made in modules.items() if _fits(made, slot))


def factory(cfg: Optional[dict],
            slot: str,
            norm_cfg: Optional[dict] = None) -> Optional[Factory]:
    """Make the config of one part a factory.

    Args:
        cfg: ``dict(type=..., **options)``; the type is a registered name, or
            a class, which need not be one of ours. None stays None.
        slot: The config word, for messages.
        norm_cfg: Handed to parts that take one and do not state their own.

    Raises:
        TypeError: ``cfg`` is not a dict with a type.
        ValueError: Unknown type or unknown option.
    """
    if cfg is None:
        return None
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(f"{slot} must be None or a dict with a 'type' "
                        f'({", ".join(known(slot))}), got {cfg!r}')
    options = dict(cfg)
    name = made = options.pop('type')
    if isinstance(name, str):
        # To the registry a name without a first part is a relative import.
        made = None if name[:1] in ('', '.') else MODELS.get(name)
    if not (_fits(made, slot) if isinstance(name, str) else
            _may_fit(made, slot)):
        raise ValueError(f'{slot} has no type {name!r}; known are '
                         f'{", ".join(known(slot))}')
    parameters = inspect.signature(made).parameters
    label = getattr(made, '__name__', made)  # a partial has none
    if 'norm_cfg' in parameters and norm_cfg is not None:
        options.setdefault('norm_cfg', norm_cfg)
    # Our parts take options by keyword only; the rest is the slot's.
    ours = slot != 'conv2' and _fits(made, slot)
    allowed = [
        p.name for p in parameters.values()
        if p.kind is p.KEYWORD_ONLY or not ours
    ]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [
        option for option in options if option not in allowed
        and (option in parameters or not open_ended)
    ]
    if unknown:
        raise ValueError(
            f'{slot}: {label} has no option {", ".join(unknown)}; it '
            f'has {", ".join(allowed) or "none"}. (A dict that overrides an '
            'inherited one is merged with it: add _delete_=True)')
    return partial(made, **options)


def spread(value: Any, count: int, word: str, of: str) -> list:
    """One entry for each of ``count`` stages or blocks.

    Raises:
        ValueError: A list of another length.
    """
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f'{word} lists {len(value)} entries for {count} '
                         f'{of}: {value!r}')
    return list(value)
