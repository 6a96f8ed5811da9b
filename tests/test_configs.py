"""Every config: parses, builds, has the published size, trains a step."""
import copy
import functools
import re
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import nn

import mmattn

ROOT = Path(mmattn.__file__).resolve().parents[1]
CONFIGS = sorted(
    str(path.relative_to(ROOT)) for path in ROOT.glob('configs/**/*.py')
    if '_base_' not in path.parts)

# All parameters, and those that train where that differs (with the stem and
# the first stage frozen). Counted on the authors' released code, with 1000,
# 100 (CIFAR), 80 (COCO), 20 or 21 (VOC) or 19 (Cityscapes) classes; what is
# taken off has no gradient there, ever: a linked network's first block has
# nothing to link to.
PUBLISHED = {
    # DCANet
    'imagenet/dcanet/resnet50_8xb32_in1k': 25557032,
    'imagenet/dcanet/se_resnet50_8xb32_in1k': 28088024,
    'imagenet/dcanet/dca_se_resnet50_8xb32_in1k': 30898696 - 17667,
    'imagenet/dcanet/sk_resnet50_8xb32_in1k': 37118080,
    'imagenet/dcanet/dca_sk_resnet50_8xb32_in1k': 37482720 - 262,
    'imagenet/dcanet/ge_resnet50_8xb32_in1k': 25557032,
    'imagenet/dcanet/dca_ge_resnet50_8xb32_in1k': 28367704 - 17667,
    'imagenet/dcanet/gc_resnet50_8xb32_in1k': 28105032,
    'imagenet/dcanet/dca_gc_resnet50_8xb32_in1k': 28630824 - 5425,
    'imagenet/dcanet/cbam_resnet50_8xb32_in1k': 28089624,
    'imagenet/dcanet/dca_cbam_resnet50_8xb32_in1k': 30900376 - 17672,
    'retinanet/retinanet_r50_2x_coco': (37968692, 37743348),
    'retinanet/retinanet_se_r50_2x_coco': (40499684, 40248948),
    'retinanet/retinanet_dca_se_r50_2x_coco': (43310356 - 17667, 43040923),
    'cascade_rcnn/cascade_rcnn_r50_2x_coco': (69394766, 69169422),
    'cascade_rcnn/cascade_rcnn_gc_r50_2x_coco': (71942766, 71691163),
    'cascade_rcnn/cascade_rcnn_dca_gc_r50_2x_coco':
    (72468558 - 5425, 72211528),
    # ECA-Net
    'imagenet/eca/eca_resnet50_8xb32_in1k': 25557112,
    'imagenet/eca/eca_resnet101_8xb32_in1k': 44549317,
    'imagenet/eca/eca_resnet152_8xb32_in1k': 60193042,
    'faster_rcnn/faster_rcnn_eca_r50_1x_coco': (41753136, 41527777),
    'faster_rcnn/faster_rcnn_eca_r101_1x_coco': (60745341, 60519988),
    'mask_rcnn/mask_rcnn_eca_r50_1x_coco': (44396420, 44171067),
    'mask_rcnn/mask_rcnn_eca_r101_1x_coco': (63388621, 63163268),
    # AFF
    'imagenet/aff/aff_resnet50_8xb128_in1k': 30373192,
    'imagenet/aff/iaff_resnet50_8xb128_in1k': 35170120,
    'imagenet/aff/aff_resnext50_32x4d_8xb128_in1k': 29953704,
    'imagenet/aff/iaff_resnext50_32x4d_8xb128_in1k': 34750632,
    'imagenet/aff/resnet101_8xb128_in1k': 44549160,
    'imagenet/aff/eca_resnet101_8xb128_in1k': 44549317,
    'imagenet/aff/se_resnet101_8xb128_in1k': 49326872,
    'imagenet/aff/ge_theta_plus_resnet101_8xb128_in1k': 58323224,
    # Stage 2 attends on pooled maps; the layout that is published does not.
    'imagenet/aff/aa_resnet101_8xb128_in1k': 45386728,
    'imagenet/aff/lip_resnet101_8xb128_in1k': 42856360,
    'cifar100/aff/aff_resnet32_1xb128_cifar100': 7897156,
    'cifar100/aff/aff_resnext38_32x4d_1xb128_cifar100': 7770148,
    'cifar100/aff/aff_resnext47_32x4d_1xb128_cifar100': 9605828,
    # Faster R-CNN R-50 (41,753,056; 225,344 of it frozen) and three AFFs of
    # 256 channels, ratio 4: each two branches of 2 * 256 * 64 weights and
    # 3 * 64 + 3 * 256 biases, norm weights and norm biases.
    'faster_rcnn/faster_rcnn_aff_fpn_r50_1x_coco':
    (41753056 + 3 * 67456, 41753056 + 3 * 67456 - 225344),
    # SDA-xNet
    'imagenet/sda/resnet50_4xb64_in1k': 25557032,
    'imagenet/sda/sda_resnet50_4xb64_in1k': 27313576,
    'imagenet/sda/sda_resnet86_4xb64_in1k': 27219880,
    'imagenet/sda/se_resnet50_4xb64_in1k': 28088024,
    'imagenet/sda/se_resnet86_4xb64_in1k': 46346680,
    'imagenet/sda/se_resnet101_4xb64_in1k': 49326872,
    'imagenet/sda/sda_se_resnet86_4xb64_in1k': 49130808,
    'imagenet/sda/eca_resnet50_4xb64_in1k': 25557112,
    'imagenet/sda/gc_resnet50_4xb64_in1k': 28105032,
    'imagenet/sda/cbam_resnet50_4xb64_in1k': 28089624,
    'imagenet/sda/cbam_resnet86_4xb64_in1k': 46320864,
    'imagenet/sda/cbam_resnet101_4xb64_in1k': 49330172,
    'imagenet/sda/sda_cbam_resnet86_4xb64_in1k': 49104992,
    'faster_rcnn/faster_rcnn_r50_1x_coco': (41753056, 41527712),
    'faster_rcnn/faster_rcnn_se_r50_1x_coco': (44284048, 44033312),
    'faster_rcnn/faster_rcnn_se_r101_1x_coco': (65522896, 65272160),
    'faster_rcnn/faster_rcnn_sda_r86_1x_coco': (43411808, 43107232),
    'faster_rcnn/faster_rcnn_sda_se_r86_1x_coco': (65322736, 64814560),
    'mask_rcnn/mask_rcnn_r50_1x_coco': (44396336, 44170992),
    'mask_rcnn/mask_rcnn_se_r50_1x_coco': (46927328, 46676592),
    'mask_rcnn/mask_rcnn_se_r101_1x_coco': (68166176, 67915440),
    'mask_rcnn/mask_rcnn_sda_r86_1x_coco': (46055088, 45750512),
    'mask_rcnn/mask_rcnn_sda_se_r86_1x_coco': (67966016, 67457840),
    'imagenet/sda/epsa_resnet50_4xb64_in1k': 22561715,
    'imagenet/sda/epsa_resnet86_4xb64_in1k': 36607873,
    'imagenet/sda/epsa_resnet101_4xb64_in1k': 38900279,
    'imagenet/sda/sda_epsa_resnet86_4xb64_in1k': 39392001,
    'imagenet/sda/pyconv_resnet50_4xb64_in1k': 24847720,
    'imagenet/sda/pyconv_resnet86_4xb64_in1k': 40547048,
    'imagenet/sda/pyconvhg_resnet101_4xb64_in1k': 44627240,
    'imagenet/sda/sda_pyconv_resnet86_4xb64_in1k': 43331176,
    'imagenet/sda/res2_resnet50_4xb64_in1k': 25699120,
    'imagenet/sda/res2_resnet86_4xb64_in1k': 42470416,
    'imagenet/sda/res2_resnet101_4xb64_in1k': 45206688,
    'imagenet/sda/sda_res2_resnet86_4xb64_in1k': 45254544,
    'imagenet/sda/bl_resnet50_4xb64_in1k': 26694568,
    'imagenet/sda/scale_resnet50_4xb64_in1k': 31483618,
    'imagenet/sda/gsop_resnet50_4xb64_in1k': 28285224,
    'imagenet/sda/fca_resnet50_4xb64_in1k': 28071976,
    'imagenet/sda/a2_resnet50_4xb64_in1k': 32897064,
    'imagenet/sda/bam_resnet50_4xb64_in1k': 25915099,
    'imagenet/sda/sa_resnet50_4xb64_in1k': 25557740,
    'imagenet/sda/aa_resnet50_4xb64_in1k': 25813872,
    'faster_rcnn/faster_rcnn_epsa_r50_1x_coco': (38757739, 38561624),
    'faster_rcnn/faster_rcnn_fca_r50_1x_coco': (44018080 + 249920, 44018080),
    'faster_rcnn/faster_rcnn_res2_r50_1x_coco': (41895144, 41671552),
    'faster_rcnn/faster_rcnn_res2_r101_1x_coco': (61402712, 61179120),
    'faster_rcnn/faster_rcnn_sda_res2_r86_1x_coco': (61446472, 60978416),
    'mask_rcnn/mask_rcnn_epsa_r50_1x_coco': (41401019, 41204904),
    'mask_rcnn/mask_rcnn_fca_r50_1x_coco': (46661360 + 249920, 46661360),
    'mask_rcnn/mask_rcnn_res2_r50_1x_coco': (44538424, 44314832),
    'mask_rcnn/mask_rcnn_res2_r101_1x_coco': (64045992, 63822400),
    'mask_rcnn/mask_rcnn_sda_res2_r86_1x_coco': (64089752, 63621696),
    # DCANet's mobile rows
    'imagenet/dcanet/mnasnet1_0_8xb64_in1k': 4383312,
    'imagenet/dcanet/se_mnasnet1_0_8xb64_in1k': 4421688,
    'imagenet/dcanet/dca_se_mnasnet1_0_8xb64_in1k': 4478586 - 252,
    'imagenet/dcanet/ge_mnasnet1_0_8xb64_in1k': 4383312,
    'imagenet/dcanet/dca_ge_mnasnet1_0_8xb64_in1k': 4481136 - 507,
    'imagenet/dcanet/cbam_mnasnet1_0_8xb64_in1k': 4423288,
    'imagenet/dcanet/dca_cbam_mnasnet1_0_8xb64_in1k': 4557494 - 488,
    'imagenet/dcanet/mobilenet_v2_8xb64_in1k': 3504872,
    'imagenet/dcanet/se_mobilenet_v2_8xb64_in1k': 3563492,
    'imagenet/dcanet/dca_se_mobilenet_v2_8xb64_in1k': 3645086 - 594,
    'imagenet/dcanet/sk_mobilenet_v2_8xb64_in1k': 5277248,
    'imagenet/dcanet/dca_sk_mobilenet_v2_8xb64_in1k': 5911786 - 134,
    'imagenet/dcanet/ge_mobilenet_v2_8xb64_in1k': 3504872,
    'imagenet/dcanet/dca_ge_mobilenet_v2_8xb64_in1k': 3586483 - 595,
    'imagenet/dcanet/cbam_mobilenet_v2_8xb64_in1k': 3565192,
    'imagenet/dcanet/dca_cbam_mobilenet_v2_8xb64_in1k': 3646176 - 584,
    # ECA-Net's mobile row
    'imagenet/eca/eca_mobilenet_v2_8xb32_in1k': 3504903,
    # Coordinate Attention
    'imagenet/coordattention/mobilenet_v2_8xb32_in1k': 3504872,
    'imagenet/coordattention/se_mobilenet_v2_8xb32_in1k': 3888208,
    'imagenet/coordattention/cbam_mobilenet_v2_8xb32_in1k': 3889808,
    'imagenet/coordattention/ca_mobilenet_v2_8xb32_in1k': 3950648,
    'imagenet/coordattention/mobilenext_8xb32_in1k': 3535416,
    'imagenet/coordattention/se_mobilenext_8xb32_in1k': 3913557,
    'imagenet/coordattention/ca_mobilenext_8xb32_in1k': 4108336,
    # Four priors a cell on the first level, where the quoted network has 3.
    'ssdlite/ssdlite320_mbv1_coco': 5100661 + (512 + 1) * (81 + 4),
    'ssdlite/ssdlite320_mbv2_coco': 4304138,
    'ssdlite/ssdlite320_mbv3_large_coco': 5011962,
    'ssdlite/ssdlite320_mnas_a1_coco': 4917386,
    'ssdlite/ssdlite320_mbnext_coco': 4539418,
    'ssdlite/ssdlite320_se_mbv2_coco': 4701072,
    'ssdlite/ssdlite320_cbam_mbv2_coco': 4703072,
    'ssdlite/ssdlite320_ca_mbv2_coco': 4769978,
    'ssdlite/ssdlite320_mbv2_voc0712': 3425988,
    'ssdlite/ssdlite320_se_mbv2_voc0712': 3822922,
    'ssdlite/ssdlite320_cbam_mbv2_voc0712': 3824922,
    'ssdlite/ssdlite320_ca_mbv2_voc0712': 3891828,
    'deeplabv3/deeplabv3_mbv2_os16_voc12aug': 4523541,
    'deeplabv3/deeplabv3_se_mbv2_os16_voc12aug': 4906877,
    'deeplabv3/deeplabv3_cbam_mbv2_os16_voc12aug': 4908477,
    'deeplabv3/deeplabv3_ca_mbv2_os16_voc12aug': 4969317,
    'deeplabv3/deeplabv3_mbv2_os8_voc12aug': 4523541,
    'deeplabv3/deeplabv3_se_mbv2_os8_voc12aug': 4906877,
    'deeplabv3/deeplabv3_cbam_mbv2_os8_voc12aug': 4908477,
    'deeplabv3/deeplabv3_ca_mbv2_os8_voc12aug': 4969317,
    'deeplabv3/deeplabv3_mbv2_os8_cityscapes': 4523027,
    'deeplabv3/deeplabv3_se_mbv2_os8_cityscapes': 4906363,
    'deeplabv3/deeplabv3_cbam_mbv2_os8_cityscapes': 4907963,
    'deeplabv3/deeplabv3_ca_mbv2_os8_cityscapes': 4968803,
}
PUBLISHED = {f'configs/{name}.py': n for name, n in PUBLISHED.items()}


@functools.lru_cache(maxsize=None)
def read(path):
    return Config.fromfile(ROOT / path)


def build_without_numbers(cfg):
    """Names and shapes are enough, and come much faster."""
    with torch.device('meta'):
        return MODELS.build(cfg)


def load(path):
    cfg = copy.deepcopy(read(path))
    pytest.importorskip(cfg.default_scope)
    init_default_scope(cfg.default_scope)
    if 'data_preprocessor' in cfg:  # the Runner does the same
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return cfg


@pytest.mark.parametrize('path', CONFIGS)
def test_header_says_what_it_is(path):
    first = (ROOT / path).read_text().splitlines()[0]
    assert first.startswith('# ') and len(first) > 20


def test_every_published_row_is_a_config():
    assert set(PUBLISHED) <= set(CONFIGS)


@pytest.mark.config
@pytest.mark.parametrize('path', PUBLISHED)
def test_parameters_are_the_published_ones(path):
    parameters = list(build_without_numbers(load(path).model).parameters())
    expected = PUBLISHED[path]
    every, training = expected if isinstance(expected, tuple) else (
        expected, expected)
    assert sum(p.numel() for p in parameters) == every
    assert sum(p.numel() for p in parameters if p.requires_grad) == training


@pytest.mark.config
@pytest.mark.parametrize(
    'path', [path for path in CONFIGS if 'quickstart' not in path])
def test_batch_is_the_one_of_the_file_name(path):
    cfg = load(path)
    gpus, images = re.search(r'_(\d+)xb(\d+)_', path).groups() if (
        'xb' in path) else (8, 2)  # what mmdet's schedules are for
    if 'ssdlite' in path:  # the README of the released code
        gpus, images = (8, 32) if 'coco' in path else (4, 24)
    assert cfg.train_dataloader.batch_size == int(images)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(images)
    assert not cfg.auto_scale_lr.get('enable')


class OneLayer(BaseModel):
    """As little to train as the recipes can be told apart by."""

    def __init__(self):
        super().__init__(data_preprocessor=dict(type='BaseDataPreprocessor'))
        # Of two: one input and one output channel make it depthwise.
        self.conv = nn.Conv2d(2, 1, 1)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, inputs, mode):
        return dict(loss=self.bn(self.conv(inputs)).sum())


class Diary(Hook):
    """Writes down each iteration's learning rate, each epoch's mixup."""
    priority = 'VERY_LOW'

    def __init__(self):
        self.rates, self.augments = [], []

    def before_train_epoch(self, runner):
        self.augments.append(runner.model.data_preprocessor.batch_augments)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])


STEPS_30 = {0: 0.1, 29.5: 0.1, 30: 0.01, 60: 1e-3, 90: 1e-4, 99.5: 1e-4}
# Per recipe: iterations an epoch (of a recipe without epochs: how many of a
# thousand are run, and all it says of iterations becomes as much smaller), the
# learning rate after so many epochs (thousands), weight decay of (a weight, a
# bias, a norm), Nesterov, first epoch without mixup.
RECIPES = {
    'imagenet/dcanet/resnet50_8xb32_in1k':
    (2, STEPS_30, (1e-4, ) * 3, False, 0),
    'imagenet/eca/eca_resnet101_8xb32_in1k':
    (2, STEPS_30, (1e-4, ) * 3, False, 0),
    'imagenet/sda/cbam_resnet101_4xb64_in1k':
    (2, STEPS_30, (1e-4, ) * 3, False, 0),
    'imagenet/aff/eca_resnet101_8xb128_in1k':
    (2, {e: 4 * lr for e, lr in STEPS_30.items()}, (1e-4, ) * 3, False, 0),
    'imagenet/aff/lip_resnet101_8xb128_in1k':
    (2, {29.5: 0.4, 30: 0.04, 60: 4e-3, 79.5: 4e-3, 80: 4e-4, 89.5: 4e-4},
     (1e-4, ) * 3, False, 0),
    'imagenet/sda/bl_resnet50_4xb64_in1k':
    (2, {0: 0.1, 55: 0.05, 109.5: 2e-5}, (1e-4, ) * 3, True, 0),
    'imagenet/sda/fca_resnet50_4xb64_in1k':
    (4, {0: 0, 2.5: 0.05, 5: 0.1, 52.5: 0.05, 99.75: 0},
     (1e-4, ) * 3, False, 0),
    'imagenet/sda/gsop_resnet50_4xb64_in1k':
    (2, {e: lr * 256 / 384 for e, lr in STEPS_30.items() if e < 95}
     | {94.5: 1e-4 * 256 / 384}, (1e-4, ) * 3, False, 0),
    'imagenet/sda/epsa_resnet101_4xb64_in1k':
    (2, {29.5: 0.1, 30: 0.01, 60: 1e-3, 90: 1e-4, 119.5: 1e-4},
     (1e-4, ) * 3, False, 0),
    'imagenet/sda/pyconvhg_resnet101_4xb64_in1k':
    (2, {29.5: 0.1, 30: 0.01, 60: 1e-3, 79.5: 1e-3, 80: 1e-4, 89.5: 1e-4},
     (1e-4, ) * 3, False, 0),
    'imagenet/sda/sda_se_resnet86_4xb64_in1k':
    (2, {30.5: 0.1, 31: 0.01, 61: 1e-3, 91: 1e-4, 119.5: 1e-4},
     (1e-4, ) * 3, False, 0),
    'imagenet/aff/se_resnet101_8xb128_in1k':
    (4, {0: 0, 2.5: 0.075, 5: 0.15,
         122.5: 0.075, 239.75: 0}, (1e-4, 0, 0), True, 235),
    'cifar100/aff/aff_resnext38_32x4d_1xb128_cifar100':
    (2, {0: 0.1, 299.5: 0.1, 300: 0.01, 450: 1e-3, 639.5: 1e-3},
     (1e-4, ) * 3, True, 600),
    'retinanet/retinanet_se_r50_2x_coco':
    (50, {0: 0.01 / 3, 10: 0.01, 16: 1e-3, 22: 1e-4, 23.98: 1e-4},
     (1e-4, ) * 3, False, 0),
    'cascade_rcnn/cascade_rcnn_gc_r50_2x_coco':
    (50, {0: 0.02 / 3, 10: 0.02, 16: 2e-3, 22: 2e-4, 23.98: 2e-4},
     (1e-4, ) * 3, False, 0),
    'faster_rcnn/faster_rcnn_se_r50_1x_coco':
    (100, {0: 2e-5, 5: 0.02, 8: 2e-3, 11: 2e-4, 11.99: 2e-4},
     (1e-4, ) * 3, False, 0),
    'imagenet/dcanet/dca_se_mnasnet1_0_8xb64_in1k':
    (4, {0: 0, 2.5: 0.05, 5: 0.1, 77.5: 0.05, 149.75: 0},
     (4e-5, 0, 0), False, 0),
    'imagenet/coordattention/ca_mobilenext_8xb32_in1k':
    (2, {0: 0.05, 99.5: 0.025, 100: 0.025, 199.5: 0},
     (4e-5, ) * 3, False, 0),
    'imagenet/eca/eca_mobilenet_v2_8xb32_in1k':
    (2, {e: 0.12 * 0.98**int(e) for e in (0, 0.5, 34, 34.5, 399.5)},
     (4e-5, ) * 3, False, 0),
    'ssdlite/ssdlite320_ca_mbv2_coco':
    (10, {0: 0.08 / 3, 0.5: 0.08, 100: 0.04, 199.9: 0},
     (4e-5, ) * 3, False, 0),
    'ssdlite/ssdlite320_ca_mbv2_voc0712':
    (20, {0: 0.004 * 0.1333, 1: 0.004, 39.9: 0.004, 40: 4e-4, 49.9: 4e-4,
          50: 4e-5, 59.95: 4e-5}, (5e-4, ) * 3, False, 0),
    'deeplabv3/deeplabv3_ca_mbv2_os16_voc12aug':
    (40, {0: 0.007, 15: 0.007 * 0.5**0.9, 29.975: 0},
     (4e-5, ) * 3, False, 0),
    'deeplabv3/deeplabv3_mbv2_os8_cityscapes':
    (20, {0: 0.007, 45: 0.007 * 0.5**0.9, 89.95: 0},
     (4e-5, ) * 3, False, 0),
}


def shorten(cfg, factor):
    """Divide all that a recipe says of iterations."""
    cfg.train_cfg.max_iters //= factor
    cfg.train_cfg.val_interval //= factor
    for scheduler in cfg.param_scheduler:
        assert not scheduler.by_epoch
        for key in {'begin', 'end', 'T_max'} & set(scheduler):
            scheduler[key] //= factor
        if 'milestones' in scheduler:
            scheduler.milestones = [m // factor for m in scheduler.milestones]


@pytest.mark.config
@pytest.mark.parametrize('name', RECIPES)
def test_recipe_is_the_papers(name, tmp_path):
    iterations, rates, decay, nesterov, plain_from = RECIPES[name]
    cfg = load(f'configs/{name}.py')
    length = iterations
    if 'max_iters' in cfg.train_cfg:
        shorten(cfg, 1000 // iterations)
        length = cfg.train_cfg.max_iters  # mmengine sleeps where it repeats
    model = OneLayer()
    augments = cfg.model.get('train_cfg', {}).get('augments')
    model.data_preprocessor.batch_augments = augments
    quiet = dict.fromkeys(['logger', 'checkpoint', 'timer', 'sampler_seed'])
    diary = Diary()
    runner = Runner(
        model,
        str(tmp_path),
        train_dataloader=torch.utils.data.DataLoader(
            [dict(inputs=torch.ones(2, 1, 1))] * length * 2, 2),
        train_cfg=dict(cfg.train_cfg),
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        default_hooks=quiet,
        custom_hooks=[diary] + cfg.get('custom_hooks', []),
        default_scope=cfg.default_scope,
        log_level='WARNING',
        experiment_name=re.sub(r'\W', '_', str(tmp_path)))
    runner.train()

    for epoch, rate in rates.items():
        assert diary.rates[round(epoch * iterations)] == pytest.approx(
            rate, rel=0.06, abs=1e-5), epoch
    # The last of them is the last: the schedule is not longer.
    assert len(diary.rates) == round(max(rates) * iterations) + 1
    groups = {
        id(p): group
        for group in runner.optim_wrapper.param_groups for p in group['params']
    }
    parameters = (model.conv.weight, model.conv.bias, model.bn.weight)
    assert tuple(groups[id(p)]['weight_decay'] for p in parameters) == decay
    assert all(g['nesterov'] is nesterov and g['momentum'] == 0.9
               for g in groups.values())
    on = [augment is not None for augment in diary.augments]
    assert on == [e < plain_from for e in range(len(on))]


@pytest.mark.parametrize('name', [
    'dca_se_mobilenet_v2', 'dca_sk_mobilenet_v2', 'dca_cbam_mobilenet_v2',
    'dca_se_mnasnet1_0', 'cbam_mnasnet1_0'
])
def test_what_decays_in_dcanets_mobile_rows(name):
    """All but batch norms, biases and depthwise; layer norms' weights do."""
    cfg = load(f'configs/imagenet/dcanet/{name}_8xb64_in1k.py')
    model = build_without_numbers(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    decay = {id(p): g['weight_decay'] for g in groups for p in g['params']}
    for prefix, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            spared = (
                isinstance(module, nn.modules.batchnorm._BatchNorm)
                or key == 'bias' or getattr(module, 'groups', 1) > 1)
            assert decay[id(parameter)] == (0 if spared else 4e-5), (
                f'{prefix}.{key}')


def test_mobile_crops_are_the_papers():
    dcanet, ssdlite, deeplab = (
        load(f'configs/{name}.py') for name in (
            'imagenet/dcanet/mobilenet_v2_8xb64_in1k',
            'ssdlite/ssdlite320_mbv2_voc0712',
            'deeplabv3/deeplabv3_mbv2_os8_cityscapes'))
    crop = dcanet.train_dataloader.dataset.pipeline[1]
    assert crop.crop_ratio_range == (0.1, 1.0)
    for dataset in ssdlite.train_dataloader.dataset.datasets:
        assert [step.type for step in dataset.pipeline[2:6]] == [
            'PhotoMetricDistortion', 'Expand', 'MinIoURandomCrop',
            'RandomFlip']
        assert dataset.pipeline[4].min_ious == (0.1, 0.3, 0.7, 0.9)
        assert 'filter_cfg' not in dataset  # small boxes count, too
    resize = deeplab.train_dataloader.dataset.pipeline[2]
    assert [choice[0].scale_factor for choice in resize.transforms] == [
        0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]


def test_head_of_the_text_is_one_option_away():
    path = 'configs/_base_/deeplabv3_mbv2.py'
    lines = (ROOT / path).read_text().splitlines()
    comment = ' '.join(line[2:] for line in lines if line.startswith('#'))
    options = re.findall(r'(model\.[\w.]+)=(\S+)', comment)
    cfg = load('configs/deeplabv3/deeplabv3_mbv2_os16_voc12aug.py')
    cfg.merge_from_dict(
        {k: DictAction._parse_iterable(v.strip('".')) for k, v in options})
    model = build_without_numbers(cfg.model)
    assert sum(p.numel() for p in model.parameters()) == 4240661


def test_crops_smoothing_and_noise_are_the_papers():
    dcanet, sda, aff = (
        load(f'configs/imagenet/{name}_in1k.py') for name in (
            'dcanet/resnet50_8xb32', 'sda/resnet50_4xb64',
            'aff/aff_resnet50_8xb128'))
    crop = dcanet.train_dataloader.dataset.pipeline[1]
    assert crop.crop_ratio_range == (0.1, 1.0)
    assert crop.aspect_ratio_range == (0.8, 1.25)
    assert crop.backend == 'pillow'
    assert dcanet.model.head.loss.type == 'CrossEntropyLoss'
    for cfg in (sda, aff):
        assert cfg.model.head.loss.label_smooth_val == 0.1
    # Noise on white stays near white, not the other way round.
    from mmpretrain.registry import TRANSFORMS
    steps = aff.train_dataloader.dataset.pipeline[-3:-1]
    steps = [TRANSFORMS.build(step) for step in steps]
    set_random_seed(0)
    seen = []
    for _ in range(19):
        results = dict(img=np.full((5, 7, 3), 255, np.uint8))
        for step in steps:
            results = step(results)
        seen.append(results['img'])
    assert np.min(seen) > 200 and np.max(seen) > 255


def test_cifar_policy_is_the_one_torchvision_has():
    cfg = load('configs/cifar100/aff/aff_resnet32_1xb128_cifar100.py')
    ours = cfg.train_dataloader.dataset.pipeline[0].policies
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy
    theirs = AutoAugment(AutoAugmentPolicy.CIFAR10)
    strengths = theirs._augmentation_space(10, (32, 32))
    names = dict(Color='ColorTransform')
    directions = dict(X='horizontal', Y='vertical')
    assert len(ours) == len(theirs.policies)
    for pair, their_pair in zip(ours, theirs.policies):
        for step, (name, prob, level) in zip(pair, their_pair):
            step = dict(step)
            kind = names.get(name, name.rstrip('XY'))
            assert step.pop('type') == kind and step.pop('prob') == prob
            if name[-1] in directions:
                assert step.pop('direction') == directions[name[-1]]
            if level is None:
                assert not step
                continue
            strength = float(strengths[name][0][level])
            if kind == 'Translate':
                strength /= 32  # theirs in pixels, ours as a share
            assert list(step.values()) == [pytest.approx(strength, rel=0.01)]


def starts():
    """Detection configs, the ImageNet config of each, and its options."""
    for path in CONFIGS:
        text = (ROOT / path).read_text()
        if 'pretrained_backbone' in text:
            comment = text.split('pretrained_backbone')[0]
            # Quoted networks have none.
            for source in set(re.findall(r'configs/imagenet/\S+\.py',
                                         comment)):
                yield path, source, dict(
                    re.findall(r'(model\.backbone\.\S+)=(\d+)', comment))


@pytest.mark.config
@pytest.mark.parametrize('path, source, options', starts())
def test_the_named_imagenet_config_starts_the_detector(path, source, options):
    ours = build_without_numbers(load(path).model.backbone).state_dict()
    cfg = load(source)
    cfg.merge_from_dict({key: int(value) for key, value in options.items()})
    theirs = build_without_numbers(cfg.model.backbone).state_dict()
    if 'deeplabv3' in path:  # goes without the last convolution
        theirs = {
            k: v for k, v in theirs.items() if not k.startswith('conv2.')}
    assert {k: v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in theirs.items()}


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    datasets.make(root)
    return root


def let_it_speak(model_cfg):
    """Let an untrained detector find something, and not too much."""
    test_cfg = model_cfg.test_cfg
    test_cfg.get('rcnn', test_cfg).update(score_thr=0, max_per_img=7)
    if 'rpn' in test_cfg:
        test_cfg.rpn.max_per_img = 50
        model_cfg.train_cfg.rpn_proposal.max_per_img = 100


def train_one_step(model, cfg):
    loader = Runner.build_dataloader(cfg.train_dataloader)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    batch = next(iter(loader))
    assert len(batch['inputs']) == 2
    assert max(batch['inputs'][0].shape) <= max(datasets.SCALE)
    log = model.train_step(batch, optim_wrapper)
    assert log['loss'].isfinite()
    state = optim_wrapper.optimizer.state
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert torch.equal(parameter, before[name]), name
            continue
        assert parameter.isfinite().all(), name
        assert state[parameter], f'{name} got no gradient'
        # Behind what starts at zero, what starts at zero waits a step; most
        # vectors (biases) do.
        assert (parameter.dim() < 2 or not before[name].any()
                or not torch.equal(parameter, before[name])), (
                    f'{name} did not move')


def evaluate(model, cfg):
    loader = Runner.build_dataloader(cfg.val_dataloader)
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    model.eval()
    with torch.no_grad():
        for batch in loader:
            samples = model.val_step(batch)
            for sample in samples:
                scores = (
                    sample.pred_instances.scores if 'pred_instances' in sample
                    else sample.seg_logits.data if 'seg_logits' in sample
                    else sample.pred_score)
                assert len(scores) and scores.isfinite().all()
            evaluator.process(samples, batch)
    return evaluator.evaluate(len(loader.dataset))


# Theta-plus has kernels of the size of its maps; ScaleNet refuses maps too
# small for its pooling by 7.
FULL_SIZE = ('ge_theta_plus', 'scale_resnet50')


@pytest.mark.config
@pytest.mark.parametrize('path', CONFIGS)
def test_one_training_and_one_evaluation_step(path, data, monkeypatch):
    """The config's own pipelines, loss, optimizer and metrics."""
    set_random_seed(0)
    cfg = load(path)
    if any(name in path for name in FULL_SIZE):
        monkeypatch.setattr(datasets, 'SCALE', (224, 224))
    datasets.point(cfg, data)
    if cfg.default_scope == 'mmdet':
        cfg.model.backbone.init_cfg = None  # nothing is downloaded here
        let_it_speak(cfg.model)
        expected = ['coco/bbox_mAP', 'coco/bbox_mAP_50']
        if 'mask_head' in cfg.model.get('roi_head', {}):
            expected.append('coco/segm_mAP')
        if cfg.val_evaluator.type == 'VOCMetric':
            expected = ['pascal_voc/mAP', 'pascal_voc/AP50']
    elif cfg.default_scope == 'mmseg':
        cfg.model.backbone.init_cfg = None
        expected = ['mIoU', 'aAcc']
    else:
        datasets.accept_cifar100(data, monkeypatch)
        # Batch norms that see two vectors have steep gradients.
        cfg.optim_wrapper.clip_grad = dict(max_norm=1)
        expected = ['accuracy/top1']
    model = MODELS.build(cfg.model)
    model.init_weights()
    train_one_step(model, cfg)
    metrics = evaluate(model, cfg)
    for name in expected:
        assert 0 <= metrics[name] <= 100, metrics


def test_table_of_parts_is_what_is_registered():
    import importlib.util
    spec = importlib.util.spec_from_file_location(
        'list_parts', ROOT / 'tools' / 'list_parts.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / 'docs' / 'parts.md').read_text() == module.page(), (
        'run: python tools/list_parts.py > docs/parts.md')


def test_other_configs_inherit_ours(tmp_path):
    path = CONFIGS[0].replace('configs/', 'mmattn::', 1)
    (tmp_path / 'c.py').write_text(f'_base_ = {path!r}\nmine = 1')
    cfg = Config.fromfile(tmp_path / 'c.py')
    assert cfg.mine == 1
    assert cfg.model.backbone.type == 'mmattn.ResNet'
