"""A copy of a model for inference, its batch norms folded away."""
from collections import Counter
from copy import deepcopy
from typing import Dict, Iterator, Set, Tuple

import torch
from mmcv.cnn import Conv2d, ConvModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .attentions.ge import GE
from .attentions.gsop import GSoP
from .backbones.blocks import ResidualBlock
from .convs import PyConv

# A convolution and the norm directly behind it: who holds it, by which name.
Place = Tuple[nn.Module, str]
Pair = Tuple[Place, Place]

# Subclasses may do more, as weight standardisation does.
CONVS = (nn.Conv2d, Conv2d)
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
# What holds a row of the same for each branch of a block.
CONTAINERS = (nn.ModuleList, nn.ModuleDict)


class Folded(nn.Identity):
    """In the place of a batch norm whose work the convolution now does."""

    def train(self, mode: bool = True) -> 'Folded':
        if mode:
            raise RuntimeError(
                'this model is a fused copy: its batch norms are folded into '
                'the convolutions and it cannot be trained. Train the model '
                'that was fused, and call mmattn.fuse again')
        return super().train(mode)


def fuse(model: nn.Module) -> nn.Module:
    """Copy a model for inference, with batch norms folded away.

    A batch norm in eval mode that directly follows a convolution is a
    constant factor and summand of each channel; the copy's convolution has
    them in its weights, and an identity keeps the norm's place. Same results
    but for rounding, fewer passes over the maps.

    Folded are our networks with all their parts, mmcv's ``ConvModule`` (necks
    and heads) and every ``nn.Sequential``; other packages' blocks stay as
    they are, since nothing says in which order they run. So do norms before
    a convolution, convolutions that are used twice or do more than convolve,
    and the norm behind a linked GE or GSoP, where the link steps in between.

    Fuse in single precision and convert the copy: ``fuse(model).half()``.

    Args:
        model: Any module in eval mode. It is left as it is.

    Returns:
        The copy. Its state dict is another one (convolutions have biases,
        norms are gone): save that of ``model``.

    Raises:
        ValueError: The model is in training mode. Later, from the copy:
            RuntimeError on ``.train()``.
    """
    if model.training:
        raise ValueError(
            f'fuse needs a model in eval mode, and this '
            f'{type(model).__name__} is in training mode, where batch norms '
            'see the batch; call model.eval() first')
    model = deepcopy(model)
    used = Counter(
        id(m) for _, m in model.named_modules(remove_duplicate=False))
    linked = _linked(model)
    found = [
        pair for module in model.modules() for pair in _pairs(module, linked)
    ]
    for (conv_at, conv_name), (norm_at, norm_name) in found:
        conv = conv_at._modules[conv_name]
        norm = norm_at._modules[norm_name]
        if used[id(conv)] == used[id(norm)] == 1 and _fits(conv, norm):
            _fold(conv, norm)
            norm_at._modules[norm_name] = Folded().eval()
    return model


def _linked(model: nn.Module) -> Set[int]:
    """Attentions between whose phases a link steps."""
    return {
        id(part)
        for module in model.modules()
        if isinstance(module, ResidualBlock) and module.link is not None
        for part in module.attention.modules()
    }


def _pairs(module: nn.Module, linked: Set[int]) -> Iterator[Pair]:
    """Children of which one is directly behind the other, as we know."""
    names = list(module._modules)
    ours = type(module).__module__.startswith('mmattn.')
    if isinstance(module, ConvModule):
        if _norm_behind_conv(module):
            yield (module, 'conv'), (module, module.norm_name)
    elif isinstance(module, GE):
        if id(module) not in linked and module.gather is not None:
            yield (module, 'gather'), (module, 'norm')
    elif isinstance(module, GSoP) and id(module) in linked:
        return  # what it extracts is the convolution's result
    elif ours or type(module).forward is nn.Sequential.forward:
        # Ours, without exception, create a norm right behind what it norms.
        for one, other in zip(names, names[1:]):
            yield from _beside(module, one, other)


def _norm_behind_conv(module: ConvModule) -> bool:
    order = module.order
    return (type(module).forward is ConvModule.forward and module.with_norm
            and order.index('norm') == order.index('conv') + 1
            # Another way to run both in one, which reads the norm.
            and not getattr(module, 'efficient_conv_bn_eval_forward', None))


def _beside(module: nn.Module, one: str, other: str) -> Iterator[Pair]:
    """The two children, or the children of two rows of them."""
    first, second = module._modules[one], module._modules[other]
    if (isinstance(first, CONTAINERS) and isinstance(second, CONTAINERS)
            and list(first._modules) == list(second._modules)):
        for name in first._modules:
            yield (first, name), (second, name)
    elif first is not None and second is not None:
        yield (module, one), (module, other)


def _fits(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether both are no more than they seem."""
    convs = conv.convs if type(conv) is PyConv else [conv]
    if any(type(part) not in CONVS or _hooked(part) for part in convs):
        return False
    return (type(norm) in NORMS and not norm.training
            and norm.running_mean is not None and not _hooked(norm))


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _fold(conv: nn.Module, norm: _BatchNorm) -> None:
    """Give the norm's factor and summand to the convolution."""
    # Kernels of a pyramid share out the channels of its norm.
    convs = conv.convs if type(conv) is PyConv else [conv]
    start = 0
    for part in convs:
        end = start + part.out_channels
        values: Dict[str, Tensor] = {
            key: value[start:end]
            for key, value in (
                *norm.named_parameters(), *norm.named_buffers())
            if value.dim()
        }
        with torch.no_grad():
            weight, bias = fuse_conv_bn_weights(
                part.weight, part.bias, values['running_mean'],
                values['running_var'], norm.eps, values.get('weight'),
                values.get('bias'))
        part.weight, part.bias = nn.Parameter(weight), nn.Parameter(bias)
        start = end
