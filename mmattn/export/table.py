"""Which network goes into which format: a page, made by trying."""
from typing import Dict, Iterable, List, Tuple

import torch
from mmengine.utils import ProgressBar
from torch import nn

from ..models import get_model
from ..registry import MODELS
from .files import FORMATS, ExportError, export
from .network import Network

_SE = dict(type='SE', ratio=4)
_CA = dict(type='CoordAttention', min_channels=4)
_SEL = dict(type='SelectiveFusion', ratio=16, min_channels=8)
_DCA = dict(type='DCA')
_TINY = dict(depth=(2, 1, 1, 1), base_channels=8)
_MOBILE = dict(widen_factor=0.25)
# Every registered backbone, small: options of a config.
BACKBONES = dict(
    ResNet=_TINY,
    ResNetV1c=_TINY,
    ResNetV1d=_TINY,
    ResNeXt=dict(_TINY, groups=4),
    SKNet=dict(
        depth=(2, 1, 1, 1),
        base_channels=16,
        attention=dict(type='SelectiveFusion', ratio=2, bias=False)),
    Res2Net=dict(_TINY, base_width=6),
    PyConvResNet=dict(_TINY, arch='HG', groups=2, base_width=8),
    BLResNet=dict(depth=(3, 2, 4, 2), base_channels=16, beta=2),
    ScaleResNet=dict(
        _TINY,
        allocation=[[(4, 2, 2, 2, 56), (6, 0, 2, 0, 56)], [(8, 4, 6, 0, 28)],
                    [(16, 4, 0, 0, 14)], [(32, 0, 0, 0, 7)]]),
    LIPResNet=_TINY,
    ResNet_CIFAR=_TINY,
    PreActResNet_CIFAR=dict(depth=(2, 1, 1), base_channels=16),
    MobileNetV1=_MOBILE,
    MobileNetV2=_MOBILE,
    MobileNetV3=_MOBILE,
    MNASNet=_MOBILE,
    MobileNeXt=_MOBILE)
# Every part, in a small network.
PARTS = {
    **{
        name: ('ResNet', dict(_TINY, attention=dict(type=name, **words)))
        for name, words in dict(
            SE=dict(ratio=4),
            ECA={},
            GE={},
            GC=dict(ratio=4),
            CBAM=dict(ratio=4),
            CoordAttention=dict(min_channels=4),
            BAM=dict(ratio=4),
            SGE=dict(groups=4),
            SA=dict(groups=4),
            Fca=dict(ratio=4, num_frequencies=8, dct_size=7),
            GSoP=dict(channels=16),
            A2={},
            MSCAM=dict(ratio=4)).items()
    },
    'AFF': ('ResNet', dict(_TINY, fusion=dict(type='AFF', ratio=4))),
    'IAFF': ('ResNet', dict(_TINY, fusion=dict(type='IAFF', ratio=4))),
    'depth attention': (
        'ResNet', dict(_TINY, depth_fusion=[_SEL, None, None, None])),
    'DCA on SE': ('ResNet', dict(_TINY, attention=_SE, link=_DCA)),
    'DCA on GC': ('ResNet', dict(
        _TINY, attention=dict(type='GC', ratio=4), link=_DCA)),
    'DCA on CBAM': ('ResNet', dict(
        _TINY, attention=dict(type='CBAM', ratio=4), link=_DCA)),
    'MapLink on CoordAttention': ('ResNet', dict(
        _TINY, attention=_CA, link=dict(type='MapLink'))),
    'DCA on SelectiveFusion': ('SKNet', dict(BACKBONES['SKNet'], link=_DCA)),
    'PSAConv': ('ResNet', dict(_TINY, conv2=dict(
        type='PSAConv', kernel_sizes=(3, 5), branch_groups=(1, 2), ratio=2))),
    'AAConv': ('ResNet', dict(_TINY, conv2=[None, None] + [
        dict(type='AAConv', map_size=(14, 14), num_heads=2)] * 2)),
}
# Whole models, by their configs.
MODELS_WHOLE = dict(
    ca_mobilenet_v2_8xb32_in1k='classifier: scores',
    deeplabv3_ca_mbv2_os16_voc12aug='segmentor: scores of each pixel',
    ssdlite320_ca_mbv2_coco="detector: the head's scores and deltas")
SIZE = (96, 128)


def _randomise(net: nn.Module) -> nn.Module:
    """Leave nothing at a start that hides a difference, and run stably."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() < 2:
                p.uniform_(-0.5, 1, generator=generator)
            else:
                p.normal_(std=0.3, generator=generator)
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.
        net.train()(torch.randn(4, 3, *SIZE, generator=generator))
    return net.eval()


def rows() -> Iterable[Tuple[str, str]]:
    """Kind and name of everything that is tried."""
    for name in BACKBONES:
        yield 'backbone', name
    for name in PARTS:
        yield 'part', name
    for name in MODELS_WHOLE:
        yield 'model', name


def build(kind: str, name: str) -> nn.Module:
    """The network of a row; ``'model'`` needs its toolbox."""
    if kind == 'model':
        return _randomise(Network(get_model(name)))
    cls, options = (name, BACKBONES[name]) if kind == 'backbone' else (
        PARTS[name])
    return _randomise(MODELS.get(cls)(**options))


def attempt(kind: str, name: str, folder: str) -> Dict[str, str]:
    """For each ending of a file: nothing, or the error."""
    net = build(kind, name)
    results = {}
    for suffix in FORMATS:
        try:
            export(net, f'{folder}/net{suffix}', SIZE)
            results[suffix] = ''
        except ExportError as error:
            results[suffix] = str(error)
    return results


def render(results: Dict[Tuple[str, str], Dict[str, str]]) -> str:
    """The tables in Markdown, and below them the reasons."""
    titles = dict(
        backbone='Backbones', part='Parts (in a ResNet, or the network that '
        'has them)', model='Whole models')
    lines: List[str] = []
    for kind, title in titles.items():
        lines += [
            f'### {title}', '', f'| | {" | ".join(FORMATS.values())} |',
            '| --- ' * (len(FORMATS) + 1) + '|'
        ]
        reasons = []
        for (k, name), result in results.items():
            if k != kind:
                continue
            about = f' ({MODELS_WHOLE[name]})' if kind == 'model' else ''
            cells = ['🔴' if result[s] else '🟢' for s in FORMATS]
            lines.append(f'| `{name}`{about} | {" | ".join(cells)} |')
            wrong = [FORMATS[s] for s in FORMATS if result[s]]
            if wrong:
                why = '; '.join(
                    dict.fromkeys(e for e in result.values() if e))
                reasons.append(f'- `{name}`, {", ".join(wrong)}: {why}')
        lines += ['', *reasons, ''] if reasons else ['']
    return '\n'.join(lines)


def table(folder: str) -> str:
    """Try every row in every format; minutes.

    Args:
        folder: For the files, one of each format at a time.
    """
    every = list(rows())
    bar = ProgressBar(len(every))
    results = {}
    for row in every:
        results[row] = attempt(*row, folder)
        bar.update()
    return render(results)
