"""Live bytes, counted operator by operator: the same on every machine."""
import weakref
from typing import Dict

import torch
from mmengine.utils import digit_version
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


# Older ones do not tell when a storage is given back.
CAN_COUNT = digit_version(torch.__version__) >= digit_version('2.4')


class LiveStorages(TorchDispatchMode):
    """Counts the bytes of what operators make and somebody still holds.

    Parameters and inputs existed before and do not count, nor does scratch
    space inside an operator. ``peak`` is the largest sum so far.
    """

    def __init__(self):
        super().__init__()
        self.sizes: Dict[int, int] = {}
        self.live = self.peak = 0

    def _forget(self, key: int) -> None:
        self.live -= self.sizes.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        before = {
            t.untyped_storage()._cdata
            for t in tree_flatten((args, kwargs))[0]
            if isinstance(t, torch.Tensor)
        }
        out = func(*args, **kwargs)
        for t in tree_flatten(out)[0]:
            if not isinstance(t, torch.Tensor):
                continue
            storage = t.untyped_storage()
            key = storage._cdata
            if key not in before and key not in self.sizes:
                self.sizes[key] = storage.nbytes()
                self.live += storage.nbytes()
                weakref.finalize(storage, self._forget, key)
        self.peak = max(self.peak, self.live)
        return out
