"""Whether backbone, neck and heads fit each other.

The model is built and run on the meta device, where tensors have shapes and no
values: that costs no time and little memory. Where an operator has no such
form, the CPU does the same with a smaller image.
"""
from typing import Any, List, Optional, Sequence, Tuple

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..engine.build import build_model
from .config import Case
from .finding import FATAL, OK, WARNING, Finding, one_line
from .names import quiet

# What the CPU is given instead of an image of more than LARGE pixels.
SMALL = (256, 384)
LARGE = 520 * 520
# Parts that read weights in their constructors.
FETCHING = ('target_generator', 'teacher_config', 'teacher')
# Models of these classes run as backbone, neck, heads.
RUN = ('BaseDetector', 'BaseSegmentor', 'BaseClassifier')


def _build(case: Case, device: str) -> nn.Module:
    with torch.device(device):
        return build_model(case.cfg)


def check_build(case: Case) -> List[Finding]:
    """The model can be built; leaves it in ``case.model``."""
    if not case.cfg.get('model') or not case.usable(case.scope):
        return []
    fetching = [key for key in FETCHING if case.cfg.model.get(key)]
    if fetching:
        return [Finding(OK, 'build', f'not built: {fetching[0]} reads weights '
                        'while it is built')]
    with quiet():
        try:
            case.model = _build(case, 'meta')
        except Exception:  # constructors may want values
            try:
                case.model = _build(case, 'cpu')
            except Exception as error:
                return [
                    Finding(FATAL, 'build', 'the model cannot be built: '
                            f'{one_line(error)}',
                            'correct what the error names in the model\'s '
                            'config')
                ]
    case.model.eval()
    return [Finding(OK, 'build', 'the model can be built')]


def image_size(case: Case) -> Tuple[int, int]:
    """H and W of an image as the test pipeline makes it, as padded."""
    loader = case.cfg.get('test_dataloader') or {}
    dataset = loader.get('dataset') or {}
    sizes = []
    for step in dataset.get('pipeline') or ():
        size = next((step[k] for k in ('crop_size', 'scale', 'size')
                     if isinstance(step, dict) and step.get(k)), None)
        if isinstance(size, int):
            sizes.append((size, size))
        elif isinstance(size, (list, tuple)) and len(size) == 2:
            sizes.append(tuple(size)[::-1])  # (W, H)
    h, w = next((s for s in reversed(sizes)
                 if all(isinstance(n, int) and n > 0 for n in s)), (224, 224))
    if case.scope == 'mmdet':
        processor = case.cfg.model.get('data_preprocessor') or {}
        unit = processor.get('pad_size_divisor') or 1
        h, w = -(-h // unit) * unit, -(-w // unit) * unit
    return h, w


def _maps(outs: Any) -> Optional[List[Tensor]]:
    """A result as a list of tensors; None where it is something else."""
    outs = [outs] if isinstance(outs, Tensor) else outs
    if isinstance(outs, (list, tuple)) and outs and all(
            isinstance(out, Tensor) for out in outs):
        return list(outs)
    return None


def _channels(maps: Sequence[Tensor]) -> List[int]:
    return [m.shape[1] for m in maps]


def _grow(maps: Sequence[Tensor], size: Tuple[int, int]) -> List[int]:
    return [round(size[1] / m.shape[-1]) for m in maps]


class Runner:
    """Runs the parts of a model one after the other.

    Args:
        model: A detector, segmentor or classifier.
        device: Where its parameters lie.
        size: H and W of the image.
    """

    def __init__(self, model: nn.Module, device: str, size: Tuple[int, int]):
        self.model, self.size = model, size
        channels = getattr(model.backbone, 'in_channels', 3)
        channels = channels if channels in (1, 3, 4) else 3
        self.image = torch.zeros(1, channels, *size, device=device)
        self.backbone_maps: Optional[List[Tensor]] = None
        self.maps: Optional[List[Tensor]] = None
        self.failed: List[Tuple[str, Exception]] = []

    def call(self, name: str, *args: Any) -> Any:
        try:
            with torch.no_grad():
                return getattr(self.model, name)(*args)
        except Exception as error:
            self.failed.append((name, error))
            return None

    def run(self) -> 'Runner':
        """Run them, up to the first that fails."""
        outs = self.call('backbone', self.image)
        self.backbone_maps = self.maps = _maps(outs)
        if self.maps is None:
            return self
        if getattr(self.model, 'neck', None) is not None:
            outs = self.call('neck', outs)
            self.maps = _maps(outs)
        if self.maps is None:
            return self
        for name in ('bbox_head', 'rpn_head'):
            head = getattr(self.model, name, None)
            if getattr(head, 'prior_generator', None) is not None:
                self.call(name, outs)
        for name in ('decode_head', 'auxiliary_head'):
            head = getattr(self.model, name, None)
            if hasattr(head, 'in_index'):
                self.call(name, outs)
        head = getattr(self.model, 'head', None)
        if head is not None and hasattr(head, 'in_channels'):
            self.call('head', outs)
        return self


def run_parts(case: Case) -> Runner:
    """Run the model on meta, or on the CPU where meta fails."""
    size = image_size(case)
    first = next(case.model.parameters(), None)
    if first is not None and first.is_meta:
        runner = Runner(case.model, 'meta', size).run()
        if not runner.failed:
            return runner
    model = _build(case, 'cpu').eval()
    if size[0] * size[1] > LARGE:
        runner = Runner(model, 'cpu', SMALL).run()
        if not runner.failed or runner.failed[0][0] != 'backbone':
            return runner
    return Runner(model, 'cpu', size).run()


def _wanted(config: dict, maps: Sequence[Tensor]) -> Optional[str]:
    """What a part's ``in_channels`` says that its input does not give."""
    want = config.get('in_channels')
    if want is None:
        return None
    have = _channels(maps)
    if isinstance(want, int):
        index = config.get('in_index', -1)
        if isinstance(index, int):
            if not -len(have) <= index < len(have):
                return (f'in_index={index} asks for a map that is not among '
                        f'the {len(have)}')
            have = [have[index]]
            return (None if have == [want] else
                    f'in_channels={want}, and its input has {have[0]}')
        want = [want]
    index = config.get('in_index')
    if isinstance(index, (list, tuple)):
        if any(i >= len(have) for i in index):
            return (f'in_index={list(index)} asks for maps that are not '
                    f'among the {len(have)}')
        have = [have[i] for i in index]
    want = list(want)
    return (None if want == have or want == have[::-1] else
            f'in_channels={want}, and its inputs have {have}')


def _misfit(case: Case, name: str, error: Exception,
            runner: Runner) -> Finding:
    config = case.cfg.model.get(name) or {}
    if name == 'backbone':
        return Finding(WARNING, 'shapes', 'the backbone does not take an '
                       f'image of {runner.size[0]}x{runner.size[1]}: '
                       f'{one_line(error)}', 'look at the size and at the '
                       'options that the error names')
    maps = runner.backbone_maps if name == 'neck' else runner.maps
    source = 'the backbone'
    if name != 'neck' and getattr(runner.model, 'neck', None) is not None:
        source = 'the neck'
    config = config[0] if isinstance(config, (list, tuple)) else config
    reason = _wanted(config, maps or runner.backbone_maps)
    if reason:
        have = _channels(maps or runner.backbone_maps)
        return Finding(
            FATAL, 'shapes', f'model.{name} does not fit: {reason} ({source} '
            f'gives {have})', f'set model.{name}.in_channels (and in_index, '
            'where it has one) to that, or the backbone\'s out_indices')
    shapes = [tuple(m.shape) for m in maps or runner.backbone_maps]
    return Finding(
        WARNING, 'shapes', f'model.{name} fails on maps of {shapes}: '
        f'{one_line(error)}', 'see whether the error names an option of it; '
        'a part that needs more than maps is not checked here')


def _pairs(strides: Any) -> Optional[List[Tuple[int, int]]]:
    try:
        pairs = [(s, s) if isinstance(s, int) else tuple(s) for s in strides]
    except TypeError:
        return None
    return pairs if all(len(p) == 2 for p in pairs) else None


def _off(maps: Sequence[Tensor], strides: Sequence[Tuple[int, int]],
         size: Tuple[int, int]) -> bool:
    """Whether a stride is not the ratio of image and map, give or take."""
    return any(
        abs(-(-size[d] // s[1 - d]) - m.shape[2 + d]) > 1
        for m, s in zip(maps, strides) for d in (0, 1))


def _strides(case: Case, runner: Runner) -> List[Finding]:
    findings = []
    for name in ('bbox_head', 'rpn_head', 'roi_head'):
        head = getattr(case.model, name, None)
        places = {'prior_generator.strides': getattr(
            getattr(head, 'prior_generator', None), 'strides', None)}
        for roi in ('bbox_roi_extractor', 'mask_roi_extractor'):
            extractor = getattr(head, roi, None)
            extractor = extractor[0] if isinstance(
                extractor, nn.ModuleList) else extractor
            places[f'{roi}.featmap_strides'] = getattr(
                extractor, 'featmap_strides', None)
        for place, strides in places.items():
            strides = _pairs(strides) if strides else None
            if strides is None:
                continue
            roi = place.endswith('featmap_strides')
            have = _grow(runner.maps, runner.size)
            said = [s[0] for s in strides]
            if len(strides) > len(have) or len(strides) < len(
                    have) and not roi:
                findings.append(
                    Finding(FATAL, 'strides', f'{name}.{place} lists '
                            f'{len(strides)} strides {said} for {len(have)} '
                            f'maps of strides {have}',
                            'list one stride for each map'))
            elif _off(runner.maps, strides, runner.size):
                findings.append(
                    Finding(FATAL, 'strides', f'{name}.{place} is {said}, and '
                            f'the maps have strides {have}: boxes would lie '
                            'in wrong places', 'set it to the maps\' strides, '
                            'or change strides or out_indices of the '
                            'backbone'))
    return findings


def check_shapes(case: Case) -> List[Finding]:
    """Backbone, neck and heads agree on channels, maps and strides."""
    if getattr(case.model, 'backbone', None) is None:
        return []
    if not any(c.__name__ in RUN for c in type(case.model).__mro__):
        return [Finding(OK, 'shapes', f'{type(case.model).__name__} was not '
                        'run: it is no detector, segmentor or classifier')]
    with quiet(), DefaultScope.overwrite_default_scope(case.scope):
        runner = run_parts(case)
    findings = [
        _misfit(case, name, error, runner) for name, error in runner.failed
    ]
    if not findings and runner.maps and all(
            m.dim() == 4 for m in runner.maps):
        findings = _strides(case, runner)
    if findings:
        return findings
    if runner.backbone_maps is None:
        return [Finding(OK, 'shapes', 'the backbone gives no maps; neck and '
                        'heads were not compared')]
    return [
        Finding(
            OK, 'shapes', 'the backbone gives '
            f'{len(runner.backbone_maps)} map(s) of '
            f'{_channels(runner.backbone_maps)} channels; neck and heads '
            'take them')
    ]
