"""A small MobileNetV2 with coordinate attention, trained here, in int8.

``pytest tests/test_quantize.py -s`` prints the figures of docs/export.md.
"""
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmattn.backbones import MobileNetV2
from mmattn.export import ExportError
from mmattn.export.quantize import accuracy, quantize, save, weights_size

ROOT = Path(__file__).parents[1]
CLASSIFIER = (ROOT / 'configs/imagenet/coordattention' /
              'ca_mobilenet_v2_8xb32_in1k.py')
needs_torchao = pytest.mark.skipif(
    importlib.util.find_spec('torchao') is None,
    reason='torchao is not installed (torch 2.6 or newer)')


class Classifier(nn.Module):

    def __init__(self, widen_factor=0.35):
        super().__init__()
        self.backbone = MobileNetV2(
            widen_factor,
            attention=dict(type='CoordAttention'),
            out_indices=(6, ))
        self.fc = nn.Linear(self.backbone.layer7[-1].out_channels, 4)

    def forward(self, x):
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def waves(number, seed):
    """Images with waves in one of four directions, below as much noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (number, ), generator=generator)
    x = torch.randn(number, 3, 33, 49, generator=generator)
    down, right = torch.arange(33.)[:, None], torch.arange(49.)
    kinds = torch.stack([
        (0.9 * down + 0 * right).sin(), (0 * down + 0.9 * right).sin(),
        (0.7 * (down + right)).sin(), (0.7 * (down - right)).sin()
    ])
    return x + kinds[labels][:, None], labels


def trained(steps=60):
    net = Classifier().train()
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, steps)
    for step in range(steps):
        x, labels = waves(32, step)
        loss = F.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return net.eval()


@needs_torchao
@pytest.mark.config
def test_mobilenet_v2_with_coordinate_attention(tmp_path):
    net = trained()
    small = quantize(net, [waves(16, 500 + i)[0] for i in range(4)])
    test = [waves(64, 1000 + i) for i in range(4)]
    right = accuracy(net, test), accuracy(small, test)
    sizes = weights_size(net), weights_size(small)
    files = (save(net, test[0][0][:2], tmp_path / 'net.pt2'),
             save(small, test[0][0][:2], tmp_path / 'small.pt2'))
    for row in zip(('float32', 'int8'), right, sizes, files):
        print('\n%s: %.1f %% right, weights %.2f MB, file %.2f MB' % row)
    assert right[0] > 95
    assert right[1] > right[0] - 5
    assert sizes[1] < 0.4 * sizes[0]
    convs = [n for n in small.graph.nodes
             if n.target is torch.ops.aten.conv2d.default]
    assert len(convs) == sum(
        isinstance(module, nn.Conv2d) for module in net.modules())
    assert all('dequantize' in str(conv.args[i].target)
               for conv in convs for i in (0, 1))
    # The file is the network.
    again = torch.export.load(str(tmp_path / 'small.pt2')).module()
    x = test[1][0][:5]
    with torch.no_grad():
        assert torch.equal(again(x), small(x))
        assert not torch.equal(small(x), net(x))


@needs_torchao
@pytest.mark.parametrize('images,found', [([], 0), ([1], 1)])
def test_calibration_needs_images(images, found):
    with pytest.raises(ExportError, match=f'two images or more, got {found}'):
        quantize(nn.Conv2d(3, 1, 1),
                 [torch.randn(n, 3, 5, 7) for n in images])


def test_a_missing_library(monkeypatch):
    monkeypatch.setattr('mmattn.export.quantize.find_spec', lambda name: None)
    with pytest.raises(ExportError, match='needs torchao.*pip install'):
        quantize(nn.Conv2d(3, 1, 1), [])


def test_accuracy():
    scores = torch.tensor([[0., 1.], [1., 0.], [2., 3.]])
    data = [(scores, torch.tensor([1, 1, 1])),
            (scores[:1], torch.tensor([1]))]
    assert accuracy(lambda x: x, data) == 75
    with pytest.raises(ExportError, match='no image'):
        accuracy(lambda x: x, [])


def test_weights_size():
    assert weights_size(nn.Linear(10, 20)) == pytest.approx(880e-6)


def load_tool():
    spec = importlib.util.spec_from_file_location(
        'quantize_tool', ROOT / 'tools' / 'quantize.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('options,words', [
    (['-o', 'net.onnx'], 'must end in .pt2'),
    (['-o', 'nowhere/net.pt2'], 'nowhere is not a folder'),
    (['-o', 'net.pt2', '--batch-size', '1'], 'must be 2 or more'),
])
def test_what_the_command_refuses(options, words, capsys):
    with pytest.raises(SystemExit):
        load_tool().parse_args(['a.py', 'b.pth', '--data', '.', *options])
    assert words in capsys.readouterr().err


TINY = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmattn.ResNet', depth=(1, 1, 1, 1), base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=256))
data = dict(
    type='CustomDataset', data_root='nowhere',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=33),
              dict(type='PackInputs')])
train_dataloader = dict(dataset=dict(data, data_prefix='train'))
test_dataloader = dict(dataset=dict(data, data_prefix='val'))
"""


@pytest.fixture
def tiny(tmp_path):
    """A config, and a folder with two classes of two images."""
    pytest.importorskip('mmpretrain')
    (tmp_path / 'tiny.py').write_text(TINY)
    for name in ('a/1.png', 'a/2.png', 'b/3.png', 'b/4.png'):
        for split in ('train', 'val'):
            path = tmp_path / 'data' / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((35, 51, 3), 9, np.uint8))
    return tmp_path


def refuse(tiny, words, checkpoint='random', data='data'):
    with pytest.raises(SystemExit,
                       match=f'(?s)quantize.py: error: .*{words}'):
        load_tool().main([
            str(tiny / 'tiny.py'), checkpoint, '--data', str(tiny / data),
            '-o', str(tiny / 'net.pt2')])
    assert not list(tiny.glob('*.pt2'))


def test_checkpoints_that_cannot_be_used(tiny):
    torch.save(dict(state_dict=Classifier().state_dict()), tiny / 'other.pth')
    refuse(tiny, 'other.pth does not fit the model of .*tiny.py',
           str(tiny / 'other.pth'))
    (tiny / 'bad.pth').write_bytes(b'no checkpoint')
    refuse(tiny, 'cannot be read as a checkpoint', str(tiny / 'bad.pth'))


def test_data_that_cannot_be_used(tiny):
    words = 'the data of .*tiny.py cannot be read .*with --data'
    refuse(tiny, words, data='nowhere')
    for split in ('train', 'val'):
        (tiny / 'empty' / split / 'a').mkdir(parents=True)
    refuse(tiny, words, data='empty')
    path = tiny / 'data/train/b/3.png'
    path.write_bytes(path.read_bytes()[:-9])
    refuse(tiny, '3.png: the image is truncated')
    path.write_bytes(b'no image')
    refuse(tiny, '3.png: .* cannot read it as an image')


@needs_torchao
@pytest.mark.config
def test_the_command(tmp_path, capsys):
    pytest.importorskip('mmpretrain')
    from datasets import imagenet
    imagenet(tmp_path / 'imagenet', np.random.default_rng(0))
    out = tmp_path / 'net.pt2'
    load_tool().main([
        str(CLASSIFIER), 'random', '--data', str(tmp_path / 'imagenet'), '-o',
        str(out)])
    text = capsys.readouterr().out
    assert 'of 2 images right' in text
    assert 'this accuracy means nothing' in text
    assert out.is_file()
    assert [p.name for p in tmp_path.iterdir()
            if p.suffix == '.pt2'] == ['net.pt2']
