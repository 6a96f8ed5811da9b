"""Static int8 after training, by torchao's quantisation of exported graphs."""
from importlib.util import find_spec
from pathlib import Path
from typing import Callable, Iterable, Tuple, Union

import torch
from torch import Tensor, nn

from .files import ExportError, any_size


def quantize(net: nn.Module, images: Iterable[Tensor]) -> nn.Module:
    """A network whose convolutions and linear layers are int8.

    Weights have a scale for each channel, maps one each, from what the
    images make of them; norms behind convolutions are folded into them. The
    rest (gates, means, additions) stays in single precision.

    Args:
        net: In evaluation mode on the CPU; from an image ``(B, 3, H, W)``.
        images: Batches of two or more of one size, to calibrate with.

    Returns:
        A module for batches of any number of images of that size. In eager
        mode it computes the rounding of int8 in single precision;
        ``torch.compile`` makes int8 kernels of it.

    Raises:
        ExportError: torchao or a newer torch is missing; there is no image,
            or one in a batch.
    """
    if find_spec('torchao') is None:
        raise ExportError('quantisation needs torchao, not installed here; '
                          'run: pip install torchao')
    batch = dict(dynamic_shapes=({0: any_size('quantisation')}, ))
    from torchao.quantization.pt2e.quantize_pt2e import (convert_pt2e,
                                                         prepare_pt2e)
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer, get_default_x86_inductor_quantization_config)
    batches = iter(images)
    first = next(batches, None)
    if first is None or len(first) < 2:
        raise ExportError('calibration needs batches of two images or more, '
                          f'got {0 if first is None else len(first)}')
    quantizer = X86InductorQuantizer()
    quantizer.set_global(get_default_x86_inductor_quantization_config())
    with torch.no_grad():
        graph = torch.export.export(net, (first, ), **batch)
        graph = graph.module()
        for node in graph.graph.nodes:
            # torchao tells convolutions apart by their module, and
            # coordinate attention calls one of them twice.
            if node.target is torch.ops.aten.conv2d.default:
                node.meta['source_fn_stack'] = [(node.name, nn.Conv2d)]
        prepared = prepare_pt2e(graph, quantizer)
        prepared(first)
        for image in batches:
            prepared(image)
        return _drop_unused(convert_pt2e(prepared))


def _drop_unused(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Take away what conversion leaves of the weights before it."""
    used = {node.target for node in graph.graph.nodes if node.op == 'get_attr'}
    for name in list(graph.state_dict()):
        if name not in used:
            owner, _, leaf = name.rpartition('.')
            delattr(graph.get_submodule(owner), leaf)
    return graph


def weights_size(net: nn.Module) -> float:
    """Of parameters and buffers, in MB."""
    return sum(v.numel() * v.element_size()
               for v in net.state_dict().values()) / 1e6


def save(net: nn.Module, image: Tensor, path: Union[str, Path]) -> float:
    """Write a network, quantised or not, as ``torch.export`` does.

    Args:
        net: Serves batches of any number of images.
        image: An example, two images or more.
        path: Of the file.

    Returns:
        Its size in MB.
    """
    path = Path(path)
    with torch.no_grad():
        program = torch.export.export(
            net, (image, ),
            dynamic_shapes=({0: any_size('torch.export')}, ))
    program.example_inputs = None  # or they would be in the file
    torch.export.save(program, str(path))
    return path.stat().st_size / 1e6


def accuracy(run: Callable[[Tensor], Tensor],
             data: Iterable[Tuple[Tensor, Tensor]]) -> float:
    """The share of images, in percent, whose best class is theirs.

    Raises:
        ExportError: There is no image.
    """
    right = total = 0
    with torch.no_grad():
        for images, labels in data:
            right += int((run(images).argmax(1) == labels).sum())
            total += len(labels)
    if not total:
        raise ExportError('there is no image to measure the accuracy on')
    return 100 * right / total
