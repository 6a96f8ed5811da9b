"""Grad-CAM: where a prediction comes from.

``relu(sum_c mean_hw(d s / d A_c) A_c)`` for a score s and the map A of a
layer, in the layer's own resolution. The score is a class's logit for a
classifier, the score of one box for a detector, and for a segmentor the sum
of a class's logits over the pixels that were given to it.

The mean over positions forgets which of many alike objects a box is around:
Grad-CAM of one blood cell shows all of them. For detectors the default is
therefore HiResCAM, the same without the mean.

Source: Selvaraju et al., "Grad-CAM", arXiv:1610.02391, section 3; Draelos and
    Carin, "HiResCAM", arXiv:2011.08891; Vinogradova et al., arXiv:2002.11434,
    for segmentors.
"""
import sys
from contextlib import contextmanager
from typing import (Any, Callable, Dict, List, NamedTuple, Optional, Sequence,
                    Tuple)

import numpy as np
import torch
from torch import Tensor, nn

from ..engine.launch import UsageError
from .loading import (Loaded, Prepared, class_name, find_layer,
                      stage_layers)

# How the gradient is used; what a task takes unless told.
METHODS = ('grad-cam', 'hires-cam')
DEFAULT = dict(
    classification='grad-cam',
    detection='hires-cam',
    segmentation='grad-cam')


class Target(NamedTuple):
    """A score and what it is of."""
    score: Tensor
    label: int
    value: float  # what is shown: a probability where there is one
    box: Optional[Tensor] = None  # (4, ), in the picture's pixels
    mask: Optional[Tensor] = None  # (H, W), pixels of the class


def _targets(loaded: Loaded, image: Prepared,
             threshold: float) -> List[Target]:
    """All predictions for a picture, the best first, with gradients."""
    if loaded.task == 'classification':
        logits = loaded.model(image.inputs, image.samples, mode='tensor')
        logits = logits[-1] if isinstance(logits, (tuple, list)) else logits
        shares = logits[0].softmax(0)
        return [
            Target(logits[0, i], i, shares[i].item())
            for i in shares.argsort(descending=True).tolist()
        ]
    sample, = loaded.model(image.inputs, image.samples, mode='predict')
    if loaded.task == 'detection':
        found = sample.pred_instances
        return [
            Target(score, int(label), score.item(), box.detach())
            for score, label, box in zip(found.scores, found.labels,
                                         found.bboxes) if score >= threshold
        ]
    logits = sample.seg_logits.data  # (classes, H, W)
    if len(logits) == 1:  # one logit for two classes
        logits = torch.cat((-logits, logits))
    labels = logits.argmax(0)
    pixels = labels.flatten().bincount(minlength=len(logits))
    return [
        Target((logits[i] * (labels == i)).sum(), i,
               pixels[i].item() / labels.numel(), mask=labels == i)
        for i in pixels.argsort(descending=True).tolist() if pixels[i]
    ]


@contextmanager
def _with_gradients(model: nn.Module):
    """Have mmdet's dense heads keep the gradients of their scores.

    They detach what they predict from, in a function of their modules.
    """
    name, places = 'select_single_mlvl', {}
    for kind in {k for m in model.modules() for k in type(m).__mro__}:
        place = vars(sys.modules[kind.__module__])
        if 'predict_by_feat' in vars(kind) and name in place:
            places[id(place)] = place, place[name]

    def undetached(function):
        return lambda maps, image, detach=True: function(maps, image, False)

    try:
        for place, function in places.values():
            place[name] = undetached(function)
        yield
    finally:
        for place, function in places.values():
            place[name] = function


def _weighted(map_: Tensor, gradient: Tensor, method: str) -> np.ndarray:
    if method == 'grad-cam':
        gradient = gradient.mean((2, 3), keepdim=True)
    cam = (gradient * map_).sum(1).relu()[0]
    return cam.detach().float().cpu().numpy()


class Seen:
    """What a model predicts for a picture, ready to be traced back.

    Args:
        loaded: The model.
        image: The picture, see ``loading.prepare``.
        layers: Full names of layers to look at, from first to last; without
            any, the backbone's stages.
        threshold: Lowest score of a box.
        method: One of ``METHODS``; None takes the task's default.

    Attributes:
        targets: The predictions, the best first.

    Raises:
        UsageError: No such layer, or it returns no map; no such method.
    """

    def __init__(self,
                 loaded: Loaded,
                 image: Prepared,
                 layers: Sequence[str] = (),
                 threshold: float = 0.3,
                 method: Optional[str] = None):
        self.loaded = loaded
        self.image = image
        self.method = method or DEFAULT[loaded.task]
        if self.method not in METHODS:
            raise UsageError(
                f'method {method!r} is none of {", ".join(METHODS)}')
        self.names = list(layers) or stage_layers(loaded)
        modules = {name: find_layer(loaded, name) for name in self.names}
        self.maps: Dict[str, Tensor] = {}
        handles = [
            module.register_forward_hook(self._keep(name))
            for name, module in modules.items()
        ]
        try:
            with torch.enable_grad(), _with_gradients(loaded.model):
                self.targets = _targets(loaded, image, threshold)
        finally:
            for handle in handles:
                handle.remove()
        # Stages behind the last that is asked for do not run.
        unused = [name for name in layers if name not in self.maps]
        if unused:
            raise UsageError(f'layer {unused[0]!r} of {loaded.name} does not '
                             'run when it predicts; name one that does')
        self.names = [name for name in self.names if name in self.maps]

    def _keep(self, name: str) -> Callable:

        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            if isinstance(output, tuple):  # a stage's map and its carry
                output = output[0]
            if not isinstance(output, Tensor) or output.dim() != 4:
                raise UsageError(
                    f'layer {name!r} of {self.loaded.name} returns no map '
                    '(B, C, H, W); name one that does')
            if not output.requires_grad:  # everything is frozen up to here
                output.requires_grad_()
            self.maps[name] = output

        return hook

    def cam(self, target: Target) -> Tuple[str, np.ndarray]:
        """Trace a prediction back.

        Returns:
            The last of the layers that its score depends on, and the map
            (H', W') of it. A small box of a detector with several levels does
            not depend on the last stage.

        Raises:
            UsageError: The score depends on none of the layers.
        """
        if not target.score.requires_grad:
            raise UsageError(
                f'{self.loaded.name} predicts without gradients, so that '
                'Grad-CAM cannot follow its scores back')
        gradients = torch.autograd.grad(
            target.score, [self.maps[name] for name in self.names],
            retain_graph=True, allow_unused=True)
        used = [(name, g) for name, g in zip(self.names, gradients)
                if g is not None and g.any()]
        if not used:
            raise UsageError(
                f'the score of {class_name(self.loaded, target.label)} does '
                f'not depend on {", ".join(self.names)} of '
                f'{self.loaded.name}; name an earlier layer')
        name, gradient = used[-1]
        return name, _weighted(self.maps[name], gradient, self.method)
