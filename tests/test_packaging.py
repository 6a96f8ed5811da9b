"""What is shipped, what is installed beside it, and what an import does."""
import os
import re
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
# Python's audit names every use of a socket, by whichever library. urllib3 asks
# whether this machine has IPv6 by a socket of its own: that reaches nobody.
OFFLINE = """
import sys
attempts = []
def audit(event, args):
    if (event.startswith('socket.')
            and event not in ('socket.__new__', 'socket.bind')):
        attempts.append((event, args))
        raise PermissionError(f'{event} in a test without a network')
sys.addaudithook(audit)
"""
EVERYTHING = """
from importlib import import_module
from pathlib import Path
import mmattn
from mmattn.cli import main
root = Path(mmattn.__file__).parent
for path in sorted(root.rglob('[!_]*.py')):
    if '.mim' not in path.parts:
        parts = path.relative_to(root.parent).with_suffix('').parts
        import_module('.'.join(parts))
        print('.'.join(parts))
assert main(['list', 'sda_resnet86*']) == 0
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


def offline(code):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c',
         f'{OFFLINE}{code}\nsys.exit(str(attempts) if attempts else 0)'],
        capture_output=True, text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)))


@pytest.mark.config
def test_imports_and_the_command_need_no_network():
    for name in ('mmdet', 'mmseg', 'mmpretrain'):
        pytest.importorskip(name)
    done = offline(EVERYTHING)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    assert 'mmattn.segmentation.deeplab' in done.stdout
    assert 'sda_resnet86_4xb64_in1k ' in done.stdout


@pytest.mark.parametrize('attempt', [
    "socket.create_connection(('127.0.0.1', 9))",
    "socket.getaddrinfo('localhost', 9)",
    "urllib.request.urlopen('http://127.0.0.1:9')",
])
def test_an_attempt_counts_though_its_error_is_swallowed(attempt):
    done = offline('import socket, urllib.request\n'
                   f'try: {attempt}\nexcept Exception: pass')
    assert done.returncode == 1
    assert "('socket." in done.stderr


@pytest.mark.parametrize('requirements, constraints', [
    ('requirements.txt', 'tools/constraints.txt'),
    ('tools/requirements-openmmlab.txt', 'tools/constraints-openmmlab.txt')])
def test_every_version_is_exact_and_the_constraints_agree(
        requirements, constraints):
    def lines(path):
        found = (ROOT / path).read_text().splitlines()
        return [line for line in found if line[:1] not in '#-']

    names, held = [], lines(constraints)
    for line in lines(requirements):
        pin = re.fullmatch(r"([\w-]+)==[\w.]+(; python_version .+)?", line)
        assert pin, line
        names.append(pin[1])
        start = line.partition(';')[0]
        assert any(re.match(rf'{re.escape(start)}( ;|$)', one)
                   for one in held), f'{constraints} is older than {line}'
    assert {'torch', 'hypothesis', 'pip'} < set(names)
    link = os.path.relpath(ROOT / constraints, (ROOT / requirements).parent)
    assert f'-c {link}\n' in (ROOT / requirements).read_text()
    assert not [one for one in held if '==' not in one]
