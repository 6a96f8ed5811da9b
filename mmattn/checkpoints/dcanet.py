"""Names of DCANet's ResNets (13952522076/DCANet), and of who shares them.

PytorchInsight (implus/PytorchInsight) has the same names for SE and SK, and
CBAM's own authors (Jongchan/attention-module) the same for CBAM. DCANet's
plain and GE networks have torchvision's names; its detection backbones those
of its classifiers, without ``fc``.

In a linked network the first block holds a link that nothing reaches: its
tensors are dropped.
"""
import torch

from .convert import Rules, Table, as_conv, as_vector
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
SK = {
    'conv_fc1.*': 'attention.squeeze.*',
    'bn_fc1.*': 'attention.norm.*',
    'conv_fc2.*': 'attention.project.*',
    'conv2g.*': 'branches.0.0.*',
    'bn2g.*': 'branches.0.1.*',
}
SK_LINK = {
    'att_fc_1.{}.*': 'link.links.0.match_fc.{}.*',
    'att_fc_2.{}.*': 'link.links.1.match_fc.{}.*',
    'att_conv1.0.*': ('link.links.0.mix.*', as_vector),
    'att_conv1.1.*': 'link.links.0.mix.norm.*',
    'att_conv2.0.*': ('link.links.1.mix.*', as_vector),
    'att_conv2.1.*': 'link.links.1.mix.norm.*',
}
GC_LINK = {
    'rgc.weight': 'link.weight',
    'rgc.att_fc.{}.*': 'link.match_fc.{}.*',
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


TABLES = (
    _plain('se', 'se.fc.0.weight', SE),
    _plain('gc', 'gc.conv_mask.weight', gc('gc')),
    _plain('cbam', 'cbam.ChannelGate.mlp.1.weight', CBAM),
    _plain('sk', 'conv_fc1.weight', SK),
    _linked('se', 'se.att_fc.0.weight', SE, _channel_link('se')),
    _linked('ge', 'ge.att_fc.0.weight', {}, _channel_link('ge')),
    _linked('gc', 'rgc.att_fc.0.weight', gc('rgc'), GC_LINK),
    _linked('cbam', 'cbam.ChannelGate.att_fc.0.weight', CBAM, CBAM_LINK),
    _linked('sk', 'att_fc_1.0.weight', SK, SK_LINK),
)
