"""Counts what a network computes, operator by operator."""
from collections import Counter
from functools import wraps
from math import prod
from typing import Any, Callable, Dict, Tuple

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..attentions import Attention
from ..backbones.blocks import Stage
from ..checkpoints.report import part_of

# The shares a model is divided into.
PARTS = ('trunk', 'attention', 'link', 'fusion', 'depth fusion', 'neck',
         'head')
# What the names of a backbone's parts count as; all others as themselves.
SHARES = dict(
    stage_attention='attention',
    depth_fusion='depth fusion',
    branches='trunk',
    conv_offset='trunk')
# Module counters do not see what these call as a function.
TOOLBOXES = ('mmdet', 'mmseg', 'mmpretrain')
# Run by links and stages without a call of the attention itself.
PHASES = ('pool', 'extract', 'transform', 'attend')

Counts = Dict[str, int]


def share_of(name: str) -> str:
    """The share, one of ``PARTS``, that a module or parameter belongs to.

    Args:
        name: Its full name in the model, as ``backbone.layer1.0.conv1``.
    """
    where, _, rest = name.partition('.')
    if where == 'backbone':
        part = part_of(rest)
        return SHARES.get(part, part)
    return 'neck' if where == 'neck' else 'head'


def _convolution(args: tuple, out: Tensor) -> Counts:
    x, weight, bias, *_, transposed, _, _ = args
    positions = prod((x if transposed else out).shape[2:])
    return dict(
        conv=x.shape[0] * positions * weight.numel(),
        bias=0 if bias is None else out.numel())


def _matrix(a: Tensor, b: Tensor) -> Counts:
    return dict(matmul=a.numel() * (b.shape[-1] if b.dim() > 1 else 1))


def _batch_norm(args: tuple, out: Any) -> Counts:
    x, weight = args[:2]
    # In eval mode only an instance norm asks for the input's statistics.
    if any(arg is True for arg in args[3:6]):
        return _other_norm(x, weight)
    return dict(norm=x.numel() * (1 if weight is None else 2))


def _other_norm(x: Tensor, weight: Any) -> Counts:
    return dict(
        other_norm=x.numel(), other_affine=0 if weight is None else x.numel())


def _reduction(args: tuple, out: Any) -> Counts:
    """A mean or maximum over positions pools, one over channels does not."""
    x, dims = args[0], args[1] if len(args) > 1 else None
    dims = [dims] if isinstance(dims, int) else dims
    over = {dim % x.dim() for dim in dims or ()}
    return dict(mean=x.numel() if over and min(over) >= 2 else 0)


def _dot_product_attention(args: tuple, out: Any) -> Counts:
    q, k, v = args[:3]
    pairs = prod(q.shape[:-1]) * k.shape[-2]
    return dict(matmul=pairs * (q.shape[-1] + v.shape[-1]))


def _rule(kind: str, times: int = 1) -> Callable:
    if kind == 'act':
        return lambda args, out: dict(act=out.numel())
    if kind == 'resize':
        return lambda args, out: dict(resize=times * out.numel())
    return lambda args, out: {kind: args[0].numel()}


# By the operator's name without an in-place underscore and its overload.
RULES = dict(
    convolution=_convolution,
    mm=lambda args, out: _matrix(*args[:2]),
    bmm=lambda args, out: _matrix(*args[:2]),
    mv=lambda args, out: _matrix(*args[:2]),
    dot=lambda args, out: _matrix(*args[:2]),
    addmm=lambda args, out: _matrix(*args[1:3]),
    addmv=lambda args, out: _matrix(*args[1:3]),
    baddbmm=lambda args, out: _matrix(*args[1:3]),
    native_batch_norm=_batch_norm,
    cudnn_batch_norm=_batch_norm,
    _native_batch_norm_legit=_batch_norm,
    _native_batch_norm_legit_no_training=lambda args, out: _batch_norm(
        args[:2], out),
    native_layer_norm=lambda args, out: _other_norm(args[0], args[2]),
    native_group_norm=lambda args, out: _other_norm(*args[:2]),
    mean=_reduction,
    amax=_reduction,
    max=_reduction,
    relu=_rule('act'),
    hardtanh=_rule('act'),
    leaky_relu=_rule('act'),
    elu=_rule('act'),
    _prelu_kernel=_rule('act'),
    _adaptive_avg_pool2d=_rule('mean'),
    adaptive_max_pool2d=_rule('pool'),
    avg_pool2d=_rule('pool'),
    max_pool2d_with_indices=_rule('pool'),
    upsample_nearest2d=_rule('resize'),
    upsample_bilinear2d=_rule('resize', 4),
)


class OperatorCounter(TorchDispatchMode):
    """Within its ``with`` block, counts every operator of a model.

    ``counts`` maps ``(share, kind)`` to a number:

    - ``conv``, ``linear``, ``matmul``: multiply-accumulates of convolutions,
      of ``nn.Linear`` and of other matrix products;
    - ``bias``: additions of a convolution's bias;
    - ``norm``: elements into a batch norm, twice if it has a weight;
      ``other_norm``, ``other_affine``: elements into instance, layer and
      group norms, and into those of them that have a weight;
    - ``act``: elements out of a ReLU and its like; ``pool``, ``mean``:
      elements into a pooling window, into a mean or maximum over positions;
      ``hidden act``, ``hidden pool``, ``hidden mean``: the same where a
      counter of modules sees none, since a toolbox calls a function. Of a
      stage with a depth fusion, the activations of its blocks' sums and all
      pooled maps but one are hidden too: an assumption, under which
      SDA-xNet's six published detectors are met;
    - ``resize``: elements out of a nearest resize, four times out of a
      bilinear one;
    - ``repeated``, ``repeated bias``: parameters, and those in biases, of
      the second and later calls of a module. A call with a batch of k times
      ``batch`` is k calls: a shared layer may take its maps as one batch.

    Args:
        model: Its operators are divided into the shares of ``share_of``.

    Raises:
        NotImplementedError: An operator from outside PyTorch ran.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.batch = 1
        self.counts: Dict[Tuple[str, str], int] = Counter()
        self.calls: Dict[str, int] = Counter()
        self.pooled = set()  # depth fusions whose first map was pooled
        self.stack = [('', model)]
        self.handles = []

    def __enter__(self) -> 'OperatorCounter':
        for name, module in self.model.named_modules():
            self.handles += [
                module.register_forward_pre_hook(self._enter(name)),
                module.register_forward_hook(self._leave)
            ]
            for phase in PHASES if isinstance(module, Attention) else ():
                if hasattr(module, phase):
                    self._follow(name, module, phase)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self.handles:
            handle.remove()
        for module in self.model.modules():
            for phase in PHASES if isinstance(module, Attention) else ():
                vars(module).pop(phase, None)

    def _enter(self, name: str) -> Callable:

        def hook(module: nn.Module, inputs: tuple) -> None:
            self.stack.append((name, module))
            own = dict(module.named_parameters(recurse=False))
            if own and inputs and isinstance(inputs[0], Tensor):
                maps = max(inputs[0].shape[0] // self.batch, 1)
                again = maps - (name not in self.calls)
                self.calls[name] += maps
                bias = own['bias'].numel() if 'bias' in own else 0
                self._add({
                    'repeated': again * sum(p.numel() for p in own.values()),
                    'repeated bias': again * bias
                })

        return hook

    def _leave(self, *_: Any) -> None:
        self.stack.pop()

    def _follow(self, name: str, module: nn.Module, phase: str) -> None:
        """Let what a phase computes count as its attention's."""
        method = getattr(module, phase)

        @wraps(method)
        def followed(*args: Any) -> Any:
            self.stack.append((name, module))
            try:
                return method(*args)
            finally:
                self.stack.pop()

        setattr(module, phase, followed)

    def _add(self, counts: Counts) -> None:
        name, module = self.stack[-1]
        for kind, number in counts.items():
            if kind == 'matmul' and isinstance(module, nn.Linear):
                kind = 'linear'
            elif kind in ('act', 'pool', 'mean') and self._hidden(kind):
                kind = f'hidden {kind}'
            self.counts[share_of(name), kind] += number

    def _hidden(self, kind: str) -> bool:
        """Whether a counter of modules sees nothing of this operator."""
        name, module = self.stack[-1]
        if kind == 'mean' and share_of(name) == 'depth fusion':
            again = name in self.pooled
            self.pooled.add(name)
            return again
        caller = self.stack[-2][1] if len(self.stack) > 1 else None
        if isinstance(caller, Stage) and caller.depth_fusion is not None:
            return kind == 'act'
        return type(module).__module__.split('.')[0] in TOOLBOXES

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple = (),
                           kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        space, name = op._schema.name.split('::')
        if space not in ('aten', 'prim', 'prims'):
            raise NotImplementedError(
                f'no rule says what the operator {space}::{name} costs')
        rule = RULES.get(name if name in RULES else name.rstrip('_'))
        if name.startswith('_scaled_dot_product'):
            rule = _dot_product_attention
        if rule is not None:
            self._add(rule(args, out))
        return out
