"""Names of SDA-xNet's networks (QingbeiGuo/SDA-xNet), of any depth.

With depth attention, plain, with squeeze-and-excitation, with CBAM, or over
Res2Net's, PyConvResNet's or EPSANet's blocks; the detection backbones lack
classifier and norm. Those with CBAM and over EPSANet's blocks were not
released: their blocks' own names are put under the others' stages. The
baselines of that source are here as far as they have no names of torchvision
or of the networks' own authors: its SENet, and the CBAM networks of
luuuyi/CBAM.PyTorch, whose block its CBAM rows were built from.
"""
import torch
from torch import Tensor

from .convert import Table, as_conv, below
from .peers import EPSANET, PYCONV, RES2NET
from .torchvision import BLOCK, OURS, network


def _maximum_first(tensors: list) -> Tensor:
    """A convolution over [mean, maximum] as one over [maximum, mean]."""
    weight, = tensors
    return weight.flip(1)


SE = {
    'fc1.*': ('attention.fc1.*', as_conv),
    'fc2.*': ('attention.fc2.*', as_conv),
}
CBAM = {
    'ca.fc.0.*': 'attention.channel_gate.fc1.*',
    'ca.fc.2.*': 'attention.channel_gate.fc2.*',
    'sa.conv1.*': ('attention.spatial_gate.conv.*', _maximum_first),
}
DEPTH = {
    'conv1.*': 'backbone.conv1.*',
    'bn1.*': 'backbone.bn1.*',
    **below('stage{}.layers.{}.', OURS, BLOCK),
    'stage{}.fc.0.*': 'backbone.layer{}.depth_fusion.squeeze.*',
    'stage{}.fc.1.*': 'backbone.layer{}.depth_fusion.norm.*',
    # one convolution for each block of the stage; ours is all of them
    'stage{}.fcs.{}.*': ('backbone.layer{}.depth_fusion.project.*',
                         torch.cat),
    # the classifier's own norm, not a block's
    'bn2.*': 'neck.1.bn.*',
    'fc.*': 'head.fc.*',
}


def _depth(name: str, *signature: str, block: dict) -> Table:
    return Table(
        name=name,
        signature=('stage{}.layers.{}.conv1.weight', 'stage{}.fc.0.weight',
                   'stage{}.fcs.{}.weight', *signature),
        rules={**DEPTH, **below('stage{}.layers.{}.', OURS, block)})


def _baseline(name: str, signature: str, block: dict) -> Table:
    return Table(
        name=name,
        signature=('conv1.weight', 'layer{}.{}.' + signature),
        rules=network(block))


TABLES = (
    _depth('sda', block={}),
    _depth('sda se', 'stage{}.layers.{}.fc1.weight', block=SE),
    _depth('sda cbam', 'stage{}.layers.{}.sa.conv1.weight', block=CBAM),
    _depth('sda res2net', 'stage{}.layers.{}.convs.0.weight', block=RES2NET),
    _depth('sda pyconv', 'stage{}.layers.{}.conv2.conv2_1.weight',
           block=PYCONV),
    _depth('sda epsanet', 'stage{}.layers.{}.conv2.conv_1.weight',
           block=EPSANET),
    _baseline('sda baseline se', 'fc1.weight', SE),
    _baseline('sda baseline cbam', 'sa.conv1.weight', CBAM),
)
