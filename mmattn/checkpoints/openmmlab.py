"""Names of the toolboxes' own networks, where they are not ours.

ResNets with attention: squeeze-and-excitation as in mmpretrain's
``SEResNet``, global context as the plugin ``ContextBlock``. The backbone of
mmdetection's MobileNetV2. The toolboxes' plain ResNets and the MobileNetV2 of
mmpretrain and mmsegmentation have our names: nothing is to be converted.
"""
from .convert import Rules, Table, below
from .dcanet import gc
from .torchvision import OURS, network

PARTS = {
    'se_layer': {
        'se_layer.conv1.conv.*': 'attention.fc1.*',
        'se_layer.conv2.conv.*': 'attention.fc2.*',
    },
    'context_block': gc('context_block'),
}


CONV = {'conv.*': 'conv.*', 'bn.*': 'bn.*'}
MOBILENET_V2 = {
    **below('conv1.', 'backbone.conv1.', CONV),
    **below('conv2.', 'backbone.conv2.', CONV),
    # without expansion
    **below('layer1.0.depthwise_conv.', 'backbone.layer1.0.conv.0.', CONV),
    **below('layer1.0.linear_conv.', 'backbone.layer1.0.conv.1.', CONV),
    **below('layer{}.{}.expand_conv.', OURS + 'conv.0.', CONV),
    **below('layer{}.{}.depthwise_conv.', OURS + 'conv.1.', CONV),
    **below('layer{}.{}.linear_conv.', OURS + 'conv.2.', CONV),
}


def _whole(rules: Rules) -> Rules:
    """Of a whole model: its backbone, and its classifier by our name."""
    backbone = {k: v for k, v in rules.items() if k != 'fc.*'}
    return {**below('backbone.', '', backbone), 'head.fc.*': 'head.fc.*'}


TABLES = (
    *(Table(
        name=f'openmmlab {prefix}{name}',
        signature=(f'{prefix}conv1.weight',
                   prefix + 'layer{}.{}.' + next(iter(part))),
        rules=rules(network(part)))
      for name, part in PARTS.items()
      for prefix, rules in (('', dict), ('backbone.', _whole))),
    Table(
        name='openmmlab mobilenet_v2',
        signature=('conv1.conv.weight',
                   'layer{}.{}.depthwise_conv.conv.weight'),
        rules=MOBILENET_V2),
)
