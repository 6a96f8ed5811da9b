"""The commands and configs of README.md and docs/, run as they stand.

Every fenced ``shell`` or ``python`` block runs in its page's order, in a
folder with generated data, or says why not in the line above it:
``<!-- not run: REASON -->``. Below ``<!-- run with: DISTRIBUTION -->`` it runs
where that is installed. A python block that begins with a comment naming
a file, ``# folder/name.py``, is written to it; if it has a ``_base_`` its
model is built. So is that of a ``diff`` block, read as what it leads to.
"""
import os
import re
import shutil
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple, Optional

import datasets
import numpy as np
import pytest
import torch

import mmattn  # noqa: F401  (its configs and names resolve)

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
MARK = re.compile('<!-- (not run|run with):')
# Neither run nor marked: what a command prints, and drawings.
SHOWN = ('', 'text')

# What makes a training a matter of seconds: a narrow network, two steps. Added
# to the folder's copies of these configs.
SHRUNK = {
    'quickstart/mask_rcnn_sda_r50_toy.py': """
model['backbone'].update(base_channels=8)
model['neck'].update(in_channels=[32, 64, 128, 256])
train_cfg.update(max_iters=2, val_interval=2)
default_hooks['checkpoint'].update(interval=1)
default_hooks['logger'].update(interval=1)
""",
    'imagenet/eca/eca_resnet50_8xb32_in1k.py': """
model['backbone'].update(base_channels=8)
model['head'] = dict(in_channels=256)
train_cfg = dict(max_epochs=1)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = train_dataloader
""",
}
BUILD = """
import sys
import mmattn
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
cfg = Config.fromfile(sys.argv[1])
if 'data_preprocessor' in cfg:
    cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
with DefaultScope.overwrite_default_scope(cfg.default_scope):
    MODELS.build(cfg.model)
"""


class Block(NamedTuple):
    """A fenced block: where its text begins, and why it is not run."""
    line: int
    language: str
    text: str
    reason: Optional[str]

    @property
    def file(self) -> Optional[str]:
        """The file that a python block is the text of."""
        named = re.match(r'# ([\w./]+\.py)\n', self.text)
        return named[1] if self.language == 'python' and named else None


def why_not(mark, what):
    """Why a block with a mark is not run; None where it is."""
    if mark == 'not run':
        return what
    try:
        distribution(what)
    except PackageNotFoundError:
        return f'{what} is not installed'
    return None


def blocks(text):
    """The fenced blocks of a page; ValueError for what is none."""
    lines, found, start = text.splitlines(), [], None
    for number, line in enumerate(lines, 1):
        if MARK.match(line) and not (
                number < len(lines) and lines[number].startswith('```')):
            raise ValueError(f'line {number}: a mark without a block')
        if not line.lstrip().startswith('```'):
            continue
        if not line.startswith('```'):
            raise ValueError(f'line {number}: an indented fence is not read')
        if start is None:
            start = number
            continue
        language = lines[start - 1][3:].strip()
        if language not in (*SHOWN, 'shell', 'python', 'diff'):
            raise ValueError(f'line {start}: {language!r} would not be run; '
                             'write shell, python, diff or text')
        above, reason = lines[start - 2] if start > 1 else '', None
        if MARK.match(above):
            mark = re.fullmatch(f'{MARK.pattern} (.+) -->', above)
            if mark is None:
                raise ValueError(f'line {start - 1}: a mark without a reason')
            reason = why_not(*mark.groups())
        body = ''.join(f'{one}\n' for one in lines[start:number - 1])
        found.append(Block(start + 1, language, body, reason))
        start = None
    if start is not None:
        raise ValueError(f'line {start}: a fence without an end')
    return found


def to_run(page):
    return [b for b in blocks(page.read_text(encoding='utf-8'))
            if b.reason is None and b.language in ('shell', 'python', 'diff')]


def config_of(diff):
    """The config that a diff leads to."""
    kept = [line for line in diff.splitlines() if not line.startswith('-')]
    return ''.join(f'{line[1:]}\n' for line in kept)


# -- the folder ------------------------------------------------------------


def save_published(path, name):
    """A file of the authors' layout with numbers of ours."""
    from test_checkpoints import published
    torch.save({
        key: torch.rand(shape) if shape else torch.tensor(1)
        for key, shape in published(name)['shapes'].items()
    }, path)


def make_box(box, page):
    """What a page's commands find: the tools, small data, weights."""
    for name in ('mmattn', 'tools'):
        (box / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / 'configs', box / 'configs')
    for config, lines in SHRUNK.items():
        path = box / 'configs' / config
        path.write_text(path.read_text() + lines)
    text = ''.join(b.text for b in to_run(page))
    data = box / 'data'
    for layout in (datasets.coco, datasets.imagenet, datasets.toy):
        name = layout.__name__
        if f'make_toy_dataset.py data/{name}' not in text:
            layout(data / name, np.random.default_rng(0))
    if 'sdanet86.pth' in text:
        save_published(box / 'sdanet86.pth', 'sda__sda_resnet86')
    (box / 'bin').mkdir()
    for name, start in (('python', ''), ('mmattn', ' -m mmattn')):
        command = box / 'bin' / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable}{start} "$@"\n')
        command.chmod(0o755)


def environment(box):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    return dict(
        os.environ,
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1',
        PATH=f'{box / "bin"}:{os.environ["PATH"]}',
        PORT=str(port),
        PYTHONPATH=str(ROOT))


def run(box, block):
    """Run a block, or write its file; returns what it printed."""
    target, built = block.file, block.language == 'diff'
    if built:
        target = f'of_line_{block.line}.py'
        (box / target).write_text(config_of(block.text))
    elif target:
        (box / target).parent.mkdir(parents=True, exist_ok=True)
        (box / target).write_text(block.text)
        built = '_base_ = ' in block.text
    if built:
        command = [sys.executable, '-c', BUILD, target]
    elif target:
        return ''
    elif block.language == 'python':
        (box / 'block.py').write_text(block.text)
        command = [sys.executable, 'block.py']
    else:
        command = ['bash', '-euo', 'pipefail', '-c', block.text]
    done = subprocess.run(
        command, cwd=box, env=environment(box), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, (f'line {block.line}:\n{block.text}\n'
                                  f'{done.stdout[-4000:]}')
    return done.stdout


# -- the tests -------------------------------------------------------------


def name(page):
    """What a page is called in the names of tests."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_every_block_is_run_or_says_why(page):
    blocks(page.read_text(encoding='utf-8'))


def prose(page):
    """A page without its blocks."""
    text = page.read_text(encoding='utf-8')
    return re.sub(r'^```.*?^```', '', text, flags=re.S | re.M)


def anchors(page):
    """What its headings are called in links, as GitHub has it."""
    headings = re.findall(r'^#+ (.*)$', prose(page), flags=re.M)
    return [re.sub(r'[^\w\- ]', '', one).lower().replace(' ', '-')
            for one in headings]


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in re.findall(r'\]\(([^)]+)\)', prose(page)):
        if '://' in link:
            continue
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.config
@pytest.mark.parametrize('page', [p for p in PAGES if to_run(p)], ids=name)
def test_page_runs(page, tmp_path):
    make_box(tmp_path, page)
    for block in to_run(page):
        run(tmp_path, block)


@pytest.mark.config
def test_a_swap_in_mmpose(tmp_path):
    """What docs/swap.md says of it; mmpose is no requirement of ours."""
    testing = pytest.importorskip('mmpose.testing')
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope
    path = tmp_path / 'pose.py'
    path.write_text(
        "_base_ = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/"
        "td-hm_res50_8xb64-210e_coco-256x192.py'\n"
        "model = dict(backbone=dict(type='mmattn.ResNet', init_cfg=None,\n"
        "    attention=dict(type='SE', gate_init='identity')))\n")
    cfg = Config.fromfile(path)
    init_default_scope('mmpose')
    model = MODELS.build(cfg.model)
    batch = model.data_preprocessor(
        testing.get_packed_inputs(2, img_shape=(256, 192),
                                  input_size=(192, 256),
                                  heatmap_size=(48, 64)), True)
    model(**batch, mode='loss')['loss_kpt'].backward()
    assert all(p.grad is not None for p in model.parameters())
    sample, _ = model.eval()(**batch, mode='predict')
    assert sample.pred_instances.keypoints.shape == (1, 17, 2)


@pytest.mark.parametrize('text, words', [
    ('```bash\nls\n```\n', "line 1: 'bash' would not be run"),
    ('- a\n  ```shell\n  ls\n  ```\n', 'line 2: an indented fence'),
    ('```shell\nls\n', 'line 1: a fence without an end'),
    ('<!-- not run: four GPUs -->\n\n```shell\n```', 'line 1: a mark without'),
    ('<!-- not run: -->\n```shell\n```', 'line 1: a mark without a reason'),
])
def test_what_is_no_block(text, words):
    with pytest.raises(ValueError, match=words):
        blocks(text)


def test_a_block_and_its_reason():
    text = 'a\n<!-- not run: Slurm -->\n```shell\nsrun a\n```\n```python\n```'
    marked, plain = blocks(text)
    assert marked == Block(4, 'shell', 'srun a\n', 'Slurm')
    assert plain.reason is None and plain.file is None


def test_a_block_that_needs_a_distribution():
    text = '<!-- run with: {} -->\n```shell\nls\n```\n'
    assert blocks(text.format('torch'))[0].reason is None
    assert blocks(text.format('no-such'))[0].reason == (
        'no-such is not installed')


def test_a_block_that_fails_is_seen(tmp_path):
    (tmp_path / 'bin').mkdir()
    run(tmp_path, Block(1, 'python', '# a/b.py\nX = 3\n', None))
    block = 'from a.b import X\nassert X == 3\nprint(X)\n'
    assert run(tmp_path, Block(1, 'python', block, None)) == '3\n'
    with pytest.raises(AssertionError, match='line 7'):
        run(tmp_path, Block(7, 'shell', 'false\ntrue\n', None))
    with pytest.raises(AssertionError, match='line 9'):
        run(tmp_path, Block(9, 'python', 'raise SystemExit(1)\n', None))


def test_the_config_of_a_diff():
    diff = " _base_ = 'a.py'\n-x = 1\n+x = 2\n"
    assert config_of(diff) == "_base_ = 'a.py'\nx = 2\n"
