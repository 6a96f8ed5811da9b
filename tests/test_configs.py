"""Every config: parses, builds, has the published size, trains a step."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from samples import batch, boxes, label

import mmattn

ROOT = Path(mmattn.__file__).resolve().parents[1]
CONFIGS = sorted(
    str(path.relative_to(ROOT)) for path in ROOT.glob('configs/**/*.py')
    if '_base_' not in path.parts)

# All parameters, and those that train: measured on the authors' released
# code, with 80 classes (COCO) or 1000 (ImageNet).
PUBLISHED = {
    'configs/faster_rcnn/faster_rcnn_sda_r86_1x_coco.py':
    (43411808, 43107232),
    'configs/mask_rcnn/mask_rcnn_sda_r86_1x_coco.py': (46055088, 45750512),
    'configs/imagenet/sda/sda_resnet86_4xb64_in1k.py': (27219880, 27219880),
    'configs/imagenet/sda/sda_resnet50_4xb64_in1k.py': (27313576, 27313576),
}


def build(path):
    cfg = Config.fromfile(ROOT / path)
    init_default_scope(cfg.default_scope)
    pytest.importorskip(cfg.default_scope)
    if 'data_preprocessor' in cfg:  # the Runner does the same
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return cfg, MODELS.build(cfg.model)


@pytest.mark.parametrize('path', CONFIGS)
def test_header_says_what_it_is(path):
    first = (ROOT / path).read_text().splitlines()[0]
    assert first.startswith('# ') and len(first) > 20


def test_every_published_row_is_a_config():
    assert set(PUBLISHED) <= set(CONFIGS)


@pytest.mark.parametrize('path', PUBLISHED)
def test_parameters_are_the_published_ones(path):
    parameters = list(build(path)[1].parameters())
    assert PUBLISHED[path] == (
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad))


@pytest.mark.config
@pytest.mark.parametrize('path', CONFIGS)
def test_one_training_and_one_evaluation_step(path):
    cfg, model = build(path)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    if cfg.default_scope == 'mmdet':
        num_classes = model.roi_head.bbox_head.num_classes
        data = batch(lambda: boxes(num_classes, model.with_mask))
    else:
        data = batch(lambda: label(model.head.num_classes))
    model.train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    log = model.train_step(data, optim_wrapper)
    assert torch.isfinite(log['loss'])
    still = [
        n for n, p in model.named_parameters()
        if p.requires_grad and 'depth_fusion' in n and 'bias' not in n
        and torch.equal(p, before[n])
    ]
    # Behind projections that start at zero nothing moves in the first step.
    assert all('squeeze' in n or 'norm' in n for n in still), still
    model.eval()
    with torch.no_grad():
        results = model.test_step(data)
    assert len(results) == 2
    if cfg.default_scope == 'mmdet':
        found = results[0].pred_instances
        assert len(found.bboxes) == len(found.scores)
        assert not model.with_mask or found.masks.shape[1:] == (65, 97)
    else:
        assert results[0].pred_score.shape == (1000, )


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
