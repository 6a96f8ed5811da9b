"""From a stock backbone to one of ours, keeping what both can say."""
import inspect
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Sequence, Tuple

import torch
from mmengine.registry import MODELS

from ..checkpoints.report import part_of
from ..registry import MODELS as OURS
from . import CommandError
from .presets import RESNET, Preset, started

SIZE = 128
RESNETS = ('ResNet', 'ResNetV1b', 'ResNetV1c', 'ResNetV1d', 'ResNeXt',
           'Res2Net', 'SKNet', 'SEResNet', 'SEResNeXt', 'ResNeSt')
# Options with the same meaning in all networks, and in all ResNets.
COMMON = ('in_channels', 'norm_eval', 'norm_cfg', 'with_cp')
OF_RESNETS = (*COMMON, 'num_stages', 'strides', 'dilations', 'out_indices',
              'style', 'frozen_stages', 'conv_cfg', 'dcn', 'stage_with_dcn',
              'contract_dilation', 'multi_grid', 'zero_init_residual',
              'drop_path_rate')
STEM = ('deep_stem', 'avg_down', 'stem_channels', 'base_channels')
OF_MOBILENETS = (*COMMON, 'out_indices', 'frozen_stages', 'strides',
                 'dilations', 'conv_cfg', 'act_cfg', 'widen_factor')
STARTS = ('init_cfg', 'pretrained')
# Norms of maps; a transformer's would not do.
NORMS = ('BN', 'BN2d', 'SyncBN', 'MMSyncBN', 'GN')


@dataclass
class Swap:
    """What is written for the backbone.

    Args:
        override: The entries of ``model.backbone``.
        old: Channels of the stock outputs.
        new: Channels of the new outputs.
        strides: Of the outputs.
        same_trunk: The stock backbone's weights are the new trunk's.
        notes: What to tell.
    """
    override: Dict[str, Any]
    old: List[int]
    new: List[int]
    strides: List[int]
    same_trunk: bool
    notes: List[str]


def bare_type(node: dict) -> str:
    """The class name in ``type``, without a scope."""
    kind = node.get('type', '')
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def measured(backbone: dict, whose: str) -> Tuple[List[int], List[int], dict]:
    """Build a backbone: channels and strides of its outputs, its shapes."""
    try:
        net = MODELS.build(dict(backbone))
        net.eval()  # which returns nothing in mmdet's ResNet
        with torch.no_grad():
            maps = net(torch.zeros(1, backbone.get('in_channels', 3), SIZE,
                                   SIZE))
    except Exception as error:  # the network's own, whatever it is
        raise CommandError(
            f'the {whose} backbone {bare_type(backbone)} does not build or '
            f'take an image of {SIZE}x{SIZE}: {error}') from error
    maps = maps if isinstance(maps, (list, tuple)) else [maps]
    if not all(isinstance(m, torch.Tensor) and m.dim() == 4 for m in maps):
        raise CommandError(f'the {whose} backbone {bare_type(backbone)} '
                           'returns no maps; only networks that do are '
                           'swapped')
    shapes = {
        name: tuple(value.shape)
        for name, value in net.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    return ([m.shape[1] for m in maps],
            [round(SIZE / m.shape[3]) for m in maps], shapes)


def levels(stock: dict, strides: Sequence[int]) -> List[int]:
    """The stride of each output, had the network no dilations."""
    if list(strides) != sorted(strides):
        raise CommandError(
            f'the backbone {bare_type(stock)} returns maps of strides '
            f'{list(strides)}: it is a whole encoder and decoder, for which '
            'no backbone can stand in')
    if bare_type(stock) in RESNETS:
        indices = stock.get('out_indices') or (0, 1, 2, 3)[-len(strides):]
        return [4 * 2**i for i in indices]
    found: List[int] = []
    for stride in strides:
        found.append(max(stride, 2 * found[-1]) if found else stride)
    return found


def _places(preset: Preset, stock: dict, strides: Sequence[int],
            classifier: bool) -> Dict[str, Any]:
    """Which stages of another kind of network stand in for the outputs."""
    wanted = levels(stock, strides)
    if classifier and len(wanted) == 1:
        return dict(out_indices=(preset.last, ))
    missing = [s for s in wanted if s not in preset.strides]
    if missing:
        raise CommandError(
            f'the config reads maps of strides {wanted}, and {preset.type} '
            f'has stages of {sorted(set(preset.strides))}')
    # Of stages with the same stride the last.
    last = {stride: i for i, stride in enumerate(preset.strides)}
    options: Dict[str, Any] = dict(out_indices=tuple(last[s] for s in wanted))
    cut = strides[-1]
    if cut < wanted[-1]:
        if preset.strides is not RESNET:
            options['output_stride'] = cut
        else:
            beyond = [max(1, s // cut) for s in RESNET]
            options.update(
                strides=tuple(1 if i == 0 or b > 1 else 2
                              for i, b in enumerate(beyond)),
                dilations=tuple(beyond),
                contract_dilation=True)
    return options


def _accepted(kind: str) -> set:
    return {
        name
        for base in OURS.get(kind).__mro__ if base is not object
        for name in inspect.signature(base).parameters
    }


def _carried(stock: dict, preset: Preset, names: Sequence[str]) -> dict:
    accepted = _accepted(preset.type)
    kept = {k: v for k, v in stock.items() if k in names and k in accepted}
    if bare_type(kept.get('norm_cfg') or dict(type='BN')) not in NORMS:
        del kept['norm_cfg']
    return kept


def _same_trunk(old: dict, new: dict) -> bool:
    trunk = {k: v for k, v in new.items() if part_of(k) == 'trunk'}
    return trunk == {k: v for k, v in old.items() if part_of(k) == 'trunk'}


def _start(preset: Preset, style: str) -> Tuple[dict, str]:
    """The ``init_cfg`` of another trunk, and what to say about it."""
    checkpoint = preset.checkpoint
    if style == 'caffe':
        known = {f'torchvision://resnet{d}': d for d in (50, 101)}
        if checkpoint not in known:
            raise CommandError(
                "the config is for networks of style='caffe' and images as "
                f'these expect them, which no weights of this {preset.type} '
                "are; start from the config's sibling without caffe")
        checkpoint = ('open-mmlab://detectron2/'
                      f'resnet{known[checkpoint]}_caffe')
    if preset.own_config:
        name = preset.own_config.rsplit('_', 2)[0]
        path = f'checkpoints/{name}_in1k.pth'
        return (dict(type='Pretrained', checkpoint=path, prefix='backbone.'),
                f'yours to provide: {path}, the checkpoint that the config '
                f"{preset.own_config} trains, or the authors' file for it, "
                'converted by tools/convert_checkpoint.py. For a start from '
                'scratch: init_cfg=None')
    if checkpoint is None:
        raise CommandError(
            f'no public weights of {preset.type} with {preset.trunk} have the '
            'names of ours; take another --backbone')
    return (dict(type='Pretrained', checkpoint=checkpoint),
            f'starts from {checkpoint}, the ImageNet weights of the plain '
            'network')


def _give_start(model: dict, preset: Preset, merged: dict, same: bool,
                from_file: bool) -> List[str]:
    """Say in ``merged`` how the new backbone starts; what to tell."""
    stock = model['backbone']
    if same or not from_file and bare_type(stock) == preset.type:
        # Without a file it is a rule for layers.
        merged.update({k: stock[k] for k in STARTS if k in stock})
    if not from_file:
        return ['starts from scratch, as the config does']
    if same:
        return ["starts from the config's own checkpoint, which holds the "
                'whole trunk']
    merged['init_cfg'], note = _start(preset, stock.get('style', 'pytorch'))
    mean = (model.get('data_preprocessor') or {}).get('mean')
    if stock.get('style') == 'caffe' or not mean or abs(mean[0] - 123.7) < 1:
        return [note]
    return [
        note, f'the config normalises images with mean={mean}, these weights '
        'expect mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375] '
        'in RGB: set data_preprocessor'
    ]


def _override(stock: dict, made: dict, merged: dict) -> dict:
    """What to write over a stock backbone to get a merged one."""
    gone = [k for k, v in stock.items() if k not in merged
            and not (k in STARTS and v is None)]
    if gone:
        rest = {k: v for k, v in merged.items() if k not in made}
        return dict(_delete_=True, **made, **rest)
    override = {k: v for k, v in merged.items()
                if k == 'type' or k not in stock or stock[k] != v}
    return {
        k: dict(_delete_=True, **v)
        if isinstance(v, dict) and stock.get(k) is not None else v
        for k, v in override.items()
    }


def swap_backbone(model: dict, preset: Preset, words: Dict[str, Any]) -> Swap:
    """Put a preset in the place of a model's backbone.

    Args:
        model: The stock model's config.
        preset: What replaces its backbone.
        words: Attentions, links, fusions that replace the preset's.

    Raises:
        CommandError: The one cannot stand in for the other.
    """
    stock = dict(model['backbone'])
    name = bare_type(stock)
    old, strides, shapes = measured(stock, "config's")
    levels(stock, strides)
    resnets = name in RESNETS and preset.strides is RESNET
    similar = resnets or name == preset.type
    notes = []
    plain = not preset.own_config
    if plain and preset.type == 'ResNet' and name in ('ResNetV1c',
                                                      'ResNetV1d'):
        depth = preset.trunk['depth']
        file = (f'open-mmlab://resnet{depth}_v1c'
                if name == 'ResNetV1c' and depth in (18, 50, 101) else None)
        preset = replace(preset, type=name, checkpoint=file)
        notes.append(f'keeps the stem of {name}')
    names = OF_RESNETS if resnets else OF_MOBILENETS if similar else COMMON
    if plain and name == preset.type:
        names = (*names, *STEM)
    kept = _carried(stock, preset, names)
    if not similar:
        kept.update(_places(preset, stock, strides,
                            bare_type(model) == 'ImageClassifier'))
    dropped = sorted(
        k for k, v in stock.items() if k not in kept and v and k in (
            'plugins', 'frozen_stages', 'dcn'))
    if dropped:
        notes.append(f'not carried over: {", ".join(dropped)}')
    own_start = stock.get('init_cfg') or stock.get('pretrained')
    from_file = bool(
        model.get('pretrained') or stock.get('pretrained')
        or 'Pretrained' in str(own_start))
    own = {**(started(preset) if from_file and plain else preset.words)}
    own = {k: v for k, v in {**own, **words}.items() if v is not None}
    made = dict(type=f'mmattn.{preset.type}', **preset.trunk, **own)
    merged = {**kept, **made}
    new, new_strides, new_shapes = measured(merged, 'new')
    if new_strides != strides:
        raise CommandError(f'the config reads maps of strides {strides}, the '
                           f'new backbone returns {new_strides}')
    same = _same_trunk(shapes, new_shapes)
    notes += _give_start(model, preset, merged, same, from_file)
    if from_file and any(words.values()):
        notes.append('parts given on the command line start as they say; '
                     'gate_init=identity, where a part has it, leaves the '
                     'outputs of the network as they are at first')
    return Swap(_override(stock, made, merged), old, new, strides, same,
                notes)
