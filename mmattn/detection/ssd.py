from typing import List, Optional

from mmdet.models.dense_heads import SSDHead as StockSSDHead
from mmdet.models.losses import FocalLoss, smooth_l1_loss
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.model import ModuleList
from torch import Tensor

from ..checks import build_layer


class SSDHead(StockSSDHead):
    """mmdet's SSD head with a choice of the loss of the classes.

    Layers, keys and options are mmdet's. Every prior has ``num_classes + 1``
    channels, the last for the background, with either loss:

    - ``loss_cls=None``: softmax cross entropy over the positives and, in
      each image, the ``train_cfg.neg_pos_ratio`` times as many negatives of
      the largest loss, summed and divided by the positives of the batch;
    - ``loss_cls=dict(type='FocalLoss', ...)``: one sigmoid per channel, the
      loss summed over all priors and channels and divided by the positives
      of the batch. The last channel is always a negative and never a
      prediction.

    The loss of the boxes is smooth L1, summed over the positives and divided
    by their number; its beta is ``train_cfg.smoothl1_beta``.

    Args:
        loss_cls: None or a config of mmdet's FocalLoss. With it every
            convolution of the class branches starts at N(0, 0.01) with bias
            -log(99), whatever ``init_cfg`` says of the others.
        options: Of mmdet's SSDHead.

    Source: Liu et al., "SSD", arXiv:1512.02325, section 2.2; the focal form
        is that of Andrew-Qibin/ssdlite-pytorch-mobilenext on COCO, with
        alpha 0.25, gamma 2 and loss weight 5. There, too, the sigmoid form
        has the channel of the background: that makes the parameter counts
        of the published table.
    Departs: an image without a positive counts as one in the divisor, as in
        mmdet. mmdet 3.2 and later cannot predict with their own SSDHead (it
        lacks ``loss_cls``); this one can.

    Raises:
        TypeError: An option mmdet's SSDHead does not have.
        ValueError: ``loss_cls`` is another loss; ``train_cfg`` has a
            ``neg_pos_ratio`` that would do nothing, or lacks it.
    """

    def __init__(self, *args, loss_cls: Optional[dict] = None, **options):
        for word in ('train_cfg', 'test_cfg'):
            if not isinstance(options.get(word), (dict, type(None))):
                raise TypeError(f'{word} must be None or a dict, got '
                                f'{options[word]!r}')
        if options.get('train_cfg'):
            build_layer('train_cfg.assigner', TASK_UTILS.build,
                        options['train_cfg'].get('assigner'))
        super().__init__(*args, **options)
        self.loss_cls = None if loss_cls is None else build_layer(
            'loss_cls', MODELS.build, loss_cls)
        if loss_cls is not None:
            if not isinstance(self.loss_cls, FocalLoss):
                raise ValueError(
                    "loss_cls must be None or of type 'FocalLoss', got "
                    f'{loss_cls!r}; None is softmax with mined negatives')
            self.use_sigmoid_cls = True
            # A child's own init_cfg runs after the head's.
            self.cls_convs = ModuleList(
                self.cls_convs,
                init_cfg=dict(
                    type='Normal', layer='Conv2d', std=0.01, bias_prob=0.01))
        if self.train_cfg:
            ratio = self.train_cfg.get('neg_pos_ratio')
            if ratio is not None and loss_cls is not None:
                raise ValueError(
                    f'train_cfg has neg_pos_ratio={ratio}, but FocalLoss '
                    'mines no negatives: leave it out, or set it to None')
            if ratio is None and loss_cls is None:
                raise ValueError('train_cfg needs neg_pos_ratio, the mined '
                                 'negatives for each positive (published: 3)')

    def loss_by_feat_single(self, cls_score: Tensor, bbox_pred: Tensor,
                            anchor: Tensor, labels: Tensor,
                            label_weights: Tensor, bbox_targets: Tensor,
                            bbox_weights: Tensor, avg_factor: int) -> tuple:
        """Losses of one image: of the classes ``(1, )``, of the boxes."""
        if self.loss_cls is None:
            return super().loss_by_feat_single(
                cls_score, bbox_pred, anchor, labels, label_weights,
                bbox_targets, bbox_weights, avg_factor)
        # To FocalLoss a label is the positive channel, and the number of
        # channels is none: one more than what mmdet labels the background.
        labels = labels + (labels == self.num_classes).long()
        loss_cls = self.loss_cls(
            cls_score, labels, label_weights, avg_factor=avg_factor)
        if self.reg_decoded_bbox:
            bbox_pred = self.bbox_coder.decode(anchor, bbox_pred)
        loss_bbox = smooth_l1_loss(
            bbox_pred,
            bbox_targets,
            bbox_weights,
            beta=self.train_cfg['smoothl1_beta'],
            avg_factor=avg_factor)
        return loss_cls[None], loss_bbox

    def predict_by_feat(self, cls_scores: List[Tensor], *args,
                        **kwargs) -> list:
        """mmdet's, in which a sigmoid of the background scores 0."""
        if self.loss_cls is not None:
            scores = []
            for score in cls_scores:
                score = score.clone()
                background = slice(self.num_classes, None,
                                   self.cls_out_channels)
                score[:, background] = float('-inf')
                scores.append(score)
            cls_scores = scores
        return super().predict_by_feat(cls_scores, *args, **kwargs)
