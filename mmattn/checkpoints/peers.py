"""Names of the networks that depth attention is compared with.

Res2Net (Res2Net/Res2Net-PretrainedModels), PyConvResNet (iduta/pyconv),
EPSANet (murufeng/EPSANet), bL-ResNet (IBM/BigLittleNet), ScaleNet
(Eli-YiLi/ScaleNet), SA (wofmanaf/SA-Net), SGE (implus/PytorchInsight), BAM
(Jongchan/attention-module), FcaNet (cfzd/FcaNet), GSoP-Net1
(ZilinGao/Global-Second-order-Pooling-Convolutional-Networks) and, of a third
party, AA-ResNet (kamenbliznashki/chexpert); of each, all depths. SE, SK and
CBAM among them have DCANet's names.
"""
from typing import List

from torch import Tensor

from .convert import Rules, Table, as_conv, below
from .torchvision import BLOCK, OURS, network


def _upright(tensors: List[Tensor]) -> Tensor:
    tensor, = tensors
    return tensor.t().contiguous()


RES2NET = {
    'convs.{}.*': 'convs.{}.*',
    'bns.{}.*': 'bns.{}.*',
}
# The kernels are numbered from 1 there.
PYCONV = {f'conv2.conv2_{i}.*': f'conv2.convs.{i - 1}.*' for i in range(1, 5)}
EPSANET = {
    **{f'conv2.conv_{i}.*': f'conv2.convs.{i - 1}.*' for i in range(1, 5)},
    'conv2.se.fc{}.*': 'conv2.psa.se.fc{}.*',
}
# To run as its authors' code does, the network needs
# ``AAConv(published_order=True)``.
AA = {
    'conv2.conv.*': 'conv2.conv.*',
    'conv2.in_proj_qkv.*': 'conv2.qkv.*',
    'conv2.out_proj.*': 'conv2.project.*',
    'conv2.key_rel_h': ('conv2.height_table', _upright),
    'conv2.key_rel_w': ('conv2.width_table', _upright),
}
SCALENET = {
    'conv2.{}.*': 'conv2.{}.*',
    'bn2.{}.*': 'bn2.{}.*',
}
SA = {
    'sa.cweight': 'attention.mean_weight',
    'sa.cbias': 'attention.mean_bias',
    'sa.sweight': 'attention.map_weight',
    'sa.sbias': 'attention.map_bias',
    'sa.gn.*': 'attention.norm.*',
}
SGE = {'sge.*': 'attention.*'}
FCA = {
    'att.fc.0.*': ('attention.fc1.*', as_conv),
    'att.fc.2.*': ('attention.fc2.*', as_conv),
    # Cosines, which ours computes; not in every file.
    'att.dct_layer.weight': None,
}
GSOP = {
    'conv_for_DR.*': 'attention.reduce.*',
    'bn_for_DR.*': 'attention.norm.*',
    'row_bn.*': 'attention.row_norm.*',
    'row_conv_group.*': 'attention.row_conv.*',
    'fc_adapt_channels.*': 'attention.fc.*',
}
# The stem of the v1b form.
DEEP_STEM = {
    'conv1.{}.*': 'backbone.stem.{}.*',
    'bn1.*': 'backbone.stem.7.*',
}
# Behind a stage.
BAM = {
    **below(
        'bam{}.channel_att.gate_c.gate_c_',
        'backbone.layer{}.stage_attention.channel_branch.', {
            'fc_0.*': ('0.*', as_conv),
            'bn_1.*': '1.*',
            'fc_final.*': ('3.*', as_conv),
        }),
    **below(
        'bam{}.spatial_att.gate_s.gate_s_',
        'backbone.layer{}.stage_attention.spatial_branch.', {
            'conv_reduce0.*': '0.*',
            'bn_reduce0.*': '1.*',
            'conv_di_0.*': '3.*',
            'bn_di_0.*': '4.*',
            'conv_di_1.*': '6.*',
            'bn_di_1.*': '7.*',
            'conv_final.*': '9.*',
        }),
}
# The last stage has torchvision's names; ours pools in every shortcut.
BIG_LITTLE = {
    'b_conv0.*': 'backbone.b_conv0.*',
    'bn_b0.*': 'backbone.bn_b0.*',
    'l_conv{}.*': 'backbone.l_conv{}.*',
    'bn_l{}.*': 'backbone.bn_l{}.*',
    'bl_init.*': 'backbone.bl_init.*',
    'bn_bl_init.*': 'backbone.bn_bl_init.*',
    **below('layer{}.big.{}.', 'backbone.layer{}.0.big.{}.', BLOCK),
    **below(
        'layer{}.little.{}.', 'backbone.layer{}.0.little.{}.', {
            'downsample.0.*': 'downsample.1.*',
            'downsample.1.*': 'downsample.2.*',
            **BLOCK,
        }),
    'layer{}.little_e.{}.*': 'backbone.layer{}.0.little_e.{}.*',
    **below('layer{}.fusion.0.', 'backbone.layer{}.1.', BLOCK),
}


def _blocks(name: str, signature: str, parts: Rules) -> Table:
    """Of torchvision's names but for what is in every block."""
    return Table(
        name=f'peers {name}',
        signature=('conv1.weight', 'layer{}.{}.' + signature),
        rules=network(parts))


TABLES = (
    _blocks('res2net', 'convs.0.weight', RES2NET),
    Table(
        name='peers res2net v1b',
        signature=('conv1.0.weight', 'layer{}.{}.convs.0.weight'),
        rules={
            **network(RES2NET),
            **DEEP_STEM
        }),
    _blocks('pyconv', 'conv2.conv2_1.weight', PYCONV),
    _blocks('epsanet', 'conv2.conv_1.weight', EPSANET),
    Table(
        name='peers aa',
        signature=('conv1.weight', 'layer{}.{}.conv2.in_proj_qkv.weight'),
        # Its own first: a table has the name of a parameter of a convolution.
        rules={
            **below('layer{}.{}.', OURS, AA),
            **network({})
        }),
    _blocks('scalenet', 'conv2.0.weight', SCALENET),
    _blocks('sa', 'sa.cweight', SA),
    _blocks('sge', 'sge.weight', SGE),
    _blocks('fca', 'att.fc.0.weight', FCA),
    _blocks('gsop', 'row_conv_group.weight', GSOP),
    Table(
        name='peers bam',
        signature=('conv1.weight', 'layer{}.{}.conv1.weight',
                   'bam{}.channel_att.gate_c.gate_c_fc_0.weight'),
        rules={
            **network({}),
            **BAM
        }),
    Table(
        name='peers bl_resnet',
        signature=('b_conv0.weight', 'layer{}.little_e.0.weight'),
        rules={
            **network({}),
            **BIG_LITTLE
        }),
)
