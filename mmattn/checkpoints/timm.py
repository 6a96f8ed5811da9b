"""Names of timm's mobile networks (huggingface/pytorch-image-models).

Those that the rows of SSDLite start from: MobileNetV1, MobileNetV2, MnasNet-A1
and MobileNetV3-Large.
"""
from .convert import Rules, Table, below
from .mobile import conv_norm

SEPARABLE = {
    **conv_norm('conv.0', 'conv_dw', 'bn1'),
    **conv_norm('conv.1', 'conv_pw', 'bn2'),
}
INVERTED = {
    **conv_norm('conv.0', 'conv_pw', 'bn1'),
    **conv_norm('conv.1', 'conv_dw', 'bn2'),
    **conv_norm('conv.2', 'conv_pwl', 'bn3'),
    'se.conv_reduce.*': 'attention.fc1.*',
    'se.conv_expand.*': 'attention.fc2.*',
}
STEM = conv_norm('backbone.conv1', 'conv_stem', 'bn1')


def _stages(*blocks: Rules) -> Rules:
    """Stages by the rules of their blocks."""
    rules = {}
    for i, block in enumerate(blocks):
        rules.update(
            below(f'blocks.{i}.{{}}.', f'backbone.layer{i + 1}.{{}}.', block))
    return rules


TABLES = (
    Table(
        name='timm mobilenetv1',
        signature=('conv_stem.weight', 'blocks.{}.{}.conv_pw.weight'),
        rules={
            **STEM,
            **_stages(*[SEPARABLE] * 5), 'classifier.*': 'head.fc.*'
        }),
    Table(  # MnasNet's too
        name='timm mobilenetv2',
        signature=('conv_stem.weight', 'blocks.6.{}.conv_pwl.weight',
                   'bn2.weight'),
        rules={
            **STEM,
            **_stages(SEPARABLE, *[INVERTED] * 6),
            **conv_norm('backbone.conv2', 'conv_head', 'bn2'),
            'classifier.*': 'head.fc.*'
        }),
    Table(
        name='timm mobilenetv3',
        signature=('conv_stem.weight', 'blocks.6.0.conv.weight',
                   'conv_head.bias'),
        rules={
            **STEM,
            **_stages(SEPARABLE, *[INVERTED] * 5),
            **conv_norm('backbone.conv2', 'blocks.6.0.conv', 'blocks.6.0.bn1'),
            # behind the pooling; there is no classifier of ours for it
            'conv_head.*': None,
            'classifier.*': None
        }),
)
