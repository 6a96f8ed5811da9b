"""What attention must cost: one more read and one more write of its map."""
import itertools
import statistics
import time
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Iterator, List

import torch
from torch import Tensor, nn

from ..attentions.base import Attention, Chain
from ..fusions import Add, Fusion


def bandwidth(device: str, mebibytes: int = 256, rounds: int = 11) -> float:
    """Bytes read and written each second by copying a large map.

    Args:
        device: Where.
        mebibytes: Size of the map; it must not fit any cache.
        rounds: The median of so many copies.
    """
    x = torch.randn(mebibytes * 2**18, device=device)
    y = torch.empty_like(x)
    seconds = []
    for i in range(rounds + 2):  # the first two touch the memory
        start = time.perf_counter()
        y.copy_(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        if i > 1:
            seconds.append(time.perf_counter() - start)
    return 2 * x.numel() * x.element_size() / statistics.median(seconds)


def attended_bytes(model: nn.Module, run: Callable[[], Any]) -> int:
    """Bytes of the maps that enter the attentions of a model in one run.

    Counted once for each attention or fusion of ours, at its outermost (two
    gates in a row attend one map), for every map that it takes; additions
    are the trunk's own. Nothing is left behind on the model.

    Args:
        model: Any module; without our attentions the answer is 0.
        run: Runs it once.
    """
    sizes: List[int] = []
    with ExitStack() as stack:
        for part in _outermost(model):
            stack.enter_context(_noted(part, sizes))
        run()
    return sum(sizes)


def _outermost(model: nn.Module) -> List[nn.Module]:
    if isinstance(model, Chain):
        # A link runs its parts one by one; the first sees the map.
        return [next(model.children())]
    if isinstance(model, Attention):
        return [] if isinstance(model, Add) else [model]
    return [part for child in model.children() for part in _outermost(child)]


@contextmanager
def _noted(part: nn.Module, sizes: List[int]) -> Iterator[None]:
    """Note the bytes of the maps that a part takes first.

    Every way to run one, alone, by a link or by a stage, starts there; a
    link then extracts from what was handed on, which is another's map.
    """
    name, count = 'extract', 1
    if isinstance(part, Fusion):
        name, count = 'pool', part.num_maps
    method = getattr(part, name)
    calls = itertools.count()

    def noted(x: Tensor) -> Any:
        if next(calls) < count:
            sizes.append(x.numel() * x.element_size())
        return method(x)

    setattr(part, name, noted)
    try:
        yield
    finally:
        delattr(part, name)
