"""Names of DCANet's networks (13952522076/DCANet), and of who shares them.

PytorchInsight (implus/PytorchInsight) has the same names for SE and SK, and
CBAM's own authors (Jongchan/attention-module) the same for CBAM. DCANet's
plain and GE networks have torchvision's names; its detection backbones those
of its classifiers, without ``fc``. Of the mobile networks, the linked ones
have stem, blocks and last convolution under other names than the others.

In a linked network the first block holds a link that nothing reaches: its
tensors are dropped.
"""
from typing import Tuple

import torch

from .convert import Rules, Table, as_conv, as_vector, below
from .mobile import (CONV_NORM, FIRST, INVERTED, conv_norm, mnasnet,
                     mobilenet_v2)
from .torchvision import network


def gc(name: str) -> Rules:
    """Global context by the name of its module, in the order of mmcv's."""
    return {
        f'{name}.conv_mask.*': 'attention.mask.*',
        f'{name}.channel_add_conv.0.*': 'attention.fc1.*',
        f'{name}.channel_add_conv.1.*': 'attention.norm.*',
        f'{name}.channel_add_conv.3.*': 'attention.fc2.*',
    }


def _channel_link(name: str) -> Rules:
    return {
        f'{name}.att_fc.{{}}.*': 'link.match_fc.{}.*',
        # a convolution of two channels to one
        f'{name}.conv.0.*': ('link.mix.*', as_vector),
        f'{name}.conv.1.*': 'link.mix.norm.*',
    }


SE = {
    'se.fc.0.*': ('attention.fc1.*', as_conv),
    'se.fc.2.*': ('attention.fc2.*', as_conv),
}
CBAM = {
    'cbam.ChannelGate.mlp.1.*': ('attention.channel_gate.fc1.*', as_conv),
    'cbam.ChannelGate.mlp.3.*': ('attention.channel_gate.fc2.*', as_conv),
    'cbam.SpatialGate.spatial.conv.*': 'attention.spatial_gate.conv.*',
    'cbam.SpatialGate.spatial.bn.*': 'attention.spatial_gate.norm.*',
}
CBAM_LINK = {
    'cbam.ChannelGate.att_fc.{}.*': 'link.links.0.match_conv.{}.*',
    'cbam.ChannelGate.alpha.0.*': ('link.links.0.mix.*', as_vector),
    'cbam.ChannelGate.alpha.1.*': 'link.links.0.mix.norm.*',
    'cbam.SpatialGate.p{}': ('link.links.1.weight', torch.cat, 1),
    'cbam.SpatialGate.bnrelu.0.*': 'link.links.1.norm.*',
}
SELECT = {
    'conv_fc1.*': 'attention.squeeze.*',
    'bn_fc1.*': 'attention.norm.*',
    'conv_fc2.*': 'attention.project.*',
}
SK = {
    **SELECT,
    'conv2g.*': 'branches.0.0.*',
    'bn2g.*': 'branches.0.1.*',
}
GC_LINK = {
    'rgc.weight': 'link.weight',
    'rgc.att_fc.{}.*': 'link.match_fc.{}.*',
}


def _branch_link(match: str) -> Rules:
    return {
        f'{match}1.{{}}.*': 'link.links.0.match_fc.{}.*',
        f'{match}2.{{}}.*': 'link.links.1.match_fc.{}.*',
        'att_conv1.0.*': ('link.links.0.mix.*', as_vector),
        'att_conv1.1.*': 'link.links.0.mix.norm.*',
        'att_conv2.0.*': ('link.links.1.mix.*', as_vector),
        'att_conv2.1.*': 'link.links.1.mix.norm.*',
    }


def _depthwise_sk(place: str) -> Rules:
    """Two depthwise convolutions at a place of the block's sequence."""
    return {
        **conv_norm(place, 'conv3', 'bn3'),
        **conv_norm('branches.0', 'conv5', 'bn5'),
        **SELECT
    }


def _plain(kind: str, signature: str, attention: Rules) -> Table:
    return Table(
        name=f'dcanet {kind}',
        signature=('conv1.weight', 'layer{}.{}.' + signature),
        rules=network(attention))


def _linked(kind: str, signature: str, attention: Rules, link: Rules) -> Table:
    dead = {f'layer1.0.{pattern}': None for pattern in link}
    return Table(
        name=f'dcanet dca_{kind}',
        # the widths differ behind the first stage: every link matches there
        signature=('conv1.weight', 'layer2.0.' + signature),
        rules={**dead, **network({**attention, **link})})


def _blocks(attention: Rules) -> Tuple[Rules, Rules]:
    """MobileNetV2's first block and the others."""
    return {**FIRST, **attention}, {**INVERTED, **attention}


def _mobilenet_v2(kind: str, signature: str, first: Rules,
                  others: Rules) -> Table:
    return Table(
        name=f'dcanet {kind} mobilenet_v2',
        signature=('features.0.0.weight', 'features.{}.' + signature),
        rules=mobilenet_v2(first, others))


def _linked_mobilenet_v2(kind: str, signature: str, first: Rules,
                         others: Rules, link: Rules, stem: str, blocks: str,
                         **names) -> Table:
    return Table(
        name=f'dcanet dca_{kind} mobilenet_v2',
        signature=(stem + '0.weight', blocks + '{}.' + signature),
        rules=mobilenet_v2({**first, **dict.fromkeys(link)},
                           {**others, **link}, stem, blocks, **names))


def _mnasnet(kind: str, signature: str, attention: Rules) -> Table:
    return Table(
        name=f'dcanet {kind} mnasnet',
        signature=('layers.0.weight', 'layers.{}.{}.' + signature),
        rules=mnasnet(attention))


def _linked_mnasnet(kind: str, signature: str, attention: Rules,
                    link: Rules) -> Table:
    dead = {f'layers2.0.0.{pattern}': None for pattern in link}
    names = dict(
        stem='layers1.',
        stacks='layers2.',
        start=0,
        last=('layers3.0', 'layers3.1'))
    return Table(
        name=f'dcanet dca_{kind} mnasnet',
        signature=('layers1.0.weight', 'layers2.{}.{}.' + signature),
        rules={**dead, **mnasnet({**attention, **link}, **names)})


WRAPPED = dict(
    stem='features.0.conv.', blocks='features.', last='features.18.conv.')
SPLIT = dict(stem='features1.', blocks='features2.', start=0,
             last='features3.')
SPLIT_SK = dict(SPLIT, stem='features1.0.', last='features3.0.')
FIRST_SK = {
    **below('conv.0.', '', _depthwise_sk('conv.0')),
    **conv_norm('conv.1', 'conv.1', 'conv.2'),
}
INVERTED_SK = {
    **below('conv.0.', 'conv.0.', CONV_NORM),
    **below('conv.1.', '', _depthwise_sk('conv.1')),
    **conv_norm('conv.2', 'conv.2', 'conv.3'),
}
FIRST_DCA_SK = {
    **below('layersk.', '', _depthwise_sk('conv.0')),
    **below('layer3.', 'conv.1.', CONV_NORM),
}
INVERTED_DCA_SK = {
    **below('layer1.', 'conv.0.', CONV_NORM),
    **below('layersk.', '', _depthwise_sk('conv.1')),
    **below('layer3.', 'conv.2.', CONV_NORM),
}

TABLES = (
    _plain('se', 'se.fc.0.weight', SE),
    _plain('gc', 'gc.conv_mask.weight', gc('gc')),
    _plain('cbam', 'cbam.ChannelGate.mlp.1.weight', CBAM),
    _plain('sk', 'conv_fc1.weight', SK),
    _linked('se', 'se.att_fc.0.weight', SE, _channel_link('se')),
    _linked('ge', 'ge.att_fc.0.weight', {}, _channel_link('ge')),
    _linked('gc', 'rgc.att_fc.0.weight', gc('rgc'), GC_LINK),
    _linked('cbam', 'cbam.ChannelGate.att_fc.0.weight', CBAM, CBAM_LINK),
    _linked('sk', 'att_fc_1.0.weight', SK, _branch_link('att_fc_')),
    _mobilenet_v2('se', 'se.fc.0.weight', *_blocks(SE)),
    _mobilenet_v2('cbam', 'cbam.ChannelGate.mlp.1.weight', *_blocks(CBAM)),
    _mobilenet_v2('sk', 'conv.1.conv_fc1.weight', FIRST_SK, INVERTED_SK),
    _linked_mobilenet_v2('se', 'se.att_fc.0.weight', *_blocks(SE),
                         _channel_link('se'), **WRAPPED),
    _linked_mobilenet_v2('ge', 'ge.att_fc.0.weight', *_blocks({}),
                         _channel_link('ge'), **SPLIT),
    _linked_mobilenet_v2('cbam', 'cbam.ChannelGate.att_fc.0.weight',
                         *_blocks(CBAM), CBAM_LINK, **WRAPPED),
    _linked_mobilenet_v2('sk', 'layersk.att_fc1.0.weight', FIRST_DCA_SK,
                         INVERTED_DCA_SK,
                         below('layersk.', '', _branch_link('att_fc')),
                         **SPLIT_SK),
    _mnasnet('se', 'se.fc.0.weight', SE),
    _mnasnet('cbam', 'cbam.ChannelGate.mlp.1.weight', CBAM),
    _linked_mnasnet('se', 'se.att_fc.0.weight', SE, _channel_link('se')),
    _linked_mnasnet('ge', 'ge.att_fc.0.weight', {}, _channel_link('ge')),
    _linked_mnasnet('cbam', 'cbam.ChannelGate.att_fc.0.weight', CBAM,
                    CBAM_LINK),
)
