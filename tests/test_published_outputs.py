"""Published networks against outputs that their authors' code gave.

``data/published/outputs/NAME.npz`` holds what the published implementation
printed in float64 on the deterministic weights and image below (stored as
float32). Weights go the way of a user: through tools/convert_checkpoint.py.
"""
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = Path(__file__).parent / 'data' / 'published'
NETWORKS = [('sda__sda_resnet86',
             'configs/imagenet/sda/sda_resnet86_4xb64_in1k.py')]


def tensor_for(key, shape):
    """The tensor that the record was made with, from its name alone."""
    rng = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    leaf = key.rsplit('.', 1)[-1]
    if leaf == 'num_batches_tracked':
        return torch.zeros(shape, dtype=torch.long)
    if leaf == 'running_var' or (leaf == 'weight' and len(shape) <= 1):
        values = rng.uniform(0.8, 1.2, shape)
    elif leaf == 'running_mean' or len(shape) <= 1:
        values = rng.standard_normal(shape) * 0.05
    else:
        values = rng.standard_normal(shape) * np.prod(shape[1:])**-0.5
    return torch.from_numpy(np.asarray(values, np.float32).reshape(shape))


@pytest.mark.config
@pytest.mark.parametrize('name, config', NETWORKS)
def test_converted_network_gives_the_published_outputs(name, config, tmp_path):
    pytest.importorskip('mmpretrain')
    shapes = json.loads((PUBLISHED / f'{name}.json').read_text())['shapes']
    weights = {key: tensor_for(key, shape) for key, shape in shapes.items()}
    torch.save(dict(state_dict=weights), tmp_path / 'published.pth')
    subprocess.run([
        sys.executable, ROOT / 'tools' / 'convert_checkpoint.py',
        tmp_path / 'published.pth', tmp_path / 'ours.pth', '--config',
        ROOT / config
    ], check=True)

    cfg = Config.fromfile(ROOT / config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).double().eval()
    ours = torch.load(tmp_path / 'ours.pth', weights_only=True)
    model.load_state_dict(ours['state_dict'])
    image = np.random.RandomState(0).standard_normal((1, 3, 224, 224))
    image = torch.from_numpy(image.astype(np.float32)).double()
    with torch.no_grad():
        logits = model(image, mode='tensor')

    record = np.load(PUBLISHED / 'outputs' / f'{name}.npz')['logits']
    record = torch.from_numpy(record).double()
    error = (logits - record).abs().max() / record.abs().max()
    assert error < 1e-6, f'relative error {error:.2e}'
