"""What of a toolbox's model is exported: from image to raw outputs."""
from typing import Any, List, Tuple, Union

import torch.nn.functional as F
from torch import Tensor, nn

from ..complexity.models import kind_of


def flat(outputs: Any) -> Tuple[Tensor, ...]:
    """The tensors in nested tuples and lists, in order."""
    if isinstance(outputs, Tensor):
        return (outputs, )
    return tuple(tensor for part in outputs for tensor in flat(part))


class Network(nn.Module):
    """A model from the normalised image to what it computes of it.

    Left out on both sides is what depends on where it is served: the
    normalisation before it, and the choice of boxes behind it.

    Args:
        model: A classifier of mmpretrain, segmentor of mmsegmentation or
            one-stage detector of mmdet.

    Shape:
        ``(B, 3, H, W)`` to the scores of classes before the softmax,
        ``(B, classes)``, of a classifier; to those of each pixel, resized to
        the image, ``(B, classes, H, W)``, of a segmentor; to what the head
        says on each level, all first outputs before all second ones
        (class scores, then box deltas), of a detector.

    Raises:
        ValueError: A two-stage detector, or none of these.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.kind = kind_of(model)
        if self.kind == 'two-stage':
            raise ValueError(
                f'{type(model).__name__} chooses boxes between its two '
                'stages, which no format here holds; export a one-stage '
                'detector, or its backbone alone with mmattn.export.export')
        self.model = model

    def forward(self, image: Tensor) -> Union[Tensor, Tuple[Tensor, ...]]:
        if self.kind == 'classifier':
            outputs = flat(self.model(image, mode='tensor'))
        elif self.kind == 'segmentor':
            head = self.model.decode_head
            outputs = (F.interpolate(
                head(self.model.extract_feat(image)),
                size=image.shape[2:],
                mode='bilinear',
                align_corners=head.align_corners), )
        else:
            outputs = flat(self.model.bbox_head(
                self.model.extract_feat(image)))
        return outputs[0] if len(outputs) == 1 else outputs


def output_names(net: nn.Module, number: int) -> List[str]:
    """What an exported file calls its outputs."""
    kind = getattr(net, 'kind', None)
    if number == 1:
        return ['scores' if kind else 'map']
    if kind == 'one-stage' and number % 2 == 0:
        return [
            f'{name}_{level}' for name in ('scores', 'deltas')
            for level in range(number // 2)
        ]
    return [f'map_{i}' for i in range(number)]
