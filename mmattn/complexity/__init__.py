"""Parameters and multiply-accumulates of a config's model, and who has them.

``measure(config)`` counts on operators, on the meta device: no weights, no
data and no arithmetic, a second or less a model. ``CONVENTIONS`` are the ways
of counting behind the figures in print.
"""
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Tuple, Union

from mmengine.config import Config
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..engine.configs import read_config
from .conventions import CONVENTIONS, find, reproduces
from .counter import PARTS, OperatorCounter, share_of
from .models import build, count, default_size, kind_of

__all__ = ['CONVENTIONS', 'PARTS', 'PROPOSALS', 'Complexity', 'Profile',
           'measure', 'profile', 'reproduces']

# Through the box heads and through the mask heads of a two-stage detector.
PROPOSALS = (1000, 100)


@dataclass(frozen=True)
class Complexity:
    """What a model holds and computes for one image, in one convention.

    Args:
        params: Elements of all parameters.
        trainable: Of those that train, frozen stages left out.
        total: ``params`` and the running mean and variance of the norms that
            keep them; no counters of batches, no other buffers.
        counted: Parameters as the convention counts them.
        macs: FLOPs as the convention counts them.
        parts: For each of ``PARTS`` its share of ``params`` and of ``macs``.
        input_size: (H, W) of the image.
        convention: A name of ``CONVENTIONS``.
        proposals: For box and mask heads; None without such heads.
    """
    params: int
    trainable: int
    total: int
    counted: int
    macs: int
    parts: Dict[str, Tuple[int, int]]
    input_size: Tuple[int, int]
    convention: str
    proposals: Optional[Tuple[int, int]] = None

    @property
    def base(self) -> int:
        """A thousand as the convention prints one."""
        return find(self.convention).base


@dataclass(frozen=True)
class Profile:
    """All counts of one run, from which every convention follows.

    Args:
        params: Elements of parameters by share.
        trainable, statistics: See ``Complexity``.
        biases: Elements of biases by share.
        counts: Of ``OperatorCounter``.
        input_size, proposals: See ``Complexity``.
    """
    params: Dict[str, int]
    trainable: int
    statistics: int
    biases: Dict[str, int]
    counts: Dict[Tuple[str, str], int]
    input_size: Tuple[int, int]
    proposals: Optional[Tuple[int, int]] = None

    def under(self, convention: str) -> Complexity:
        """The figures in one convention; ValueError if there is none."""
        rule = find(convention)
        counts = Counter(self.counts)
        for part in PARTS:
            counts[part, 'called bias'] = (
                self.biases[part] + counts[part, 'repeated bias'])
        macs = {
            part: sum(times * counts[part, kind]
                      for kind, times in rule.weights.items())
            for part in PARTS
        }
        params = sum(self.params.values())
        repeated = sum(counts[part, 'repeated'] for part in PARTS)
        counted = dict(
            params=params,
            trainable=self.trainable,
            total=params + self.statistics,
            called=params + repeated)
        return Complexity(
            params=params,
            trainable=self.trainable,
            total=params + self.statistics,
            counted=counted[rule.counted],
            macs=sum(macs.values()),
            parts={part: (self.params[part], macs[part]) for part in PARTS},
            input_size=self.input_size,
            convention=convention,
            proposals=self.proposals)


def profile_of(model: nn.Module, counter: OperatorCounter,
               input_size: Tuple[int, int],
               proposals: Optional[Tuple[int, int]] = None) -> Profile:
    """Put the counts of a run and the parameters of its model together."""
    params, biases = Counter(), Counter()
    for name, parameter in model.named_parameters():
        params[share_of(name)] += parameter.numel()
        if name.split('.')[-1] == 'bias':
            biases[share_of(name)] += parameter.numel()
    statistics = (
        buffer.numel() for module in model.modules()
        if isinstance(module, _NormBase)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None)
    return Profile(
        params=params,
        trainable=sum(
            p.numel() for p in model.parameters() if p.requires_grad),
        statistics=sum(statistics),
        biases=biases,
        counts=counter.counts,
        input_size=input_size,
        proposals=proposals)


def profile(config: Union[str, Path, Config],
            input_size: Optional[Tuple[int, int]] = None,
            proposals: Tuple[int, int] = PROPOSALS) -> Profile:
    """Count the model of a config once, for all conventions.

    Args and raises: see :func:`measure`.
    """
    if not isinstance(config, Config):
        if not Path(config).is_file():
            raise FileNotFoundError(
                f'config {str(config)!r} is not a file; check the path')
        config = read_config(str(config))
    sizes = [('proposals', proposals)]
    sizes += [('input_size', input_size)] if input_size is not None else []
    for name, pair in sizes:
        if len(pair) != 2 or not all(
                isinstance(n, int) and n > 0 for n in pair):
            raise ValueError(f'{name} must be two numbers of at least 1, got '
                             f'{pair!r}')
    model = build(config)
    kind = kind_of(model)
    size = tuple(input_size or default_size(config, kind))
    counter = count(model, kind, size, proposals)
    return profile_of(model, counter, size,
                      tuple(proposals) if kind == 'two-stage' else None)


def measure(config: Union[str, Path, Config],
            input_size: Optional[Tuple[int, int]] = None,
            convention: str = 'macs',
            proposals: Tuple[int, int] = PROPOSALS) -> Complexity:
    """Count the parameters and multiply-accumulates of a config's model.

    Args:
        config: A config, or the path of one.
        input_size: (H, W) of the one image. By default what papers count at:
            224x224 for classifiers, 32x32 on CIFAR; 800x1280 for detectors
            that keep an image's shape, two-stage or one-stage, and the fixed
            size for others (SSDLite: 320x320); 512x512 for segmentors,
            512x1024 on Cityscapes.
        convention: A name of ``CONVENTIONS``.
        proposals: How many dummy proposals the box heads and the mask heads
            of a two-stage detector see, each of the shape that the roi
            extractor cuts (256 x 7 x 7 and 256 x 14 x 14 in the stock ones).

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: Unknown convention; a size or a number of proposals that
            is none; a config without a model, or with one that cannot be
            built or run, or is no classifier, detector or segmentor.
    """
    find(convention)
    return profile(config, input_size, proposals).under(convention)
