"""The wheel holds the configs and tools, and the command."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmattn

ROOT = Path(mmattn.__file__).resolve().parents[1]
USE = """
import sys
from importlib.metadata import entry_points
from mmengine.config import Config
import mmattn
cfg = Config.fromfile('mine.py')
script, = [e for e in entry_points(group='console_scripts')
           if e.name == 'mmattn']
assert script.load()(['list', 'sda_resnet86*']) == 0
print(mmattn.__file__, cfg.model.backbone.type, sep='\\n')
"""


def run(*argv, **kwargs):
    done = subprocess.run(argv, capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.config
def test_a_wheel_resolves_configs_and_runs_the_command(tmp_path):
    setuptools = pytest.importorskip('setuptools', '77')
    assert setuptools
    tree, target = tmp_path / 'tree', tmp_path / 'target'
    tree.mkdir()
    for name in ('mmattn', 'configs', 'tools'):
        shutil.copytree(ROOT / name, tree / name, symlinks=True,
                        ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'README.md', 'LICENSE', 'model-index.yml'):
        shutil.copy(ROOT / name, tree)
    pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
    run(*pip, 'wheel', '--no-build-isolation', '--no-deps', '-w', tmp_path,
        tree)
    wheel, = tmp_path.glob('*.whl')
    run(*pip, 'install', '--no-deps', '--no-index', '--target', target, wheel)

    inside = target / 'mmattn' / '.mim'
    assert not any(p.is_symlink() for p in inside.rglob('*'))
    for name in ('configs', 'tools'):
        files = {p.relative_to(ROOT / name)
                 for p in (ROOT / name).rglob('*')
                 if p.is_file() and '__pycache__' not in p.parts}
        assert files == {p.relative_to(inside / name)
                         for p in (inside / name).rglob('*') if p.is_file()
                         and '__pycache__' not in p.parts}

    work = tmp_path / 'work'
    work.mkdir()
    (work / 'mine.py').write_text(
        "_base_ = 'mmattn::imagenet/sda/sda_resnet86_4xb64_in1k.py'")
    pytest.importorskip('mmpretrain')
    *listed, file, kind = run(
        sys.executable, '-W', 'ignore', '-c', USE, cwd=work,
        env=dict(os.environ, PYTHONPATH=str(target)))
    assert listed[0].startswith('sda_resnet86_4xb64_in1k ')
    assert Path(file).is_relative_to(target)
    assert kind == 'mmattn.ResNet'
    assert (target / 'bin' / 'mmattn').exists()
