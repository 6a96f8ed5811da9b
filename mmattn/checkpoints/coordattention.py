"""Names of Coordinate Attention's networks, and of those it is compared with.

MobileNetV2 (houqb/CoordAttention, mbv2_ca.py; with squeeze-and-excitation
se_mbv2.py of Andrew-Qibin/ssdlite-pytorch-mobilenext), MobileNeXt
(zhoudaquan/rethinking_bottleneck_design), and SSDLite320 on these trunks and
on torchvision's MobileNetV2 (Andrew-Qibin/ssdlite-pytorch-mobilenext).
"""
from typing import List

from torch import Tensor

from .convert import CheckpointError, Rules, Table, below
from .mobile import INVERTED as PLAIN_INVERTED
from .mobile import conv_norm, in_a_row, mobilenet_v2

# The module by coordatt.py and by mbv2_ca.py.
CA = {
    'conv1.*': 'fc1.*',
    'bn1.*': 'norm.*',
    'conv_h.*': 'fc_h.*',
    'conv_w.*': 'fc_w.*',
    'conv2.*': 'fc_h.*',
    'conv3.*': 'fc_w.*',
}
SE = {
    'conv.0.*': 'fc1.*',
    'conv.2.*': 'fc2.*',
}
# Blocks in one sequence with activations and attention.
FIRST = below('conv.', '', {
    **conv_norm('conv.0', '0', '1'),
    **conv_norm('conv.1', '3', '4'),
})
INVERTED = below(
    'conv.', '', {
        **conv_norm('conv.0', '0', '1'),
        **conv_norm('conv.1', '3', '4'),
        **below('6.', 'attention.', {
            **CA,
            **SE
        }),
        **conv_norm('conv.2', '7', '8'),
    })
MOBILENET_V2 = mobilenet_v2(FIRST, INVERTED, last='conv.')


def _mobilenext() -> Rules:
    whole = below('conv.', '', {
        **conv_norm('depthwise', '0', '1'),
        **conv_norm('reduce', '3', '4'),
        **conv_norm('expand', '5', '6'),
        **conv_norm('last_depthwise', '8', '9'),
    })
    # where the width changes; the depthwise convolution where the size does
    changing = below('conv.', '', {
        **conv_norm('reduce', '0', '1'),
        **conv_norm('expand', '2', '3'),
        **conv_norm('last_depthwise', '5', '6'),
    })
    rules = {
        **conv_norm('backbone.conv1', 'features.0.0', 'features.0.1'),
        'classifier.1.*': 'head.fc.*'
    }
    names = in_a_row('features.', 1, (1, 1, 3, 3, 4, 4, 3, 1))
    for i, (theirs, ours) in names.items():
        block = changing if i in (3, 6, 9, 13, 17) else whole
        rules.update(below(theirs, ours, block))
    return rules


MOBILENEXT = _mobilenext()


def _background_last(tensors: List[Tensor]) -> Tensor:
    """The outputs for the classes, in our order.

    Of VOC's 21 classes, a softmax, the background is their first and our
    last. The 81 outputs for COCO, sigmoids, have it last.
    """
    outputs, = tensors
    if len(outputs) % 81 == 0:
        return outputs
    if len(outputs) % 21:
        raise CheckpointError(f'{len(outputs)} outputs for the classes of '
                              'each cell: neither the 21 of VOC nor the 81 of '
                              'COCO, so where the background is is not known')
    priors = outputs.unflatten(0, (-1, 21))
    return priors.roll(-1, 1).flatten(0, 1)


def _ssdlite(trunk: Rules, extra: Rules) -> Rules:
    heads = {
        'cls_headers.{}.conv.3.*': ('cls_convs.{}.3.*', _background_last),
        'cls_headers.{}.conv.{}.*': 'cls_convs.{}.{}.*',
        'reg_headers.{}.conv.{}.*': 'reg_convs.{}.{}.*',
        # of the last level
        'cls_headers.{}.*': ('cls_convs.{}.*', _background_last),
        'reg_headers.{}.*': 'reg_convs.{}.*',
    }
    backbone = {k: v for k, v in trunk.items() if k != 'classifier.1.*'}
    return {
        **below('backbone.', '', backbone),
        **below('backbone.extras.{}.', 'neck.extras.{}.', extra),
        **below('box_head.predictor.', 'bbox_head.', heads)
    }


TABLES = (
    Table(
        name='coordattention mobilenet_v2',
        signature=('features.0.0.weight', 'features.{}.conv.7.weight',
                   'conv.0.weight'),
        rules=MOBILENET_V2),
    Table(
        name='coordattention mobilenext',
        signature=('features.0.0.weight', 'features.20.conv.9.weight'),
        rules=MOBILENEXT),
    Table(
        name='coordattention ssdlite mobilenet_v2',
        signature=('backbone.features.18.0.weight',
                   'backbone.extras.0.conv.0.0.weight'),
        rules=_ssdlite(mobilenet_v2(), PLAIN_INVERTED)),
    Table(
        name='coordattention ssdlite se_mobilenet_v2',
        signature=('backbone.conv.0.weight',
                   'backbone.extras.0.conv.7.weight'),
        rules=_ssdlite(MOBILENET_V2, INVERTED)),
    Table(
        name='coordattention ssdlite mobilenext',
        signature=('backbone.features.20.conv.9.weight',
                   'backbone.extras.0.6.weight'),
        rules=_ssdlite(
            MOBILENEXT, {
                **conv_norm('conv.0', '0', '1'),
                **conv_norm('conv.1', '3', '4'),
                **conv_norm('conv.2', '5', '6'),
            })),
)
