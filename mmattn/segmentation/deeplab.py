from typing import Sequence

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmseg.models.decode_heads import ASPPHead
from torch import Tensor

from ..checks import (build_norm, check_batch, check_bool, check_positive,
                      check_positives)


class DeepLabV3Head(ASPPHead):
    """Classify every pixel by what lies at several distances around it.

    ``y = classify(fuse([pool(x), b_1(x), ..., b_n(x)]))``: the image's mean
    through a 1x1 convolution, spread over the map; for each dilation d a 3x3
    convolution of that dilation, or a 1x1 convolution where d is 1; a 1x1
    convolution that fuses them; dropout and a 1x1 convolution with a bias.
    All but the last have a norm and an activation behind.

    It is mmsegmentation's ASPPHead with a fusion by 1x1 instead of 3x3: same
    options, same parameter names (``image_pool.1.*``, ``aspp_modules.0.*``,
    ``bottleneck.*``, ``conv_seg.*``), same losses.

    Args:
        in_channels: C of the input.
        channels: Of every branch and of the fused map.
        dilations: Of the branches: 1, 6, 12, 18 at output stride 16; 1, 12,
            24, 36 at 8.
        separable: Whether a 3x3 branch is a depthwise convolution and a 1x1,
            each with norm and activation.
        norm_cfg: Norm behind every convolution but the last.
        options: Of mmsegmentation's decode heads: ``num_classes``,
            ``in_index``, ``dropout_ratio``, ``align_corners``,
            ``loss_decode`` and so on.

    Shape:
        The input of index ``in_index``, ``(B, C, H, W)``, to
        ``(B, num_classes, H, W)``. ``loss`` and ``predict`` resize that to
        the labels or the image.

    Source: Chen et al., arXiv:1706.05587 (DeepLabV3), section 3.3; the
        DeepLabV3 tables of Hou et al., arXiv:2103.02907, for which no code
        was released. Standard convolutions on the trunk's 320 channels make
        the parameter counts of the tables; ``separable=True`` on the last
        1x1 convolution's 1280 is the head that paper's text describes.
    Departs: dropout is mmsegmentation's, of whole channels.

    Raises:
        TypeError: An option that decode heads do not have.
        ValueError: A dilation that is not a positive integer, ``separable``
            without a 3x3 branch, or ``input_transform='multiple_select'``;
            one image while the image's batch norm trains.
    """

    def __init__(self,
                 in_channels: int,
                 channels: int = 256,
                 *,
                 dilations: Sequence[int] = (1, 6, 12, 18),
                 separable: bool = False,
                 norm_cfg: dict = dict(type='BN'),
                 **options):
        if not isinstance(dilations, (list, tuple)) or not dilations:
            raise ValueError(f'dilations must list one dilation for each '
                             f'branch, got {dilations!r}')
        for dilation in dilations:
            check_positive(dilations=dilation)
        check_bool(separable=separable)
        check_positive(channels=channels)
        if options.get('input_transform') == 'multiple_select':
            raise ValueError("input_transform='multiple_select' hands on "
                             'several maps; this head reads one. Give '
                             "in_index, or 'resize_concat'")
        if norm_cfg is not None:
            build_norm(norm_cfg, channels)
        if separable and max(dilations) == 1:
            raise ValueError(f'separable=True needs a 3x3 branch, but '
                             f'dilations={dilations!r} makes 1x1 branches')
        if options.get('input_transform') is None:
            check_positive(in_channels=in_channels)
            in_channels = int(in_channels)
        else:
            check_positives(in_channels=in_channels)
        super().__init__(
            dilations=dilations,
            in_channels=in_channels,
            channels=channels,
            norm_cfg=norm_cfg,
            **options)
        cfgs = dict(
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg)
        self.bottleneck = ConvModule(
            (len(dilations) + 1) * channels, channels, 1, **cfgs)
        if separable:
            for i, dilation in enumerate(dilations):
                if dilation > 1:
                    self.aspp_modules[i] = DepthwiseSeparableConvModule(
                        self.in_channels,
                        channels,
                        3,
                        dilation=dilation,
                        padding=dilation,
                        **cfgs)

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        x = self._transform_inputs(inputs)
        if self.image_pool[1].with_norm:
            check_batch(self, self.image_pool[1].norm, x[:, :, :1, :1])
        # Resizing a 1x1 map, as mmsegmentation does, repeats it.
        image = self.image_pool(x).expand(-1, -1, *x.shape[2:])
        return self.bottleneck(torch.cat((image, *self.aspp_modules(x)), 1))
