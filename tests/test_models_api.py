"""mmattn.list_models, get_model, and our models in mmpretrain."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

import mmattn
from mmattn import models
from mmattn.checkpoints import CheckpointError

ROOT = Path(mmattn.__file__).resolve().parents[1]
SMALL = {'model.backbone.base_channels': 8, 'model.head.in_channels': 256}
SMALL_NAME = 'eca_resnet50_8xb32_in1k'

CONFIG = """# Paper, table 1: A net of v1.5 form. Published 3 M.
# More.
default_scope = 'mmengine'
"""


@pytest.fixture
def own_configs(tmp_path, monkeypatch):
    """Configs of our own in the place of the project's."""
    for name in ('_base_/base.py', 'b/two.py', 'a/one_net.py'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(CONFIG)
    monkeypatch.setattr(models, 'CONFIGS', tmp_path)
    return tmp_path


def test_import_is_free_of_toolboxes_and_offers_three_functions():
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', """
import sys, mmattn
assert 'mmattn.models' not in sys.modules
assert mmattn.list_models('*toy*') == ['mask_rcnn_sda_r50_toy']
assert not {'mmdet', 'mmseg', 'mmpretrain'} & set(sys.modules)
"""], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(callable(getattr(mmattn, name)) for name in mmattn.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        mmattn.nope


def test_every_config_is_listed_once_by_its_stem():
    stems = [path.stem for path in (ROOT / 'configs').glob('**/*.py')
             if '_base_' not in path.parts]
    assert mmattn.list_models() == sorted(stems)
    assert len(set(stems)) == len(stems)


def test_pattern_and_order(own_configs):
    assert mmattn.list_models() == ['one_net', 'two']
    assert mmattn.list_models('*net') == ['one_net']
    assert mmattn.list_models('net') == []


def test_two_files_of_one_name_are_refused(own_configs):
    (own_configs / 'a/two.py').write_text('')
    with pytest.raises(RuntimeError, match='same name; rename one'):
        mmattn.list_models()


def test_no_configs_is_an_installation_gone_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(models, 'CONFIGS', tmp_path / 'nowhere')
    with pytest.raises(RuntimeError, match='install mmattn again'):
        mmattn.list_models()


def test_about_is_the_first_sentence_of_the_header(own_configs):
    assert models.about(own_configs / 'b/two.py') == (
        'Paper, table 1: A net of v1.5 form')


def test_model_comes_from_the_config_with_options():
    pytest.importorskip('mmpretrain')
    model = mmattn.get_model(SMALL_NAME, cfg_options=SMALL)
    assert not model.training
    assert model.backbone.layer1[0].attention.conv.kernel_size == (3, )
    assert model.data_preprocessor.mean.flatten().tolist() == [
        pytest.approx(v) for v in (123.675, 116.28, 103.53)]
    assert model(torch.zeros(1, 3, 65, 97)).shape == (1, 1000)


def test_weights_come_from_a_file_that_fits(tmp_path):
    pytest.importorskip('mmpretrain')
    path = str(tmp_path / 'net.pth')
    model = mmattn.get_model(SMALL_NAME, cfg_options=SMALL)
    torch.save(dict(state_dict=model.state_dict()), path)
    again = mmattn.get_model(SMALL_NAME, path, SMALL)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name

    weights = model.state_dict()
    del weights['head.fc.bias']
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match=r'(?s)fit.*head\.fc\.bias'):
        mmattn.get_model(SMALL_NAME, path, SMALL)
    torch.save(model.state_dict()['head.fc.bias'], path)
    with pytest.raises(CheckpointError, match='no weights by name: Tensor'):
        mmattn.get_model(SMALL_NAME, path, SMALL)


def test_a_file_that_names_code_is_not_loaded(tmp_path):
    pytest.importorskip('mmpretrain')
    path = str(tmp_path / 'net.pth')
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(CheckpointError, match='was not read'):
        mmattn.get_model(SMALL_NAME, path, SMALL)


def test_weights_that_nobody_hands_out_are_an_error():
    with pytest.raises(CheckpointError) as error:
        mmattn.get_model('sda_resnet86_4xb64_in1k', pretrained=True)
    for part in ('SDA-xNet, table 1', 'tools/convert_checkpoint.py',
                 'imagenet/sda/sda_resnet86_4xb64_in1k.py'):
        assert part in str(error.value)


def test_an_unknown_name_is_told_what_is_near():
    with pytest.raises(ValueError, match='near it: sda_resnet86_4xb64_in1k;?'):
        mmattn.get_model('sda_resnet86')
    with pytest.raises(ValueError, match="no model 'nope'. mmattn.list_mod"):
        mmattn.get_model('nope')


def test_our_classifiers_are_among_those_of_mmpretrain(monkeypatch):
    mmpretrain = pytest.importorskip('mmpretrain')
    from mmpretrain.apis import ModelHub
    mmpretrain.list_models()  # its own are read once, not into what follows
    monkeypatch.setattr(ModelHub, '_models_dict', {})
    monkeypatch.setattr(CheckpointLoader, '_schemes',
                        dict(CheckpointLoader._schemes))
    names = mmattn.register_models()
    assert mmattn.register_models() == names
    ours = [name for name in mmpretrain.list_models('mmattn_')]
    assert ours == sorted(names)
    assert 'mmattn_sda_resnet86_4xb64_in1k' in ours
    assert not [name for name in ours if 'rcnn' in name]
    assert ours == mmpretrain.list_models(
        'mmattn_', task='Image Classification')
    name = f'mmattn_{SMALL_NAME}'
    model = mmpretrain.get_model(
        name, backbone=dict(base_channels=8), head=dict(in_channels=256))
    assert type(model.backbone).__module__ == 'mmattn.backbones.resnet'
    with pytest.raises(CheckpointError, match='convert_checkpoint.py'):
        mmpretrain.get_model(name, pretrained=True,
                             backbone=dict(base_channels=8),
                             head=dict(in_channels=256))
