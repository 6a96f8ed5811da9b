"""Published checkpoints become ours: tables, engine, command."""
import importlib.util
import json
import re
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from test_mxnet import array, content

import mmattn.checkpoints.safe as safe
from mmattn.checkpoints import CheckpointError, convert, load_checkpoint_file
from mmattn.checkpoints.convert import (Table, as_vector, below, find_table,
                                        fit, map_keys, read_weights)
from mmattn.checkpoints.coordattention import TABLES as CA_TABLES
from mmattn.checkpoints.sda import TABLES as SDA_TABLES
from mmattn.checkpoints.torchvision import TABLES as TORCHVISION_TABLES

SDA, TORCHVISION = SDA_TABLES[0], TORCHVISION_TABLES[0]
ROOT = Path(__file__).resolve().parents[1]
DEPTH_FUSION = dict(type='SelectiveFusion', ratio=16, min_channels=64)
NORM_NECK = dict(
    type='ClsBatchNormNeck', input_features=2048, affine=True, eps=1e-5)


def published(name):
    """A published layout; the file writes a batch norm as one ``NAME.*``."""
    path = ROOT / 'tests' / 'data' / 'published' / f'{name}.json'
    layout = json.loads(path.read_text())
    shapes = {}
    for key, shape in layout['shapes'].items():
        if key.endswith('.*'):
            for leaf in ('weight', 'bias', 'running_mean', 'running_var'):
                shapes[key[:-1] + leaf] = shape
            shapes[key[:-1] + 'num_batches_tracked'] = []
        else:
            shapes[key] = shape
    return {**layout, 'shapes': shapes}


def empty(shapes):
    return {k: torch.empty(s, device='meta') for k, s in shapes.items()}


def tensors(*keys, size=1):
    return {key: torch.ones(size) for key in keys}


def classifier(channels=2048, necks=(), classes=1000, **backbone):
    backbone = {'type': 'mmattn.ResNet', 'out_indices': (3, ), **backbone}
    return dict(
        type='ImageClassifier',
        _scope_='mmpretrain',
        backbone=backbone,
        neck=[dict(type='GlobalAveragePooling'), *necks],
        head=dict(
            type='LinearClsHead', num_classes=classes, in_channels=channels))


SE = dict(type='SE', ratio=16)
GC = dict(type='GC', ratio=16)
CBAM = dict(type='CBAM', ratio=16)
LUUUYI = dict(CBAM, bias=False, norm_cfg=None)
DCA = dict(type='DCA')
SK = dict(type='mmattn.SKNet', depth=50)
SDA_86 = dict(depth=86, depth_fusion=DEPTH_FUSION)
GROUPS = dict(groups=8, base_width=8)


def eca(depth, *kernels):
    attention = [dict(type='ECA', kernel_size=k) for k in kernels]
    return dict(depth=depth, attention=attention)


def aff(kind, **options):
    late = dict(type=kind, ratio=16)
    return dict(
        type='mmattn.ResNetV1d',
        depth=50,
        fusion=[None, None, late, late],
        **options)


RESNEXT = dict(groups=32, base_width=4)
CIFAR = dict(
    type='mmattn.ResNet_CIFAR',
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(2, ),
    avg_down=True,
    fusion=dict(type='AFF', ratio=16),
    **RESNEXT)
PREACTIVATED = dict(
    type='mmattn.PreActResNet_CIFAR',
    depth=32,
    out_indices=(2, ),
    fusion=dict(type='AFF', ratio=4))


def mobile(kind, last=7, **options):
    return {'type': f'mmattn.{kind}', 'out_indices': (last, ), **options}


def at_output(kind, attention, link=None):
    return mobile(
        kind, attention_at='output', attention=attention, link=link)


def mnas(attention, link=None):
    """A MNASNet with attention in its six stacks."""
    if isinstance(attention, dict):
        attention = [attention] * 6
    return at_output('MNASNet', [None, *attention], link)


GE = dict(type='GE')
SE_8, CBAM_8 = dict(SE, ratio=8), dict(CBAM, ratio=8)
CBAM_LINK = dict(DCA, match_bias=False)
# the ratio reaches the first block of a stack only
FIRST_8 = [[SE_8] + [SE] * (k - 1) for k in (3, 3, 3, 2, 4, 1)]
SK_MOBILE = mobile(
    'MobileNetV2',
    branches=[dict(dilation=2)],
    attention=dict(
        type='SelectiveFusion', ratio=8, min_channels=1, bias=False))
CA = mobile(
    'MobileNetV2', attention=[None] + [dict(type='CoordAttention')] * 6)
RES2NET = dict(type='mmattn.Res2Net')
V1B = dict(RES2NET, deep_stem=True, avg_down=True)
PYCONV = dict(type='mmattn.PyConvResNet')
HG = dict(PYCONV, arch='HG')
EPSANET = dict(conv2=dict(type='PSAConv'))
BAM = dict(type='BAM')
GSOP = dict(
    depth=50,
    strides=(1, 2, 2, 1),
    attention=[[None] * (blocks - 1) + [dict(type='GSoP', stride=stride)]
               for blocks, stride in zip((3, 4, 6, 3), (2, 1, 1, 1))])
AA = [None] + [
    dict(type='AAConv', map_size=(side, side)) for side in (28, 14, 7)]
# file: its table, our backbone
LAYOUTS = {
    'sda__sda_resnet86': ('sda', dict(SDA_86, **GROUPS)),
    'sda__sda_resnet50': ('sda', dict(SDA_86, depth=50, **GROUPS)),
    'sda__det_sdanet86': ('sda', dict(SDA_86, **GROUPS)),
    'sda__sda_senet86': ('sda se', dict(SDA_86, attention=SE)),
    'sda__det_sda_senet86': ('sda se', dict(SDA_86, attention=SE)),
    'sda__resnet86': ('torchvision', dict(depth=86)),
    'sda__senet86': ('sda baseline se', dict(depth=86, attention=SE)),
    'sda__cbam86': ('sda baseline cbam', dict(depth=86, attention=LUUUYI)),
    'dcanet__resnet50': ('torchvision', dict(depth=50)),
    'dcanet__se_resnet50': ('dcanet se', dict(depth=50, attention=SE)),
    'dcanet__dca_se_resnet50':
    ('dcanet dca_se', dict(depth=50, attention=SE, link=DCA)),
    'dcanet__sk_resnet50': ('dcanet sk', SK),
    'dcanet__dca_sk_resnet50': ('dcanet dca_sk', dict(SK, link=DCA)),
    'dcanet__ge_resnet50':
    ('torchvision', dict(depth=50, attention=dict(type='GE'))),
    'dcanet__dca_ge_resnet50':
    ('dcanet dca_ge', dict(depth=50, attention=dict(type='GE'), link=DCA)),
    'dcanet__gc_resnet50': ('dcanet gc', dict(depth=50, attention=GC)),
    'dcanet__dca_gc_resnet50':
    ('dcanet dca_gc', dict(depth=50, attention=GC, link=DCA)),
    'dcanet__cbam_resnet50': ('dcanet cbam', dict(depth=50, attention=CBAM)),
    'dcanet__dca_cbam_resnet50':
    ('dcanet dca_cbam', dict(depth=50, attention=CBAM, link=DCA)),
    'dcanet__det_resnet': ('torchvision', dict(depth=50)),
    'dcanet__det_resnet_se': ('dcanet se', dict(depth=50, attention=SE)),
    'dcanet__det_resnet_se_dca':
    ('dcanet dca_se', dict(depth=50, attention=SE, link=DCA)),
    'dcanet__det_resnet_gc': ('dcanet gc', dict(depth=50, attention=GC)),
    'dcanet__det_resnet_gc_dca':
    ('dcanet dca_gc', dict(depth=50, attention=GC, link=DCA)),
    'eca__eca_resnet18_k3333': ('eca', eca(18, 3, 3, 3, 3)),
    'eca__eca_resnet50_k3377': ('eca', eca(50, 3, 3, 7, 7)),
    'eca__eca_resnet50_k3557': ('eca', eca(50, 3, 5, 5, 7)),
    'eca__eca_resnet101_k3357': ('eca', eca(101, 3, 3, 5, 7)),
    'eca__eca_resnet152_k3357': ('eca', eca(152, 3, 3, 5, 7)),
    'aff__gluon_aff_resnet50': ('aff aff resnet', aff('AFF')),
    'aff__gluon_iaff_resnet50': ('aff iaff resnet', aff('IAFF')),
    'aff__gluon_aff_resnext50_32x4d':
    ('aff aff resnext', aff('AFF', stem_channels=128, **RESNEXT)),
    'aff__gluon_iaff_resnext50_32x4d':
    ('aff iaff resnext', aff('IAFF', stem_channels=128, **RESNEXT)),
    'aff__gluon_cifar_aff_resnet32': ('aff aff cifar resnet', PREACTIVATED),
    'aff__gluon_cifar_aff_resnext38_32x4d':
    ('aff aff cifar resnext', dict(CIFAR, depth=(4, 4, 4))),
    'aff__gluon_cifar_aff_resnext47_32x4d':
    ('aff aff cifar resnext', dict(CIFAR, depth=(5, 5, 5))),
    'peers__se_resnet50': ('dcanet se', dict(depth=50, attention=SE)),
    'peers__se_resnet101': ('dcanet se', dict(depth=101, attention=SE)),
    'peers__cbam_resnet50': ('dcanet cbam', dict(depth=50, attention=CBAM)),
    'peers__cbam_resnet101': ('dcanet cbam', dict(depth=101, attention=CBAM)),
    'peers__sk_resnet50':
    ('dcanet sk', dict(SK, branches=(dict(groups=32), ))),
    'peers__res2net50_26w_4s': ('peers res2net', dict(RES2NET, depth=50)),
    'peers__res2net101_26w_4s': ('peers res2net', dict(RES2NET, depth=101)),
    'peers__res2net50_v1b_26w_4s': ('peers res2net v1b', dict(V1B, depth=50)),
    'peers__res2net101_v1b_26w_4s': ('peers res2net v1b',
                                     dict(V1B, depth=101)),
    'peers__pyconvresnet50': ('peers pyconv', dict(PYCONV, depth=50)),
    'peers__pyconvresnet101': ('peers pyconv', dict(PYCONV, depth=101)),
    'peers__pyconvhgresnet50': ('peers pyconv', dict(HG, depth=50)),
    'peers__pyconvhgresnet101': ('peers pyconv', dict(HG, depth=101)),
    'peers__epsanet50': ('peers epsanet', dict(EPSANET, depth=50)),
    'peers__epsanet101': ('peers epsanet', dict(EPSANET, depth=101)),
    'peers__bl_resnet50': ('peers bl_resnet',
                           dict(type='mmattn.BLResNet', depth=50)),
    'peers__scalenet50': ('peers scalenet',
                          dict(type='mmattn.ScaleResNet', depth=50)),
    'peers__sa_resnet50': ('peers sa',
                           dict(depth=50, attention=dict(type='SA'))),
    'peers__sge_resnet50': ('peers sge',
                            dict(depth=50, attention=dict(type='SGE'))),
    'peers__bam_resnet50':
    ('peers bam', dict(depth=50, stage_attention=[BAM, BAM, BAM, None])),
    **{
        f'peers__fcanet{depth}{cosines}':
        ('peers fca', dict(depth=depth, attention=dict(type='Fca')))
        for depth in (50, 101) for cosines in ('', '_dct')
    },
    'peers__gsop_net1_resnet50': ('peers gsop', GSOP),
    'peers__aa_resnet50': ('peers aa', dict(depth=50, conv2=AA)),
    'lip__lip_resnet50': ('lip', dict(type='mmattn.LIPResNet', depth=50)),
    'lip__lip_resnet101': ('lip', dict(type='mmattn.LIPResNet', depth=101)),
    'sda__res2net86': ('peers res2net', dict(RES2NET, depth=86)),
    'sda__sda_res2net86': ('sda res2net', dict(SDA_86, **RES2NET)),
    'sda__det_sda_res2net86': ('sda res2net', dict(SDA_86, **RES2NET)),
    'sda__pyconv86': ('peers pyconv', dict(PYCONV, depth=86)),
    'sda__sda_pyconv86': ('sda pyconv', dict(SDA_86, **PYCONV)),
    'sda__epsanet86': ('peers epsanet', dict(EPSANET, depth=86)),
    'dcanet__mobilenet_v2': ('torchvision mobilenet_v2',
                             mobile('MobileNetV2')),
    'dcanet__se_mobilenet_v2':
    ('dcanet se mobilenet_v2', at_output('MobileNetV2', SE_8)),
    'dcanet__dca_se_mobilenet_v2':
    ('dcanet dca_se mobilenet_v2',
     at_output('MobileNetV2', SE_8, dict(DCA, mix_bias=False))),
    'dcanet__sk_mobilenet_v2': ('dcanet sk mobilenet_v2', SK_MOBILE),
    'dcanet__dca_sk_mobilenet_v2':
    ('dcanet dca_sk mobilenet_v2',
     dict(SK_MOBILE, link=dict(DCA, match_ratio=8, hand_on='weight'))),
    'dcanet__ge_mobilenet_v2':
    ('torchvision mobilenet_v2', at_output('MobileNetV2', GE)),
    'dcanet__dca_ge_mobilenet_v2':
    ('dcanet dca_ge mobilenet_v2', at_output('MobileNetV2', GE, DCA)),
    'dcanet__cbam_mobilenet_v2':
    ('dcanet cbam mobilenet_v2', at_output('MobileNetV2', CBAM_8)),
    'dcanet__dca_cbam_mobilenet_v2':
    ('dcanet dca_cbam mobilenet_v2',
     at_output('MobileNetV2', CBAM_8, CBAM_LINK)),
    'dcanet__mnasnet1_0': ('torchvision mnasnet', mobile('MNASNet')),
    'dcanet__se_mnasnet1_0': ('dcanet se mnasnet', mnas(SE)),
    'dcanet__se_mnasnet1_0r8': ('dcanet se mnasnet', mnas(FIRST_8)),
    'dcanet__dca_se_mnasnet1_0':
    ('dcanet dca_se mnasnet', mnas(SE, dict(DCA, match_ratio=16))),
    'dcanet__dca_se_mnasnet1_0r8':
    ('dcanet dca_se mnasnet', mnas(FIRST_8, dict(DCA, match_ratio=8))),
    'dcanet__ge_mnasnet1_0': ('torchvision mnasnet', mnas(GE)),
    'dcanet__dca_ge_mnasnet1_0': ('dcanet dca_ge mnasnet', mnas(GE, DCA)),
    'dcanet__cbam_mnasnet1_0': ('dcanet cbam mnasnet', mnas(CBAM_8)),
    'dcanet__cbam_mnasnet1_0r16': ('dcanet cbam mnasnet', mnas(CBAM)),
    'dcanet__dca_cbam_mnasnet1_0':
    ('dcanet dca_cbam mnasnet', mnas(CBAM, CBAM_LINK)),
    'dcanet__dca_cbam_mnasnet1_0r8':
    ('dcanet dca_cbam mnasnet', mnas(CBAM_8, CBAM_LINK)),
    'eca__eca_mobilenet_v2':
    ('eca mobilenet_v2',
     at_output('MobileNetV2', [
         dict(type='ECA', kernel_size=k) for k in (1, 1, 1, 1, 3, 3, 3)
     ])),
    'coordatt__mbv2_ca': ('coordattention mobilenet_v2', CA),
    'coordatt__mbv2_ca_w050':
    ('coordattention mobilenet_v2', dict(CA, widen_factor=0.5)),
    'coordatt__mobilenext': ('coordattention mobilenext',
                             mobile('MobileNeXt')),
    'coordatt__mobilenext_w075':
    ('coordattention mobilenext', mobile('MobileNeXt', widen_factor=0.75)),
    'coordatt__timm_mobilenetv1': ('timm mobilenetv1',
                                   mobile('MobileNetV1', 4)),
    'coordatt__timm_mobilenetv2': ('timm mobilenetv2', mobile('MobileNetV2')),
    'coordatt__timm_mnasnet_a1': ('timm mobilenetv2',
                                  mobile('MNASNet', arch='A1')),
    'coordatt__timm_mobilenetv3_large': ('timm mobilenetv3',
                                         mobile('MobileNetV3', 6)),
}


def ssdlite(backbone, neck, channels, classes):
    """SSDLite320 of COCO (80 classes) or VOC (20)."""
    head = dict(
        type='mmattn.detection.SSDLiteHead',
        num_classes=classes,
        in_channels=channels)
    if classes == 20:
        head['anchor_generator'] = dict(
            type='mmattn.detection.SSDLiteAnchorGenerator',
            ratios=[(2, 3)] * 6,
            max_sizes=(120, 180, 220, 260, 300, 320))
    return dict(
        type='SingleStageDetector',
        _scope_='mmdet',
        backbone=backbone,
        neck=neck,
        bbox_head=head)


SSD_TRUNK = mobile('MobileNetV2', out_indices=(4, 7))
SSD_NECK = dict(type='mmattn.detection.SSDLiteNeck')
SSD_CHANNELS = (96, 1280, 512, 256, 256, 64)
SE_24 = dict(SE, ratio=24)
SSD_SE = (dict(SSD_TRUNK, attention=[None] + [SE_24] * 6),
          dict(
              SSD_NECK, hidden_channels=(256, 128, 128, 64),
              attention=SE_24), SSD_CHANNELS)
SSD_MOBILENEXT = (mobile(
    'MobileNeXt', out_taps=('layer6.0.expanded', 'layer8.0.expanded')),
                  dict(type='mmattn.detection.MobileNeXtNeck'),
                  (576, 1280, 512, 256, 256, 128))
SSD_PLAIN = SSD_TRUNK, SSD_NECK, SSD_CHANNELS
# file: its table, our detector
DETECTORS = {
    f'coordatt__ssdlite320_{name}_{data}':
    (f'coordattention ssdlite {table}', (*parts, classes))
    for name, table, parts in (
        ('mobilenetv2', 'mobilenet_v2', SSD_PLAIN),
        ('se_mbv2', 'se_mobilenet_v2', SSD_SE),
        ('mobilenext', 'mobilenext', SSD_MOBILENEXT),
    ) for data, classes in (('coco', 80), ('voc', 20))
}
# The parameters of the first link, which nothing reaches.
DEAD = {
    'dcanet__dca_se_resnet50': 17667,
    'dcanet__det_resnet_se_dca': 17667,
    'dcanet__dca_ge_resnet50': 17667,
    'dcanet__dca_cbam_resnet50': 17672,
    'dcanet__dca_gc_resnet50': 5425,
    'dcanet__det_resnet_gc_dca': 5425,
    'dcanet__dca_sk_resnet50': 262,
    'dcanet__dca_se_mobilenet_v2': 594,
    'dcanet__dca_sk_mobilenet_v2': 134,
    'dcanet__dca_ge_mobilenet_v2': 595,
    'dcanet__dca_cbam_mobilenet_v2': 584,
    'dcanet__dca_se_mnasnet1_0': 166,
    'dcanet__dca_se_mnasnet1_0r8': 252,
    'dcanet__dca_ge_mnasnet1_0': 507,
    'dcanet__dca_cbam_mnasnet1_0': 488,
    'dcanet__dca_cbam_mnasnet1_0r8': 488,
    # of MobileNetV3 what is behind the pooling
    'coordatt__timm_mobilenetv3_large': 960 * 1280 + 1280 + 1280 * 1000 + 1000
}
FIRST_BLOCK = ('layer1.0.', 'features.1.', 'features2.0.', 'layers2.0.0.')
# Of FcaNet the tables of cosines, which ours computes.
COSINES = '.att.dct_layer.weight'
BUFFERS = ('running_mean', 'running_var', 'num_batches_tracked', COSINES)


def count(weights):
    return sum(value.numel() for key, value in weights.items()
               if not key.endswith(BUFFERS))


def learnable(model):
    return sum(p.numel() for p in model.parameters())


def on_meta(weights, backbone):
    """The classifier for a layout, without its numbers."""
    for key in ('fc.weight', 'output.weight', 'head.fc.weight',
                'classifier.weight', 'classifier.1.weight'):
        if key in weights:
            classes, channels = weights[key].shape
            break
    else:
        classes, channels = 1000, 2048
    necks = [NORM_NECK] if 'depth_fusion' in backbone else []
    with torch.device('meta'):
        return MODELS.build(classifier(channels, necks, classes, **backbone))


def test_every_layout_is_tried():
    folder = ROOT / 'tests' / 'data' / 'published'
    files = {path.stem for path in folder.glob('*.json')}
    tried = {*LAYOUTS, *DETECTORS, 'aff__gluon_iaff_c64_r4_16x16'}
    assert files == tried


@pytest.mark.config
@pytest.mark.parametrize('name', LAYOUTS)
def test_tables_are_total(name):
    pytest.importorskip('mmpretrain')
    kind, backbone = LAYOUTS[name]
    layout = published(name)
    weights = empty(layout['shapes'])
    table = find_table(weights)
    assert table.name == kind

    dead = [key for key in weights if table.match(key)[0] is None]
    mapped, dropped = map_keys(table, weights)
    assert dropped == len(dead)
    behind = ('conv_head.', 'classifier.') if 'mobilenetv3' in name else ()
    assert all(
        key.startswith(FIRST_BLOCK + behind) or key.endswith(COSINES)
        for key in dead)
    lost = count({key: weights[key] for key in dead})
    assert lost == DEAD.get(name, 0)

    model = on_meta(weights, backbone)
    state_dict, notes = fit(mapped, model.state_dict())
    assert notes == []
    if '__det_' in name or behind:
        model = torch.nn.ModuleDict(dict(backbone=model.backbone))
    own = {k: v.shape for k, v in model.state_dict().items()}
    assert {k: v.shape for k, v in state_dict.items()} == own
    assert learnable(model) == layout['params'] - lost


@pytest.mark.parametrize('name', DETECTORS)
def test_tables_of_detectors_are_total(name):
    pytest.importorskip('mmdet.models')
    kind, parts = DETECTORS[name]
    layout = published(name)
    weights = empty(layout['shapes'])
    table = find_table(weights)
    assert table.name == kind
    mapped, dropped = map_keys(table, weights)
    with torch.device('meta'):
        model = MODELS.build(ssdlite(*parts))
    state_dict, notes = fit(mapped, model.state_dict())
    assert dropped == 0 and notes == []
    own = {k: v.shape for k, v in model.state_dict().items()}
    assert {k: v.shape for k, v in state_dict.items()} == own
    assert learnable(model) == layout['params']


RX = 'aff__gluon_aff_resnext50_32x4d'
CX = 'aff__gluon_cifar_aff_resnext38_32x4d'
V1, V2, V3, A1 = (f'coordatt__timm_{name}' for name in (
    'mobilenetv1', 'mobilenetv2', 'mobilenetv3_large', 'mnasnet_a1'))
SX = 'coordatt__ssdlite320_mobilenext_voc'
SE_SSD = 'coordatt__ssdlite320_se_mbv2_voc'
R2, SR2 = 'peers__res2net50_v1b_26w_4s', 'sda__sda_res2net86'
BL, BAM_50 = 'peers__bl_resnet50', 'peers__bam_resnet50'


@pytest.mark.parametrize('name, theirs, ours', [
    (RX, 'features.1.bias', 'stem.1.bias'),
    (RX, 'features.4.bias', 'stem.4.bias'),
    (RX, 'features.12.3.body.1.bias', 'layer3.3.bn1.bias'),
    (RX, 'features.12.3.body.4.bias', 'layer3.3.bn2.bias'),
    (RX, 'features.12.3.attention.global_att.2.bias',
     'layer3.3.fusion.gate.global_branch.1.bias'),
    (CX, 'features.4.2.body.1.running_mean', 'layer2.2.bn1.running_mean'),
    (CX, 'features.4.2.body.4.running_mean', 'layer2.2.bn2.running_mean'),
    ('sda__sda_senet86', 'stage3.layers.7.bn1.bias', 'layer3.7.bn1.bias'),
    ('sda__sda_senet86', 'stage3.layers.7.bn2.bias', 'layer3.7.bn2.bias'),
    ('dcanet__sk_mobilenet_v2', 'features.9.conv.1.conv3.weight',
     'layer4.2.conv.1.conv.weight'),
    ('dcanet__sk_mobilenet_v2', 'features.9.conv.1.conv5.weight',
     'layer4.2.branches.0.conv.weight'),
    ('dcanet__sk_mobilenet_v2', 'features.9.conv.1.bn3.weight',
     'layer4.2.conv.1.bn.weight'),
    ('dcanet__sk_mobilenet_v2', 'features.9.conv.0.1.weight',
     'layer4.2.conv.0.bn.weight'),
    (V1, 'blocks.3.4.bn1.bias', 'layer4.4.conv.0.bn.bias'),
    (V1, 'blocks.3.4.bn2.bias', 'layer4.4.conv.1.bn.bias'),
    (V2, 'blocks.3.2.bn1.bias', 'layer4.2.conv.0.bn.bias'),
    (V2, 'blocks.3.2.bn2.bias', 'layer4.2.conv.1.bn.bias'),
    (V3, 'blocks.0.0.bn1.bias', 'layer1.0.conv.0.bn.bias'),
    (V3, 'blocks.0.0.bn2.bias', 'layer1.0.conv.1.bn.bias'),
    (A1, 'blocks.5.2.bn1.bias', 'layer6.2.conv.0.bn.bias'),
    (R2, 'conv1.1.bias', 'stem.1.bias'),
    (R2, 'conv1.4.bias', 'stem.4.bias'),
    (R2, 'layer3.2.bns.2.bias', 'layer3.2.bns.2.bias'),
    (SR2, 'stage3.layers.7.convs.1.weight', 'layer3.7.convs.1.weight'),
    (BL, 'bn_l0.bias', 'bn_l0.bias'),
    (BL, 'bn_l1.bias', 'bn_l1.bias'),
    (BL, 'bn_b0.bias', 'bn_b0.bias'),
    (BL, 'layer3.big.4.bn1.bias', 'layer3.0.big.4.bn1.bias'),
    (BL, 'layer3.big.4.bn2.bias', 'layer3.0.big.4.bn2.bias'),
    (BL, 'layer3.fusion.0.bn1.bias', 'layer3.1.bn1.bias'),
    (BL, 'layer4.1.bn2.bias', 'layer4.1.bn2.bias'),
    ('peers__sa_resnet50', 'layer2.3.sa.cweight',
     'layer2.3.attention.mean_weight'),
    ('peers__sa_resnet50', 'layer2.3.sa.cbias',
     'layer2.3.attention.mean_bias'),
    ('peers__sa_resnet50', 'layer2.3.sa.sweight',
     'layer2.3.attention.map_weight'),
    ('peers__sa_resnet50', 'layer2.3.sa.sbias',
     'layer2.3.attention.map_bias'),
    ('lip__lip_resnet50', 'layer2.0.bottleneck_shared.logit.bn1.bias',
     'layer2.0.lip_trunk.1.bias'),
    ('lip__lip_resnet50', 'layer2.0.bottleneck_shared.logit.bn2.bias',
     'layer2.0.lip_trunk.4.bias'),
    ('lip__lip_resnet50', 'layer2.0.conv2.0.postprocessing.conv.weight',
     'layer2.0.lip.gate.conv.weight'),
    ('lip__lip_resnet50', 'layer2.0.conv2.1.weight',
     'layer2.0.conv2.weight'),
    ('lip__lip_resnet50', 'layer2.0.bn2.bias', 'layer2.0.bn2.bias'),
    ('peers__sge_resnet50', 'layer2.3.sge.weight',
     'layer2.3.attention.weight'),
    ('peers__gsop_net1_resnet50', 'layer2.3.bn_for_DR.bias',
     'layer2.3.attention.norm.bias'),
    ('peers__gsop_net1_resnet50', 'layer2.3.row_bn.bias',
     'layer2.3.attention.row_norm.bias'),
    *((BAM_50, f'bam2.spatial_att.gate_s.gate_s_{layer}.bias',
       f'layer2.stage_attention.spatial_branch.{i}.bias')
      for layer, i in (('conv_reduce0', 0), ('bn_reduce0', 1),
                       ('conv_di_0', 3), ('bn_di_0', 4), ('conv_di_1', 6),
                       ('bn_di_1', 7))),
    (BAM_50, 'bam2.channel_att.gate_c.gate_c_bn_1.bias',
     'layer2.stage_attention.channel_branch.1.bias'),
])
def test_layers_of_one_shape_keep_their_order(name, theirs, ours):
    """For layouts that no output and no formula is known of."""
    weights = empty(published(name)['shapes'])
    mapped, _ = map_keys(find_table(weights), weights)
    assert mapped[f'backbone.{ours}'] is weights[theirs]


@pytest.mark.parametrize('name, theirs, ours', [
    (SE_SSD, 'backbone.extras.1.conv.1.bias', 'neck.extras.1.conv.0.bn.bias'),
    (SE_SSD, 'backbone.extras.1.conv.4.bias', 'neck.extras.1.conv.1.bn.bias'),
    (SX, 'backbone.extras.2.4.bias', 'neck.extras.2.conv.1.bn.bias'),
    (SX, 'box_head.predictor.reg_headers.3.conv.1.bias',
     'bbox_head.reg_convs.3.1.bias'),
    (SX, 'box_head.predictor.cls_headers.3.conv.1.bias',
     'bbox_head.cls_convs.3.1.bias'),
    (SX, 'box_head.predictor.reg_headers.5.bias',
     'bbox_head.reg_convs.5.bias'),
])
def test_layers_of_detectors_keep_their_order(name, theirs, ours):
    weights = empty(published(name)['shapes'])
    mapped, _ = map_keys(find_table(weights), weights)
    assert mapped[ours] is weights[theirs]


@pytest.mark.parametrize('layer', ['cls_headers.2.conv.3', 'cls_headers.5'])
def test_background_of_a_detector(layer):
    """First of VOC's classes there, last here, for each prior."""
    ours = layer.replace('headers', 'convs').replace('conv.', '')
    table, = (table for table in CA_TABLES
              if table.name == 'coordattention ssdlite mobilenext')

    def converted(outputs):
        weights = {f'box_head.predictor.{layer}.bias': torch.arange(outputs)}
        mapped, _ = map_keys(table, weights)
        return mapped[f'bbox_head.{ours}.bias'].tolist()

    assert converted(42) == [*range(1, 21), 0, *range(22, 42), 21]
    assert converted(4 * 81) == list(range(4 * 81))
    with pytest.raises(CheckpointError, match='80 outputs .*neither'):
        converted(80)


def test_coordinate_attention_by_its_other_file():
    weights = empty(published('coordatt__mbv2_ca')['shapes'])
    other = {
        key.replace('.6.conv2.', '.6.conv_h.').replace('.6.conv3.',
                                                       '.6.conv_w.'): value
        for key, value in weights.items()
    }
    assert sum('conv_h' in key for key in other) == 2 * 16
    table = find_table(other)
    assert table is find_table(weights)
    assert map_keys(table, other) == map_keys(table, weights)


def test_a_classifier_by_the_names_of_a_detector():
    """The trunk of se_mbv2.py, whose detector is published."""
    pytest.importorskip('mmpretrain')
    weights = {
        key[len('backbone.'):]: value
        for key, value in empty(published(SE_SSD)['shapes']).items()
        if key.startswith(('backbone.features.', 'backbone.conv.'))
    }
    weights.update(
        empty({
            'classifier.1.weight': (1000, 1280),
            'classifier.1.bias': (1000, )
        }))
    table = find_table(weights)
    assert table.name == 'coordattention mobilenet_v2'
    model = on_meta(weights,
                    mobile('MobileNetV2', attention=[None] + [SE_24] * 6))
    state_dict, notes = fit(map_keys(table, weights)[0], model.state_dict())
    assert state_dict.keys() == model.state_dict().keys() and notes == []
    assert learnable(model) == count(weights) == 3888208


@pytest.mark.parametrize('kind, plain, blocks', [
    ('cbam', 'sda__cbam86', dict(attention=LUUUYI)),
    ('epsanet', 'sda__epsanet86', EPSANET),
])
def test_sda_over_blocks_without_a_published_layout(kind, plain, blocks):
    """These authors' blocks under SDA's stage names."""
    pytest.importorskip('mmpretrain')
    block = re.compile(r'layer(\d)\.(\d+)\.')
    shapes = {
        block.sub(r'stage\1.layers.\2.', key): shape
        for key, shape in published(plain)['shapes'].items()
    }
    depth = re.compile(r'stage\d\.(fc|fcs)\.|bn2\.')
    senet = published('sda__sda_senet86')
    shapes.update((k, v) for k, v in senet['shapes'].items() if depth.match(k))
    weights = empty(shapes)
    table = find_table(weights)
    assert table.name == f'sda {kind}'
    model = on_meta(weights, dict(SDA_86, **blocks))
    state_dict, notes = fit(map_keys(table, weights)[0], model.state_dict())
    assert state_dict.keys() == model.state_dict().keys() and notes == []
    added = senet['params'] - published('sda__senet86')['params']
    assert learnable(model) == published(plain)['params'] + added


def port(fusion, branches):
    """The names and shapes of AFF's PyTorch port, ratio 4 in every block."""
    models = pytest.importorskip('torchvision.models')
    with torch.device('meta'):
        weights = models.resnet50().state_dict()
    for key in list(weights):
        if key.endswith('bn3.weight'):
            channels, = weights[key].shape
            for branch in branches:
                i = 1 if 'global' in branch else 0
                layers = torch.nn.ModuleDict({
                    str(i): torch.nn.Conv2d(channels, channels // 4, 1),
                    str(i + 1): torch.nn.BatchNorm2d(channels // 4),
                    str(i + 3): torch.nn.Conv2d(channels // 4, channels, 1),
                    str(i + 4): torch.nn.BatchNorm2d(channels)
                })
                prefix = key.replace('bn3.weight', f'fuse_mode.{branch}.')
                for name, value in layers.to('meta').state_dict().items():
                    weights[prefix + name] = value
    return weights, dict(depth=50, fusion=dict(type=fusion, ratio=4))


@pytest.mark.parametrize('fusion, branches, published, dead', [
    ('AFF', ('local_att', 'global_att'), 45789864, 0),
    ('IAFF', ('local_att', 'global_att', 'local_att2', 'global_att2'),
     66022696, 10116416),
])
def test_the_port_of_aff(fusion, branches, published, dead):
    pytest.importorskip('mmpretrain')
    weights, backbone = port(fusion, branches)
    assert count(weights) == published
    table = find_table(weights)
    assert table.name == f'aff {fusion.lower()} port'
    mapped, dropped = map_keys(table, weights)
    assert dropped == (14 * 16 if dead else 0)
    model = on_meta(weights, backbone)
    state_dict, _ = fit(mapped, model.state_dict())
    assert state_dict.keys() == model.state_dict().keys()
    # the branch that the port uses twice is two of ours
    assert learnable(model) == published
    first = 'backbone.layer2.1.fusion.first_gate.{}_branch.3.weight'
    second = first.replace('first_gate', 'gate')
    same = [mapped.get(first.format(branch)) is mapped[second.format(branch)]
            for branch in ('local', 'global')]
    assert same == [False, bool(dead)]


@pytest.mark.parametrize('name, backbone, channels', [
    ('resnet18', dict(depth=18), 512),
    ('resnext50_32x4d', dict(depth=50, groups=32, base_width=4), 2048),
    ('wide_resnet50_2', dict(depth=50, base_width=128), 2048),
])
def test_torchvision_itself(name, backbone, channels):
    pytest.importorskip('mmpretrain')
    models = pytest.importorskip('torchvision.models')
    with torch.device('meta'):
        weights = models.get_model(name).state_dict()
    model = MODELS.build(classifier(channels, **backbone))
    mapped, dropped = map_keys(find_table(weights), weights)
    state_dict, notes = fit(mapped, model.state_dict())
    assert state_dict.keys() == model.state_dict().keys()
    assert dropped == 0 and notes == []


def in_scale(network):
    """A network in float64 with random weights that keep its maps' scale."""
    for value in network.state_dict().values():
        if value.dim() > 1:
            value.normal_(std=value[0].numel()**-0.5)
        elif value.dim() == 1:
            value.uniform_(0.5, 1.5)
    network.double().eval()  # mmdetection's returns None
    return network


@pytest.mark.parametrize('name, backbone', [
    ('mobilenet_v2', mobile('MobileNetV2')),
    ('mnasnet0_5', mobile('MNASNet', widen_factor=0.5)),
])
def test_mobile_networks_of_torchvision_itself(name, backbone):
    pytest.importorskip('mmpretrain')
    models = pytest.importorskip('torchvision.models')
    theirs = in_scale(models.get_model(name))
    weights = theirs.state_dict()
    table = find_table(weights)
    assert table.name == f'torchvision {name.replace("0_5", "")}'
    mapped, dropped = map_keys(table, weights)
    ours = MODELS.build(classifier(1280, **backbone)).double().eval()
    state_dict, notes = fit(mapped, ours.state_dict())
    assert dropped == 0 and notes == []
    ours.load_state_dict(state_dict)
    x = torch.randn(2, 3, 65, 97).double()
    with torch.no_grad():
        assert torch.allclose(theirs(x), ours(x), rtol=1e-9)


def test_a_tiny_table_by_hand():
    table = Table(
        name='tiny',
        signature=('a.{}.*', ),
        rules={
            'a.{}.b.{}.*': 'x{}.y{}.*',
            'a.{}.old': None,
            'a.{}.fc.*': ('x{}.conv.*', lambda t: t[0][:, :, None]),
            'b.{}.{}.*': ('z{}.*', torch.cat),
            'a.3.*': 'never',  # the rule before it fits first
            'c.p{}': ('w', torch.cat, 1),
            'd.{}.*': ['u{}.*', ('v{}.*', as_vector)],
            **below('e.', 'ours.', {
                'old': None,
                'f.*': 'g.*',
                'fs.{}': ('g.all', torch.cat, 2),
                'both': ['x', 'y'],
            }),
        })
    weights = {
        'a.3.b.0.weight': torch.tensor([1.]),
        'a.3.b.12.bias': torch.tensor([2.]),
        'a.1.old': torch.tensor([3.]),
        'a.1.fc.weight': torch.tensor([[4., 5.]]),
        'b.2.1.weight': torch.tensor([7.]),
        'b.2.0.weight': torch.tensor([6.]),
        'c.p2': torch.tensor([9.]),
        'c.p1': torch.tensor([8.]),
        'd.4.bias': torch.tensor([[10.]]),
        'e.old': torch.tensor([11.]),
        'e.f.weight': torch.tensor([12.]),
        'e.fs.3': torch.tensor([14.]),
        'e.fs.2': torch.tensor([13.]),
        'e.both': torch.tensor([15.]),
    }
    mapped, dropped = map_keys(table, weights)
    assert dropped == 2
    assert {k: v.tolist() for k, v in mapped.items()} == {
        'x3.y0.weight': [1.],
        'x3.y12.bias': [2.],
        'x1.conv.weight': [[[4.], [5.]]],
        'z2.weight': [6., 7.],
        'w': [8., 9.],
        'u4.bias': [[10.]],
        'v4.bias': [10.],
        'ours.g.weight': [12.],
        'ours.g.all': [13., 14.],
        'ours.x': [15.],
        'ours.y': [15.],
    }


def projections(order):
    return {
        f'stage3.fcs.{i}.bias': torch.tensor([i, i + 0.5])
        for i in order
    }


def test_projections_are_joined_by_number():
    # as text, 10 and 11 sort before 2
    weights = projections(sorted(range(12), key=str))
    (key, joined), = map_keys(SDA, weights)[0].items()
    assert key == 'backbone.layer3.depth_fusion.project.bias'
    assert joined.tolist() == [i / 2 for i in range(24)]


@pytest.mark.parametrize('order', [(0, 2), (1, 2), (1, )])
def test_a_gap_in_what_is_joined(order):
    with pytest.raises(CheckpointError, match='numbered from 0'):
        map_keys(SDA, projections(order))


@pytest.mark.parametrize('order', [(0, 1), (2, ), (1, 3)])
def test_a_gap_in_what_is_numbered_from_one(order):
    table = Table('one', (), {'p{}': ('x', torch.cat, 1)})
    assert map_keys(table, tensors('p2', 'p1'))[0]['x'].shape == (2, )
    with pytest.raises(CheckpointError, match='numbered from 1'):
        map_keys(table, tensors(*(f'p{i}' for i in order)))


def test_two_keys_for_one_target():
    table = Table('two', (), {'a.*': 'x.*', 'b.*': 'x.*', 'c.{}': 'y'})
    weights = tensors('a.weight', 'b.bias')
    assert map_keys(table, weights)[0].keys() == {'x.weight', 'x.bias'}
    with pytest.raises(CheckpointError, match='x.bias must come from one key'):
        map_keys(table, {**weights, **tensors('a.bias')})
    with pytest.raises(CheckpointError, match='y must come from one key'):
        map_keys(table, tensors('c.0', 'c.1'))


def test_keys_without_a_rule_are_listed():
    weights = {f'stage1.extra.{i}': torch.ones(1) for i in range(12)}
    weights['conv1.weight'] = torch.ones(1)
    with pytest.raises(CheckpointError, match='table of sda, 12:') as error:
        map_keys(SDA, weights)
    assert 'stage1.extra.9' in str(error.value)
    assert 'stage1.extra.10' not in str(error.value)
    assert 'conv1' not in str(error.value)


def test_the_keys_tell_the_source():
    weights = empty(published('sda__sda_resnet50')['shapes'])
    assert find_table(weights) is SDA
    assert find_table(weights, 'sda') is SDA
    with pytest.raises(CheckpointError, match='known are aff, coordattention'):
        find_table(weights, 'sdanet')
    with pytest.raises(CheckpointError, match='they fit none') as error:
        find_table({'features.0.weight': torch.ones(1)})
    assert 'sda, timm, torchvision' in str(error.value)
    assert 'features.0.weight' in str(error.value)


def test_the_layout_within_a_source():
    weights = empty(published('dcanet__dca_se_resnet50')['shapes'])
    table = find_table(weights, 'dcanet')
    assert table.name == 'dcanet dca_se'
    with pytest.raises(CheckpointError, match='they fit none') as error:
        find_table(weights, 'sda')
    assert 'known sources (sda)' in str(error.value)


def test_a_key_too_many_in_a_file_of_many_tables():
    # torchvision, dcanet se and dcanet dca_se all find their signature
    weights = empty(published('dcanet__dca_se_resnet50')['shapes'])
    weights['layer3.1.cbam.ChannelGate.mlp.1.bias'] = torch.ones(1)
    table = find_table(weights)
    with pytest.raises(CheckpointError, match='dca_se, 1:\n  layer3.1.cbam'):
        map_keys(table, weights)


def test_a_first_link_belongs_to_a_linked_network():
    weights = empty(published('dcanet__se_resnet50')['shapes'])
    weights['layer1.0.se.conv.0.weight'] = torch.ones(1, 2, 1, 1)
    table = find_table(weights)
    assert table.name == 'dcanet se'
    with pytest.raises(CheckpointError, match='layer1.0.se.conv.0.weight'):
        map_keys(table, weights)


def test_of_two_sources_the_one_that_knows_most_keys(monkeypatch):
    package = 'mmattn.checkpoints'
    rules = {**TORCHVISION.rules, 'layer{}.{}.se.*': None}
    twin = replace(TORCHVISION, name='twin', rules=rules)
    monkeypatch.setattr(sys.modules[f'{package}.convert'], 'SOURCES',
                        ('torchvision', 'twin'))
    monkeypatch.setitem(sys.modules, f'{package}.twin',
                        SimpleNamespace(TABLES=(twin, )))
    weights = empty(published('sda__resnet86')['shapes'])
    with pytest.raises(CheckpointError, match='fit torchvision and twin'):
        find_table(weights)
    assert find_table(weights, 'twin') is twin
    assert find_table(weights, 'torchvision') is TORCHVISION
    weights['layer1.0.se.weight'] = torch.ones(1)
    assert find_table(weights) is twin
    weights['layer1.0.new.weight'] = torch.ones(1)  # known to neither
    assert find_table(weights) is twin


def save(file, tmp_path):
    path = tmp_path / 'published.pth'
    torch.save(file, path)
    return str(path)


@pytest.mark.parametrize('wrap', [
    lambda w: w,
    lambda w: dict(epoch=3, arch='resnet', state_dict=w),
    lambda w: dict(model=w, optimizer=dict(lr=0.1)),
    lambda w: dict(net=w),
])
@pytest.mark.parametrize('prefix',
                         ['', 'module.', 'module.1.', 'module.module.'])
def test_wrappers_and_prefixes_go(wrap, prefix, tmp_path):
    weights = {
        'conv1.weight': torch.ones(2).half(),
        'bn1.weight': torch.ones(2).bfloat16(),
        'bn1.bias': torch.ones(2),
        'bn1.num_batches_tracked': torch.tensor(4),
    }
    prefixed = {prefix + key: value for key, value in weights.items()}
    read = read_weights(save(wrap(prefixed), tmp_path))
    assert read.keys() == weights.keys()
    assert read.pop('bn1.num_batches_tracked').dtype == torch.int64
    assert {value.dtype for value in read.values()} == {torch.float32}


def test_files_of_mxnet(tmp_path):
    path = tmp_path / 'net.params'
    path.write_bytes(content([array(flag=2)], ['features.1.gamma']))
    (key, value), = read_weights(str(path)).items()
    assert key == 'features.1.weight'
    assert value.dtype == torch.float32 and value.tolist() == [1, -2]


@pytest.mark.parametrize('wrong, word', [
    ({}, 'all of it: dict'),
    (dict(state_dict={}), 'all of it: dict'),
    ([torch.ones(1)], 'all of it: list'),
    (torch.ones(1), 'all of it: Tensor'),
    (dict(epoch=1, weights={'a': torch.ones(1)}), 'epoch: int'),
])
def test_other_content_than_weights(wrong, word, tmp_path):
    with pytest.raises(CheckpointError, match='a dict of tensors') as error:
        read_weights(save(wrong, tmp_path))
    assert word in str(error.value) and 'published.pth' in str(error.value)


def test_a_classifier_takes_all_or_the_backbone():
    trunk, head = tensors('backbone.a'), tensors('head.fc.weight')
    neck = tensors('neck.1.bn.weight')
    model = {**trunk, **neck, **head}
    assert fit(model, model) == (model, [])
    assert fit(trunk, model) == (trunk, [])
    with pytest.raises(CheckpointError, match='missing in the file, 1:\n'
                       '  neck.1.bn.weight'):
        fit({**trunk, **head}, model)


def test_a_detector_takes_the_backbone_and_says_so():
    trunk = tensors('backbone.a')
    model = {**trunk, **tensors('neck.convs.0.weight', 'head.convs.0.bias')}
    file = {**trunk, **tensors('neck.1.bn.weight', 'head.fc.weight')}
    kept, notes = fit(file, model)
    assert kept == trunk
    assert notes == [
        '2 behind the backbone dropped: the model has nothing by their names'
    ]


def test_a_backbone_without_the_last_convolution_says_so():
    trunk, last = tensors('backbone.a'), tensors('backbone.conv2.conv.weight')
    head, other = tensors('head.fc.bias'), tensors('decode_head.conv.bias')
    kept, notes = fit({**trunk, **last, **head}, {**trunk, **other})
    assert kept == trunk
    assert notes[1:] == [
        '1 of the last convolution dropped: the backbone has no conv2'
    ]
    assert fit({**trunk, **last}, {**trunk, **last, **other})[1] == []
    with pytest.raises(CheckpointError, match='conv2.bn.bias'):
        fit({**trunk, **last, **tensors('backbone.conv2.bn.bias')},
            {**trunk, **last})
    with pytest.raises(CheckpointError, match='not in the model, 1:\n'
                       '  backbone.conv2'):
        fit({**trunk, **last, **head}, {**trunk, **head})


def test_a_detector_takes_a_detector():
    trunk, neck = tensors('backbone.a'), tensors('neck.extras.0')
    head = tensors('bbox_head.a')
    model = {**trunk, **neck, **head}
    assert fit(model, model) == (model, [])
    with pytest.raises(CheckpointError, match='missing in the file, 1:\n'
                       '  bbox_head.a'):
        fit({**trunk, **neck}, model)


def test_all_that_does_not_fit_is_listed():
    keys = [f'backbone.{i}.weight' for i in range(15)]
    file = {**tensors(*keys[:13]), **tensors('backbone.old', 'backbone.b')}
    model = {**tensors(*keys[12:], 'backbone.b', size=2)}
    with pytest.raises(CheckpointError) as error:
        fit(file, model)
    message = str(error.value)
    assert 'missing in the file, 2:\n  backbone.13.weight' in message
    assert 'not in the model, 13:\n  backbone.0.weight' in message
    assert 'backbone.9.weight' in message
    assert 'backbone.10.weight' not in message
    assert 'of another shape, 2:\n  backbone.12.weight: file (1,), model (2,)'\
        in message


def test_counters_that_old_files_lack_are_zero():
    norm = torch.nn.Sequential()
    norm.add_module('backbone', torch.nn.BatchNorm2d(3))
    model = norm.state_dict()
    model['backbone.num_batches_tracked'] += 5
    file = {k: v for k, v in model.items() if 'tracked' not in k}
    kept, notes = fit(file, model)
    assert kept['backbone.num_batches_tracked'].item() == 0
    assert kept.keys() == model.keys()
    assert notes == ['1 num_batches_tracked set to 0']


SMALL = classifier(
    channels=256,
    necks=[dict(NORM_NECK, input_features=256)],
    classes=7,
    depth=(2, 3, 2, 2),
    base_channels=8,
    depth_fusion=dict(DEPTH_FUSION, min_channels=3),
    init_cfg=dict(type='Pretrained', checkpoint='is not looked for'))
del SMALL['_scope_']
CONFIG = Config(dict(default_scope='mmpretrain', model=SMALL))


def randomised(model):
    for key, value in model.state_dict().items():
        if value.dtype == torch.float32:
            value.copy_(torch.rand_like(value) * 0.1 + 0.05)
    return model.eval()


def in_their_names(state_dict):
    """What SDA's authors would have published of one of our networks."""
    theirs = {}
    for key, value in state_dict.items():
        leaf = key.split('.')[-1]
        stage, _, rest = key[len('backbone.layer'):].partition('.')
        if key.startswith('neck.1.bn.'):
            theirs[f'bn2.{leaf}'] = value
        elif key.startswith('head.'):
            theirs[f'fc.{leaf}'] = value
        elif 'squeeze' in key:
            theirs[f'stage{stage}.fc.0.{leaf}'] = value
        elif 'depth_fusion.norm' in key:
            theirs[f'stage{stage}.fc.1.{leaf}'] = value
        elif 'project' in key:
            blocks = value.chunk(3 if stage == '2' else 2)
            for i, block in enumerate(blocks):
                theirs[f'stage{stage}.fcs.{i}.{leaf}'] = block
        elif key.startswith('backbone.layer'):
            theirs[f'stage{stage}.layers.{rest}'] = value
        else:
            theirs[key[len('backbone.'):]] = value
    return {f'module.{key}': value for key, value in theirs.items()}


@pytest.fixture
def model():
    pytest.importorskip('mmpretrain')
    return randomised(MODELS.build(dict(SMALL, _scope_='mmpretrain')))


@pytest.fixture
def src(model, tmp_path):
    theirs = in_their_names(model.state_dict())
    return save(dict(epoch=1, state_dict=theirs), tmp_path)


def test_there_and_back(model, src, tmp_path):
    dst = str(tmp_path / 'new' / 'ours.pth')
    line = convert(src, dst, CONFIG)
    count = len(model.backbone.state_dict())
    assert line == f'sda: backbone {count}, neck 5, head 2 -> {dst}'
    written = load_checkpoint_file(dst)
    assert written['meta'] == dict(source='sda', source_file='published.pth')
    other = randomised(MODELS.build(dict(SMALL, _scope_='mmpretrain')))
    other.load_state_dict(written['state_dict'], strict=True)
    x = torch.randn(2, 3, 37, 45)
    assert other(x).isfinite().all() and torch.equal(other(x), model(x))


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize('host, options, attention', [
    ('mmpretrain.SEResNet', dict(se_ratio=4), dict(type='SE', ratio=4)),
    ('mmdet.ResNet',
     dict(plugins=[dict(cfg=dict(type='ContextBlock', ratio=1 / 4),
                        position='after_conv3')]), dict(type='GC', ratio=4)),
])
def test_attention_of_the_toolboxes(host, options, attention, prefix):
    scope = host.split('.')[0]
    pytest.importorskip(f'{scope}.models')
    small = dict(depth=50, base_channels=8, out_indices=(0, 1, 2, 3))
    theirs = MODELS.build(
        dict(type=host, stem_channels=8, _scope_=scope, **small, **options))
    in_scale(theirs)
    weights = {prefix + k: v for k, v in theirs.state_dict().items()}
    if prefix:
        weights.update(tensors('head.fc.weight', 'head.fc.bias'))
    table = find_table(weights)
    part = dict(mmpretrain='se_layer', mmdet='context_block')[scope]
    assert table.name == f'openmmlab {prefix}{part}'
    mapped, dropped = map_keys(table, weights)
    assert dropped == 0
    ours = Detector(dict(type='mmattn.ResNet', attention=attention, **small))
    trunk, notes = fit(mapped, ours.state_dict())
    assert ('2 behind the backbone' in ''.join(notes)) == bool(prefix)
    ours.double().load_state_dict(trunk, strict=False)
    x = torch.randn(2, 3, 65, 97).double()
    for expected, got in zip(theirs(x), ours.eval().backbone(x)):
        assert torch.allclose(expected, got)


def test_mobilenet_v2_of_mmdetection():
    pytest.importorskip('mmdet.models')
    small = dict(widen_factor=0.25, out_indices=(0, 1, 2, 3, 4, 5, 6, 7))
    theirs = in_scale(
        MODELS.build(dict(type='MobileNetV2', _scope_='mmdet', **small)))
    weights = theirs.state_dict()
    table = find_table(weights)
    assert table.name == 'openmmlab mobilenet_v2'
    mapped, dropped = map_keys(table, weights)
    assert dropped == 0
    ours = MODELS.build(dict(type='mmattn.MobileNetV2', **small)).double()
    ours.load_state_dict({k[len('backbone.'):]: v for k, v in mapped.items()})
    x = torch.randn(2, 3, 65, 97).double()
    for expected, got in zip(theirs(x), ours.eval()(x)):
        assert torch.allclose(expected, got, rtol=1e-9)


class Detector(BaseModel):
    """A backbone with something else than a classifier behind it."""

    def __init__(self, backbone, pretrained=False):
        super().__init__()
        if pretrained:
            raise OSError('weights that conversion does not need')
        self.backbone = MODELS.build(backbone)
        self.bbox_head = torch.nn.Linear(3, 2)

    def forward(self):
        raise NotImplementedError


def test_a_config_of_another_task(src, tmp_path):
    model = dict(
        type=Detector, backbone=SMALL['backbone'], pretrained=True)
    cfg = Config(dict(model=model))
    dst = str(tmp_path / 'ours.pth')
    line = convert(src, dst, cfg)
    assert cfg.model.pretrained  # the caller's config stays as it was
    assert '7 behind the backbone dropped: the model has noth' in line
    written = load_checkpoint_file(dst)['state_dict']
    assert all(key.startswith('backbone.') for key in written)
    own = Detector(SMALL['backbone']).state_dict()
    assert {key for key in own if 'head' not in key} == written.keys()


def left_over(file, backbone):
    """What a backbone did not take of a converted file; it lacks nothing."""
    weights = load_checkpoint_file(file)['state_dict']
    backbone = MODELS.build(
        dict(
            backbone,
            type='mmattn.ResNet',
            init_cfg=dict(
                type='Pretrained', checkpoint=file, prefix='backbone.')))
    backbone.init_weights()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, weights.pop(f'backbone.{key}')), key
    return set(weights)


def test_a_linked_classifier_initialises_a_detector(tmp_path):
    """In half precision, under the names of two wrappers."""
    pytest.importorskip('mmpretrain')
    weights = {}
    for key, shape in published('dcanet__dca_se_resnet50')['shapes'].items():
        weights[f'module.1.{key}'] = (
            torch.randn(shape).half() if shape else torch.tensor(5))
    backbone = dict(depth=50, attention=SE, link=DCA)
    cfg = dict(default_scope='mmpretrain', model=classifier(**backbone))
    src = save(dict(state_dict=weights), tmp_path)
    dst = str(tmp_path / 'ours.pth')
    line = convert(src, dst, Config(cfg))
    assert line.startswith('dcanet dca_se: backbone 454, head 2; 8 dropped')
    assert left_over(dst, backbone) == {'head.fc.weight', 'head.fc.bias'}


def test_a_classifier_with_a_neck_initialises_a_detector(src, tmp_path):
    dst = str(tmp_path / 'ours.pth')
    convert(src, dst, CONFIG)
    rest = left_over(dst, SMALL['backbone'])
    assert {key.split('.')[0] for key in rest} == {'head', 'neck'}
    assert len(rest) == 7


def test_a_file_as_gluon_saves_it(tmp_path):
    """Half in half precision, no counters, a scale and shift too many."""
    pytest.importorskip('mmpretrain')
    weights, layout = {}, published('aff__gluon_cifar_aff_resnet32')
    for key, shape in layout['shapes'].items():
        shape = [n // 8 if n >= 8 else n for n in shape]
        if not key.endswith('num_batches_tracked'):
            weights[key] = torch.rand(shape)
            if len(shape) > 1:
                weights[key] = weights[key].half()
    saved = {f'features.0.{leaf}': torch.rand(3) for leaf in ('gamma', 'beta')}
    for key, value in weights.items():
        owner, _, leaf = key.rpartition('.')
        if f'{owner}.running_mean' in weights:
            leaf = dict(weight='gamma', bias='beta').get(leaf, leaf)
        saved[f'{owner}.{leaf}'] = value
    arrays = [array(value.flatten().tolist(), value.shape,
                    2 if value.dtype == torch.float16 else 0)
              for value in saved.values()]
    src, dst = tmp_path / 'net.params', str(tmp_path / 'ours.pth')
    src.write_bytes(content(arrays, list(saved)))
    backbone = dict(PREACTIVATED, base_channels=8)
    model = classifier(32, classes=12, **backbone)
    cfg = Config(dict(default_scope='mmpretrain', model=model))
    line = convert(str(src), dst, cfg)
    assert line.startswith('aff aff cifar resnet: backbone ')
    assert '; 92 num_batches_tracked set to 0; 2 dropped by' in line
    ours = load_checkpoint_file(dst)['state_dict']
    for theirs, name in {
            'features.0.running_mean': 'backbone.bn0.running_mean',
            'features.3.1.resfwd.3.bias': 'backbone.layer2.1.bn2.bias',
            'features.3.0.downsample.1.weight':
            'backbone.layer2.0.downsample.1.weight',
            'output.bias': 'head.fc.bias',
    }.items():
        assert torch.equal(ours[name], weights[theirs].float())


def test_dropped_keys_are_counted(src, tmp_path, monkeypatch):
    monkeypatch.setitem(SDA.rules, 'fc.*', None)
    monkeypatch.setitem(SDA.rules, 'bn2.*', None)
    line = convert(src, str(tmp_path / 'ours.pth'), CONFIG)
    assert '; 7 dropped by the table' in line and 'head' not in line


def test_a_failure_leaves_the_old_file(src, tmp_path, monkeypatch):
    dst = tmp_path / 'ours.pth'
    dst.write_text('before')
    cfg = deepcopy(CONFIG)
    cfg.model.backbone.groups = 2
    with pytest.raises(CheckpointError, match='another shape'):
        convert(src, str(dst), cfg)
    real = torch.save

    def full_disk(content, path):
        real(content, path)
        raise OSError('no space left')

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(OSError, match='no space left'):
        convert(src, str(dst), CONFIG)
    assert dst.read_text() == 'before'
    assert {p.name for p in tmp_path.iterdir()} == {
        'ours.pth', 'published.pth'
    }


def test_the_source_is_not_overwritten(src, tmp_path):
    link = tmp_path / 'link.pth'
    link.symlink_to(src)
    for dst in (src, str(link), str(tmp_path / '.' / 'published.pth')):
        with pytest.raises(CheckpointError, match='replace its own source'):
            convert(src, dst, CONFIG)
    read_weights(src)


def test_a_config_without_a_model(src, tmp_path):
    with pytest.raises(CheckpointError, match='no model'):
        convert(src, str(tmp_path / 'ours.pth'), Config(dict(work_dir='a')))


@pytest.fixture
def command(monkeypatch, tmp_path):
    """``tools/convert_checkpoint.py`` with its arguments."""
    path = ROOT / 'tools' / 'convert_checkpoint.py'
    spec = importlib.util.spec_from_file_location('convert_tool', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.pretty_text)
    loaders = safe.host.CheckpointLoader
    monkeypatch.setattr(loaders, '_schemes', dict(loaders._schemes))

    def run(*args):
        argv = ['convert_checkpoint.py', *args, '--config', str(config)]
        monkeypatch.setattr(sys, 'argv', argv)
        tool.main()

    return run


def test_the_command(command, src, tmp_path, capsys):
    dst = str(tmp_path / 'ours.pth')
    command(src, dst, '--source', 'sda')
    assert capsys.readouterr().out.startswith('sda: backbone ')
    assert load_checkpoint_file(dst)['meta']['source'] == 'sda'
    with pytest.raises(SystemExit, match='head.fc.weight: file .7, 256.'):
        command(src, dst, '--cfg-options', 'model.head.num_classes=9')
    with pytest.raises(SystemExit, match='torchvision.*they fit none'):
        command(src, dst, '--source', 'torchvision')
    with pytest.raises(SystemExit, match='absent.pth does not exist'):
        command(str(tmp_path / 'absent.pth'), dst)


def test_the_command_refuses_a_pickled_model(command, tmp_path):
    src = save(torch.nn.DataParallel(torch.nn.Linear(2, 3)), tmp_path)
    with pytest.raises(SystemExit, match='pickled model'):
        command(src, str(tmp_path / 'ours.pth'))
    assert not (tmp_path / 'ours.pth').exists()
