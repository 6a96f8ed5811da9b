"""The formats: how a network gets into a file, and how the file is run."""
import copy
import inspect
import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from .network import flat, output_names

# By the ending of the file.
FORMATS = {'.pt': 'TorchScript', '.pt2': 'torch.export', '.onnx': 'ONNX'}
# Of the ONNX operators.
OPSET = 18
# How far a file may be from eager, over the largest output: rounding.
TOLERANCE = 1e-3

Runner = Callable[[Tensor], Tuple[Tensor, ...]]


class ExportError(Exception):
    """A network that a format does not hold, a missing library."""


class Report(NamedTuple):
    """An exported file, and how it compares."""
    path: Path
    shapes: Tuple[Tuple[int, ...], ...]
    differences: Tuple[float, ...]


def _require(*modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ExportError(
            f'ONNX needs {", ".join(missing)}, not installed here; run: pip '
            'install onnx onnxscript onnxruntime')


def any_size(what: str) -> Any:
    """What ``torch.export`` calls a size that may change.

    Raises:
        ExportError: This torch has none.
    """
    dynamic = getattr(getattr(torch.export, 'Dim', None), 'DYNAMIC', None)
    if dynamic is None:
        raise ExportError(
            f'{what} needs torch 2.6 or newer, and this is '
            f'{torch.__version__}; only .pt files do with less')
    return dynamic


def _save_script(net: nn.Module, image: Tensor, path: Path) -> None:
    with torch.no_grad():
        torch.jit.trace(net, image, check_trace=False).save(str(path))


def _program(net: nn.Module, image: Tensor, what: str) -> Any:
    dynamic = any_size(what)
    with torch.no_grad():
        return torch.export.export(
            net, (image, ), dynamic_shapes=({
                0: dynamic,
                2: dynamic,
                3: dynamic
            }, ))


def _save_program(net: nn.Module, image: Tensor, path: Path) -> None:
    program = _program(net, image, 'torch.export')
    program.example_inputs = None  # or they would be in the file
    torch.export.save(program, str(path))


def _save_onnx(net: nn.Module, image: Tensor, path: Path) -> None:
    program = _program(net, image, 'ONNX')
    with torch.no_grad():
        names = output_names(net, len(flat(net(image))))
    torch.onnx.export(
        program, (),
        str(path),
        input_names=['image'],
        output_names=names,
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False)


def _load_script(path: Path) -> Runner:
    script = torch.jit.load(str(path))
    return lambda image: flat(script(image))


def _load_program(path: Path) -> Runner:
    any_size('torch.export')
    program = torch.export.load(str(path))
    # PyTorch's pooling says of each size whether it is odd, which changes
    # nothing in what is run.
    checks = 'check_guards' in inspect.signature(program.module).parameters
    module = program.module(**(dict(check_guards=False) if checks else {}))
    return lambda image: flat(module(image))


def _load_onnx(path: Path) -> Runner:
    _require('onnxruntime')
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider'])

    def run(image: Tensor) -> Tuple[Tensor, ...]:
        outputs = session.run(None, {'image': image.numpy()})
        return tuple(map(torch.from_numpy, outputs))

    return run


_SAVE = {'.pt': _save_script, '.pt2': _save_program, '.onnx': _save_onnx}
_LOAD = {'.pt': _load_script, '.pt2': _load_program, '.onnx': _load_onnx}


def _suffix(path: Path) -> str:
    if path.suffix not in FORMATS:
        kinds = ', '.join(f'{k} ({v})' for k, v in FORMATS.items())
        raise ExportError(f'{path} must end in one of {kinds}')
    return path.suffix


def load(path: Union[str, Path]) -> Runner:
    """An exported file as a function of the normalised image.

    Args:
        path: As written by ``export``.

    Returns:
        From ``(B, 3, H, W)`` on the CPU to a tuple of tensors.

    Raises:
        ExportError: No such ending, or a library is missing.
    """
    path = Path(path)
    return _LOAD[_suffix(path)](path)


def _line(error: Exception) -> str:
    """The first line of what another library says."""
    text = str(error).strip().splitlines()
    return f'{type(error).__name__}: {text[0] if text else ""}'


def _difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest over the outputs, each over its largest number."""
    if [y.shape for y in ours] != [y.shape for y in theirs]:
        return float('inf')
    worst = 0.
    for a, b in zip(ours, theirs):
        d = ((a - b).abs().max() / a.abs().max().clamp(min=1e-12)).item()
        worst = max(worst, float('inf') if d != d else d)
    return worst


def _eager(net: nn.Module, image: Tensor) -> Tuple[Tensor, ...]:
    try:
        with torch.no_grad():
            return flat(net(image))
    except Exception as error:  # a layer may raise anything
        raise ExportError(
            f'the network itself does not run on {tuple(image.shape)}, and a '
            f'file here serves any size: {_line(error)}') from error


def compare(net: nn.Module, run: Runner,
            images: Sequence[Tensor]) -> Tuple[float, ...]:
    """How far a file is from the network, for each batch of images.

    Returns:
        The largest difference over the largest output.

    Raises:
        ExportError: The file does not run, or is further than rounding.
    """
    differences = []
    for image in images:
        ours = _eager(net, image)
        try:
            with torch.no_grad():
                theirs = run(image)
        except Exception as error:  # so may a runtime
            raise ExportError('the exported file does not run on '
                              f'{tuple(image.shape)}: {_line(error)}'
                              ) from error
        differences.append(_difference(ours, theirs))
        if not differences[-1] <= TOLERANCE:
            raise ExportError(
                f'the exported file differs from the network on '
                f'{tuple(image.shape)}: by {differences[-1]:.1g} of the '
                f'largest output, where {TOLERANCE:g} is rounding. Something '
                'in the network depends on the size of the image')
    return tuple(differences)


def export(net: nn.Module,
           path: Union[str, Path],
           size: Tuple[int, int] = (224, 224)) -> Report:
    """Write a network to a file that serves any batch and image size.

    The file is run beside the network, on one image of that size and on
    three of another, before it is put in its place. (That is on the CPU; a
    copy of the network in evaluation mode is taken there.)

    Args:
        net: A backbone, ``Network(model)``, or any module from an image
            ``(B, 3, H, W)`` to tensors.
        path: Of the file; its ending is the format: ``.pt``, ``.pt2``,
            ``.onnx``.
        size: H and W of the example it is exported with.

    Raises:
        ExportError: No such ending; a library or a newer one is needed; the
            format does not hold this network; the file is not the network.
    """
    path = Path(path)
    suffix = _suffix(path)
    if suffix == '.onnx':
        _require('onnx', 'onnxscript', 'onnxruntime')
    if not path.parent.is_dir():
        raise ExportError(f'{path.parent} is not a folder; make it first')
    net = copy.deepcopy(net).cpu().float().eval().requires_grad_(False)
    height, width = size
    generator = torch.Generator().manual_seed(0)
    example, *images = [
        torch.randn(*shape, generator=generator)
        for shape in ((2, 3, height, width), (1, 3, height, width),
                      (3, 3, height * 5 // 4 | 1, width * 3 // 4 | 1))
    ]
    _eager(net, example)
    part = path.with_name(f'{path.stem}.part{suffix}')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # on what the check below decides
            try:
                _SAVE[suffix](net, example, part)
            except ExportError:
                raise
            except Exception as error:  # so may an exporter
                raise ExportError(f'{FORMATS[suffix]} does not hold this '
                                  f'network: {_line(error)}') from error
            differences = compare(net, load(part), images)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return Report(path, tuple(tuple(x.shape) for x in images), differences)
