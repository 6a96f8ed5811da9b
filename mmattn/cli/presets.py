"""The backbones that ``mmattn swap`` knows by a name, ``PART_NETWORK``."""
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional, Tuple

from . import CommandError

# Strides of the stages, for choosing those that a head reads.
RESNET = (4, 8, 16, 32)
MOBILENET_V2 = (2, 4, 8, 16, 16, 32, 32)


@dataclass(frozen=True)
class Preset:
    """A backbone.

    Args:
        type: Its class in mmattn.
        trunk: The options that say which trunk it is.
        words: Attentions, links, fusions.
        start: What to add to the words in order to begin as the plain trunk,
            where that is what a checkpoint holds.
        checkpoint: Where the trunk's weights are; None: nowhere.
        own_config: The config in configs/imagenet that trains its weights,
            where those of a plain trunk do not fit.
        strides: Of its stages.
        last: The ``out_indices`` of a classifier.
    """
    type: str
    trunk: Dict[str, Any]
    words: Dict[str, Any] = field(default_factory=dict)
    start: Dict[str, Any] = field(default_factory=dict)
    checkpoint: Optional[str] = None
    own_config: Optional[str] = None
    strides: Tuple[int, ...] = RESNET
    last: int = 3


IDENTITY = dict(gate_init='identity')
SDA = dict(type='SelectiveFusion', ratio=16, min_channels=64)
DCA = dict(type='DCA')


def _attention(kind: str, start: dict = IDENTITY, **options: Any) -> tuple:
    return dict(attention=dict(type=kind, **options)), dict(attention=start)


def _linked(kind: str, start: dict = IDENTITY, **options: Any) -> tuple:
    words, start = _attention(kind, start, **options)
    return dict(words, link=DCA), start


# Words, and what makes them begin as the plain trunk. GC does by itself.
PARTS = {
    'se': _attention('SE', ratio=16),
    'eca': _attention('ECA'),
    'cbam': _attention('CBAM', ratio=16),
    'gc': _attention('GC', {}, ratio=16),
    'dca_se': _linked('SE', ratio=16),
    'dca_gc': _linked('GC', {}, ratio=16),
    'aff': (dict(fusion=dict(type='AFF', ratio=16)), dict(fusion=IDENTITY)),
    'sda': (dict(depth_fusion=SDA), dict(depth_fusion=dict(last_share=0.95))),
}
CA = dict(type='CoordAttention', ratio=32)
MOBILE_PARTS = {
    'se': _attention('SE', ratio=24),
    'eca': _attention('ECA'),
    'ca': (dict(attention=[None] + [CA] * 6),
           dict(attention=IDENTITY)),
}
NETWORKS = {
    **{
        f'r{depth}': Preset(
            'ResNet', dict(depth=depth),
            checkpoint=f'torchvision://resnet{depth}')
        for depth in (18, 34, 50, 101, 152)
    },
    **{
        f'r{depth}v1c': Preset(
            'ResNetV1c', dict(depth=depth),
            checkpoint=f'open-mmlab://resnet{depth}_v1c')
        for depth in (18, 50, 101)
    },
    **{
        f'rx{depth}': Preset(
            'ResNeXt', dict(depth=depth, groups=32, base_width=4),
            checkpoint=f'open-mmlab://resnext{depth}_32x4d')
        for depth in (50, 101)
    },
    'mobilenet_v2': Preset(
        'MobileNetV2', {}, checkpoint='mmcls://mobilenet_v2',
        strides=MOBILENET_V2, last=7),
}
R86 = dict(depth=86, groups=8, base_width=8)
# Networks whose trunk is their own.
OTHERS = {
    'sda_r86': Preset(
        'ResNet', R86, dict(depth_fusion=SDA),
        own_config='sda_resnet86_4xb64_in1k'),
    'sda_se_r86': Preset(
        'ResNet', R86,
        dict(attention=dict(type='SE', ratio=16), depth_fusion=SDA),
        own_config='sda_se_resnet86_4xb64_in1k'),
    'sda_res2_r86': Preset(
        'Res2Net', dict(depth=86), dict(depth_fusion=SDA),
        own_config='sda_res2_resnet86_4xb64_in1k'),
    'res2_r50': Preset(
        'Res2Net', dict(depth=50), own_config='res2_resnet50_4xb64_in1k'),
    'res2_r101': Preset(
        'Res2Net', dict(depth=101), own_config='res2_resnet101_4xb64_in1k'),
    'epsa_r50': Preset(
        'ResNet', dict(depth=50), dict(conv2=dict(type='PSAConv')),
        own_config='epsa_resnet50_4xb64_in1k'),
    'sk_r50': Preset(
        'SKNet', dict(depth=50), own_config='sk_resnet50_8xb32_in1k'),
    'dca_sk_r50': Preset(
        'SKNet', dict(depth=50), dict(link=DCA),
        own_config='dca_sk_resnet50_8xb32_in1k'),
}


def names() -> List[str]:
    """Every name."""
    combined = [
        f'{part}_{network}' for network, preset in NETWORKS.items()
        for part in (PARTS if preset.strides is RESNET else MOBILE_PARTS)
    ]
    return sorted([*NETWORKS, *combined, *OTHERS])


def table() -> str:
    """What ``mmattn swap --list`` prints."""
    resnets = [n for n, p in NETWORKS.items() if p.strides is RESNET]
    mobile = [n for n, p in NETWORKS.items() if p.strides is not RESNET]
    return '\n'.join([
        'NETWORK or PART_NETWORK:',
        f'  networks  {", ".join(resnets)}',
        f'    parts   {", ".join(PARTS)}',
        f'  networks  {", ".join(mobile)}',
        f'    parts   {", ".join(MOBILE_PARTS)}',
        f'others:     {", ".join(OTHERS)}',
        '',
        'The others start from an ImageNet checkpoint of their own, which you '
        'train or\nconvert. The rest start from the public weights of their '
        'network, as this network:\nwhat is added starts as the identity, or '
        'next to it.'
    ])


def preset(name: str) -> Preset:
    """The backbone of a name.

    Raises:
        CommandError: There is none.
    """
    if name in OTHERS:
        return OTHERS[name]
    if name in NETWORKS:
        return NETWORKS[name]
    for network, found in NETWORKS.items():
        part = name[:-len(network) - 1]
        parts = PARTS if found.strides is RESNET else MOBILE_PARTS
        if name == f'{part}_{network}' and part in parts:
            words, start = parts[part]
            return replace(found, words=words, start=start)
    raise CommandError(f'there is no backbone {name!r}. {table()}')


def started(made: Preset) -> Dict[str, Any]:
    """The words that make it begin as the plain trunk."""

    def add(word: Any, extra: dict) -> Any:
        if isinstance(word, list):
            return [entry and dict(entry, **extra) for entry in word]
        return dict(word, **extra)

    return {
        name: add(word, made.start.get(name, {}))
        for name, word in made.words.items()
    }
