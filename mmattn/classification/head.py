from typing import Any, Tuple

from mmpretrain.models import LinearClsHead
from torch import Tensor, nn

from ..checks import check_positive, is_number


class DropoutLinearClsHead(LinearClsHead):
    """Classify a pooled vector after dropout: ``y = W dropout(x) + b``.

    The published mobile networks have it before their classifier. Keys and
    options are those of mmpretrain's ``LinearClsHead``.

    Args:
        num_classes: How many classes.
        in_channels: C of the vector.
        dropout_rate: Share of it that is dropped in training.
        options: Of mmpretrain's ``LinearClsHead``: ``loss``, ``topk`` and so
            on.

    Shape:
        A tuple whose last entry is ``(B, C)`` to ``(B, num_classes)``.

    Source: Sandler et al., "MobileNetV2", arXiv:1801.04381, and its
        torchvision form.

    Raises:
        ValueError: ``dropout_rate`` is not between 0 and 1.
    """

    def __init__(self, num_classes: int, in_channels: int, *,
                 dropout_rate: float, **options: Any):
        check_positive(num_classes=num_classes, in_channels=in_channels)
        super().__init__(num_classes, in_channels, **options)
        if not is_number(dropout_rate) or not 0 < dropout_rate < 1:
            raise ValueError('dropout_rate must lie between 0 and 1, got '
                             f'{dropout_rate!r}; without dropout use '
                             'LinearClsHead')
        self.dropout = nn.Dropout(dropout_rate)

    def pre_logits(self, feats: Tuple[Tensor, ...]) -> Tensor:
        return self.dropout(super().pre_logits(feats))
