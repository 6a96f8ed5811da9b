"""SSDLite320 as released: its priors and its head."""
from typing import List, Optional, Sequence, Union

import torch
from mmdet.models.task_modules import SSDAnchorGenerator
from mmdet.registry import TASK_UTILS
from torch import Tensor, nn

from ..checks import (build_act, build_layer, build_norm, check_batch,
                      check_init_cfg, check_positive, check_positives)
from .ssd import SSDHead


class SSDLiteAnchorGenerator(SSDAnchorGenerator):
    """Priors of SSDLite320: per cell two squares, then wide and tall boxes.

    Around the centre ``((j + 0.5) * stride, (i + 0.5) * stride)`` of cell
    (i, j): a square of ``min_size``, one of ``sqrt(min_size * max_size)``,
    then for each ratio r a box of ``min_size * sqrt(r)`` by ``min_size /
    sqrt(r)`` and its transpose. No side is longer than the image's.

    Args:
        strides: Of each level, in pixels.
        ratios: Of each level: long side over short side.
        min_sizes: Of each level, in pixels.
        max_sizes: Of each level, in pixels; VOC has 120, 180, 220, 260, 300,
            320, and ratios 2 and 3 on the last level, too.
        input_size: Side of the square image.

    Source: the mobile configs of Andrew-Qibin/ssdlite-pytorch-mobilenext;
        the defaults are those of COCO.
    Departs: none; mmdet's own generator lacks the limit of the sides, which
        changes priors of the two coarsest levels.

    Raises:
        ValueError: Lists of unequal length.
    """

    def __init__(self,
                 strides: Sequence[int] = (16, 32, 64, 120, 160, 320),
                 ratios: Sequence[Sequence[float]] = ((2, 3), (2, 3), (2, 3),
                                                      (2, 3), (2, 3), (2, )),
                 min_sizes: Sequence[float] = (45, 90, 135, 180, 225, 270),
                 max_sizes: Sequence[float] = (90, 135, 180, 225, 270, 315),
                 input_size: int = 320):
        lengths = [len(x) for x in (strides, ratios, min_sizes, max_sizes)]
        if len(set(lengths)) > 1:
            raise ValueError('strides, ratios, min_sizes and max_sizes must '
                             'have one entry for each level, got '
                             f'{", ".join(map(str, lengths))} entries')
        self.input_size = input_size
        super().__init__(
            strides=list(strides),
            ratios=list(ratios),
            min_sizes=list(min_sizes),
            max_sizes=list(max_sizes),
            scale_major=False)

    def gen_base_anchors(self) -> List[Tensor]:
        levels = []
        for priors in super().gen_base_anchors():
            low, high = priors.chunk(2, 1)  # (A, 2) corners, x first
            half = (high - low).clamp(max=self.input_size) / 2
            centre = (low + high) / 2
            levels.append(torch.cat((centre - half, centre + half), 1))
        return levels


class SSDLiteHead(SSDHead):
    """SSD's head of depthwise separable convolutions, as in SSDLite320.

    Each level has a branch for the classes and one for the boxes:
    ``w2 act(norm(w1 x))`` with ``w1`` a 3x3 depthwise and ``w2`` a 1x1
    convolution, both with a bias; on the last level, a 1x1 map, ``w2 x``
    alone.

    Keys: ``cls_convs.0.{0,1,3}.*`` and ``reg_convs.0.{0,1,3}.*`` (the
    depthwise convolution, its norm, the 1x1 convolution);
    ``cls_convs.5.{weight,bias}`` where level 5 is the last.

    Args:
        num_classes: K, without the background.
        in_channels: Of each level, the finest first.
        loss_cls: See SSDHead.
        anchor_generator: Config of the priors, ``SSDLiteAnchorGenerator``.
        bbox_coder: Config of how boxes are encoded; the variances 0.1 and
            0.2 are the ``target_stds``.
        norm_cfg: The norm behind the depthwise convolutions.
        act_cfg: The activation behind that norm.
        train_cfg: ``assigner`` (published: a prior is positive from an IoU
            of 0.5 on, and so is the best prior of each box),
            ``smoothl1_beta`` (published: 1), with softmax ``neg_pos_ratio``
            (published: 3), and what mmdet's SSDHead asks for.
        test_cfg: As in mmdet, with ``nms_pre``: where it is left out, mmdet
            drops the last candidate of each level.
        init_cfg: Initialisation; see ``loss_cls`` for the class branches.

    Shape:
        ``(B, in_channels[i], H_i, W_i)`` for each level to the class maps
        ``(B, A_i * (K + 1), H_i, W_i)``, the channels of one prior next to
        each other with the background last, and the box maps
        ``(B, A_i * 4, H_i, W_i)``.

    Source: Andrew-Qibin/ssdlite-pytorch-mobilenext, the released code of the
        SSDLite320 rows of Hou et al., arXiv:2103.02907, tables 2 and 3.
    Departs: the background of the released softmax form is its first channel,
        here the last.

    Raises:
        ValueError: Another number of ``in_channels`` than of levels of the
            priors; ``loss_cls`` or ``train_cfg`` as SSDHead refuses them;
            another number of inputs; one image whose map is 1x1 above the
            last level, while batch norms train.
    """

    def __init__(self,
                 num_classes: int,
                 in_channels: Sequence[int],
                 loss_cls: Optional[dict] = None,
                 anchor_generator: dict = dict(
                     type='mmattn.detection.SSDLiteAnchorGenerator'),
                 bbox_coder: dict = dict(
                     type='mmdet.DeltaXYWHBBoxCoder',
                     target_means=[0., 0., 0., 0.],
                     target_stds=[0.1, 0.1, 0.2, 0.2]),
                 norm_cfg: dict = dict(type='BN'),
                 act_cfg: dict = dict(type='ReLU6'),
                 train_cfg: Optional[dict] = None,
                 test_cfg: Optional[dict] = None,
                 init_cfg: Union[None, dict, List[dict]] = dict(
                     type='Xavier',
                     layer='Conv2d',
                     distribution='uniform',
                     bias=0)):
        check_positive(num_classes=num_classes)
        check_positives(in_channels=in_channels)
        check_init_cfg(init_cfg)
        for word, cfg in (('anchor_generator', anchor_generator),
                          ('bbox_coder', bbox_coder)):
            build_layer(word, TASK_UTILS.build, cfg)
        super().__init__(
            num_classes,
            in_channels,
            use_depthwise=True,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            anchor_generator=anchor_generator,
            bbox_coder=bbox_coder,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
            loss_cls=loss_cls)

    def _branch(self, channels: int, out_channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            build_norm(self.norm_cfg, channels)[1],
            build_act(self.act_cfg),
            nn.Conv2d(channels, out_channels, 1))

    def _init_layers(self) -> None:
        if len(self.in_channels) != len(self.num_base_priors):
            raise ValueError(
                f'in_channels={self.in_channels!r} must have one entry for '
                'each level of the anchor_generator, of which there are '
                f'{len(self.num_base_priors)}')
        last = len(self.in_channels) - 1
        self.cls_convs, self.reg_convs = nn.ModuleList(), nn.ModuleList()
        for i, (channels, priors) in enumerate(
                zip(self.in_channels, self.num_base_priors)):
            for convs, outputs in ((self.cls_convs, self.cls_out_channels),
                                   (self.reg_convs, 4)):
                convs.append(
                    nn.Conv2d(channels, priors * outputs, 1) if i ==
                    last else self._branch(channels, priors * outputs))

    def forward(self, x: Sequence[Tensor]) -> tuple:
        """Class maps and box maps of all levels."""
        if len(x) != len(self.in_channels):
            raise ValueError(f'SSDLiteHead was built for '
                             f'{len(self.in_channels)} levels, got {len(x)}')
        for level, branch in zip(x[:-1], self.cls_convs):
            check_batch(self, branch[1], level)
        return super().forward(x)
