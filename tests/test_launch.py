"""What tools/train.py, tools/test.py and the shell scripts decide."""
import importlib.util
import os
import stat
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import CheckpointHook
from mmengine.model import MMDistributedDataParallel
from torch import nn

from mmattn.engine.launch import (UsageError, load_config, lr_warning,
                                  make_parser, prepare_cpu, revert_sync_bn,
                                  wrapper_for_cpu)

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
SCRIPTS = ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh')


def load_tool(name):
    """Import ``tools/<name>.py``, which is in no package."""
    spec = importlib.util.spec_from_file_location(
        f'tools_{name}', TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train = load_tool('train')
test = load_tool('test')


@pytest.fixture(autouse=True)
def local_rank(monkeypatch):
    """Keep what load_config writes out of the environment of other tests."""
    monkeypatch.setenv('LOCAL_RANK', '0')


# -- config ----------------------------------------------------------------


def read(tmp_path, text, *arguments):
    path = tmp_path / 'net_r50.py'
    path.write_text(f"{text}\nmodel = dict(type='M')")
    return load_config(make_parser('').parse_args([str(path), *arguments]))


def test_work_dir_of_command_line_then_config_then_name(tmp_path):
    assert read(tmp_path, 'a = 1').work_dir == 'work_dirs/net_r50'
    assert read(tmp_path, 'work_dir = None').work_dir == 'work_dirs/net_r50'
    assert read(tmp_path, 'work_dir = "b"').work_dir == 'b'
    assert read(tmp_path, 'work_dir = "b"', '--work-dir', 'c',
                '--cfg-options', 'work_dir=d').work_dir == 'c'


def test_deterministic_runs_have_a_cublas_workspace(tmp_path, monkeypatch):
    name = 'CUBLAS_WORKSPACE_CONFIG'
    # Set first, so that what load_config writes is taken back.
    monkeypatch.setenv(name, 'x')
    monkeypatch.delenv(name)
    read(tmp_path, 'randomness = dict(seed=0)')
    assert name not in os.environ
    for own in (':4096:8', ':16:8'):
        read(tmp_path, 'randomness = dict(deterministic=True)')
        assert os.environ[name] == own
        monkeypatch.setenv(name, ':16:8')


def test_cfg_options_replace_entries(tmp_path):
    cfg = read(tmp_path, 'a = dict(b=1, c=2)', '--cfg-options', 'a.b=[3,4]')
    assert cfg.a == dict(b=[3, 4], c=2)


DATA = '''
model = dict(type='M')
data_root = 'data/coco/'
train_dataloader = dict(dataset=dict(
    type='RepeatDataset', dataset=dict(data_root=data_root, other='data/x')))
val_evaluator = dict(ann_file=data_root + 'val.json', note='data/coco2')
'''


@pytest.mark.parametrize('way', ['option', 'environment', 'both'])
def test_data_root_moves_every_path_below_it(way, tmp_path, monkeypatch):
    (tmp_path / 'c.py').write_text(DATA)
    arguments = [str(tmp_path / 'c.py')]
    if way != 'option':
        monkeypatch.setenv('MMATTN_DATA_ROOT', '/d')
    if way != 'environment':
        arguments += ['--cfg-options', 'data_root=/e/']
    root = '/d' if way == 'environment' else '/e'
    cfg = load_config(train.parse_args(arguments))
    assert cfg.data_root.rstrip('/') == root
    inner = cfg.train_dataloader.dataset.dataset
    assert inner == dict(data_root=f'{root}/', other='data/x')
    assert cfg.val_evaluator == dict(
        ann_file=f'{root}/val.json', note='data/coco2')


def test_two_data_roots_cannot_be_moved(tmp_path):
    (tmp_path / 'c.py').write_text(
        DATA + "val_dataloader = dict(dataset=dict(data_root='voc'))")
    with pytest.raises(UsageError, match="'data/coco', 'voc'"):
        load_config(train.parse_args(
            [str(tmp_path / 'c.py'), '--cfg-options', 'data_root=/e']))


def test_report_hook_is_added_once(tmp_path):
    first = read(tmp_path, 'custom_hooks = [dict(type="Other")]')
    assert [h['type'] for h in first.custom_hooks] == [
        'Other', 'mmattn.LoadReportHook']
    first.dump(tmp_path / 'dumped.py')
    again = read(tmp_path, (tmp_path / 'dumped.py').read_text())
    assert again.custom_hooks == first.custom_hooks


def test_local_rank_reaches_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv('LOCAL_RANK')
    read(tmp_path, '', '--local-rank', '3')
    assert os.environ['LOCAL_RANK'] == '3'
    read(tmp_path, '', '--local_rank', '5')
    assert os.environ['LOCAL_RANK'] == '3'


def test_missing_config_and_launcher_are_named(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"config 'no\.py' is not a file"):
        load_config(make_parser('').parse_args(['no.py']))
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    with pytest.raises(UsageError, match='WORLD_SIZE'):
        read(tmp_path, '', '--launcher', 'pytorch')


# -- learning rate ---------------------------------------------------------


def recipe(base=16, batch=2, enable=False, **wrapper):
    return Config(dict(
        auto_scale_lr=dict(base_batch_size=base, enable=enable),
        train_dataloader=dict(batch_size=batch),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02), **wrapper)))


def test_fitting_batch_has_no_warning():
    assert lr_warning(recipe(), 8) is None
    assert lr_warning(recipe(accumulative_counts=4), 2) is None
    assert lr_warning(recipe(enable=True), 1) is None
    assert lr_warning(Config(dict()), 4) is None
    assert lr_warning(Config(dict(auto_scale_lr=dict(enable=False))), 4) \
        is None


def test_warning_has_both_batches_the_rate_and_the_flag():
    # 3 processes x 2 = 6 of 16: 0.02 * 6 / 16 = 0.0075
    message = lr_warning(recipe(), 3)
    assert 'total batch of 16' in message
    assert 'this run has 6 (3 process(es) x batch_size 2)' in message
    assert 'lr=0.0075 instead of 0.02' in message
    assert '--auto-scale-lr' in message
    assert 'lr=0.04 instead of 0.02' in lr_warning(recipe(), 16)


def test_accumulation_counts_and_the_flag_does_not_know_it():
    # 1 x 2 x 4 = 8 of 16
    message = lr_warning(recipe(accumulative_counts=4), 1)
    assert 'this run has 8' in message and 'lr=0.01 instead' in message
    assert 'set optim_wrapper.optimizer.lr' in message
    message = lr_warning(recipe(accumulative_counts=8, enable=True), 1)
    assert 'scales for a batch of 2' in message
    assert 'lr=0.02 instead of 0.02' in message


def test_optimizer_without_rate_gets_the_factor():
    cfg = recipe()
    cfg.optim_wrapper.optimizer = dict(type='Adadelta')
    assert '0.125 times the learning rate' in lr_warning(cfg, 1)


# -- distributed on the CPU ------------------------------------------------


def test_sync_bn_is_reverted_at_any_depth():
    model = Config(dict(model=dict(
        type='Net',
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        heads=[dict(norm=dict(type='mmcv.MMSyncBN')),
               dict(norm=dict(type='GN', num_groups=3))],
        pair=(dict(type=nn.SyncBatchNorm), 'SyncBN')))).model
    assert revert_sync_bn(model) == 3
    assert model.norm_cfg == dict(type='BN', requires_grad=True)
    assert model.heads[0].norm.type == 'BN'
    assert model.heads[1].norm == dict(type='GN', num_groups=3)
    assert model.pair[0]['type'] == 'BN'
    assert model.type == 'Net'


class Wrapper(MMDistributedDataParallel):
    """A user's own kind of wrapper."""


def test_wrapper_keeps_what_the_user_says():
    assert wrapper_for_cpu(Config(dict(find_unused_parameters=True))) == dict(
        type='MMDistributedDataParallel', device_ids=None,
        broadcast_buffers=False, find_unused_parameters=True)
    own = ConfigDict(type=Wrapper, broadcast_buffers=True, device_ids=[0])
    assert wrapper_for_cpu(Config(dict(model_wrapper_cfg=own))) == dict(
        type=Wrapper, device_ids=None, broadcast_buffers=True,
        find_unused_parameters=False)
    other = dict(type='MMFullyShardedDataParallel', cpu_offload=True)
    assert wrapper_for_cpu(Config(dict(model_wrapper_cfg=other))) == other


def test_cpu_needs_the_pytorch_launcher(monkeypatch):
    monkeypatch.setattr('mmattn.engine.launch.get_device', lambda: 'cpu')
    assert prepare_cpu(Config(dict(launcher='none'))) == []
    with pytest.raises(UsageError, match='slurm needs GPUs'):
        prepare_cpu(Config(dict(launcher='slurm', model=dict())))


def test_gpu_run_is_left_alone(monkeypatch):
    monkeypatch.setattr('mmattn.engine.launch.get_device', lambda: 'cuda')
    cfg = Config(dict(
        launcher='pytorch', model=dict(norm_cfg=dict(type='SyncBN'))))
    assert prepare_cpu(cfg) == []
    assert cfg.model.norm_cfg.type == 'SyncBN'
    assert 'model_wrapper_cfg' not in cfg


# -- flags of train.py -----------------------------------------------------


def test_amp():
    cfg = recipe()
    assert train.enable_amp(cfg, 'cuda') == []
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    assert 'changes nothing' in train.enable_amp(cfg, 'cuda')[0]
    with pytest.raises(UsageError, match='needs a GPU'):
        train.enable_amp(recipe(), 'cpu')
    with pytest.raises(UsageError, match='has ApexOptimWrapper'):
        train.enable_amp(recipe(type='ApexOptimWrapper'), 'cuda')


def test_auto_scale_lr():
    cfg = Config(dict(auto_scale_lr=dict(base_batch_size=16)))
    train.enable_lr_scaling(cfg)
    assert cfg.auto_scale_lr.enable is True
    for entries in (dict(), dict(auto_scale_lr=dict(enable=False))):
        with pytest.raises(UsageError, match='auto_scale_lr.base_batch_size'):
            train.enable_lr_scaling(Config(entries))


def test_resume(tmp_path):
    def start(resume):
        cfg = Config(dict(work_dir=str(tmp_path), load_from='trunk.pth'))
        return train.set_resume(cfg, resume), cfg.resume, cfg.load_from

    checkpoint = tmp_path / 'epoch_3.pth'
    with pytest.raises(UsageError, match='epoch_3.pth'):
        start(str(checkpoint))
    notes, resume, load_from = start('auto')
    assert 'no checkpoint' in notes[0]
    assert (resume, load_from) == (False, 'trunk.pth')
    torch.save(dict(meta=dict(epoch=3, iter=9), state_dict={}, message_hub={},
                    optimizer={}), checkpoint)
    (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
    for way in ('auto', str(checkpoint)):
        assert start(way) == ([], True, str(checkpoint))
    assert start('https://there/a.pth') == ([], True, 'https://there/a.pth')
    assert train.parse_args(['c.py', '--resume']).resume == 'auto'
    assert train.parse_args(['c.py']).resume is None


def test_hooks_of_a_run_that_can_be_resumed():
    ours = dict(type='mmattn.AtomicCheckpointHook')
    for own, expected in (
            (dict(), dict(checkpoint=dict(**ours, interval=1))),
            (dict(checkpoint=dict(type='CheckpointHook', interval=3)),
             dict(checkpoint=dict(**ours, interval=3))),
            (dict(checkpoint=dict(type=CheckpointHook)),
             dict(checkpoint=ours)),
            (dict(checkpoint=dict(type='Mine')),) * 2,
            (dict(checkpoint=None),) * 2):
        cfg = Config(dict(default_hooks=own))
        train.set_hooks(cfg)
        assert cfg.default_hooks == expected
        train.set_hooks(cfg)
        assert cfg.custom_hooks == [dict(type='mmattn.ResumeHook')]
    cfg = Config(dict())
    train.set_hooks(cfg)
    assert cfg.default_hooks.checkpoint.type == ours['type']


# -- flags of test.py ------------------------------------------------------


def scope(name, **entries):
    return Config(dict(default_scope=name, **entries))


def test_out_is_a_pickle_file():
    test.check_out(scope('mmdet'), 'a.pkl')
    test.check_out(scope('mmpretrain'), 'a.pickle')
    with pytest.raises(UsageError, match='must end with .pkl'):
        test.check_out(scope('mmdet'), 'a.json')
    with pytest.raises(UsageError, match='test_evaluator.output_dir'):
        test.check_out(scope('mmseg'), 'a.pkl')


def test_toolbox_of_a_config_without_scope():
    assert test.toolbox_of(scope(None, model=dict(type='mmseg.Net'))) \
        == 'mmseg'
    assert test.toolbox_of(scope(None, model=dict(type=nn.Linear))) == 'torch'


@pytest.mark.parametrize('kind, hook, save_dir', [
    ('DetVisualizationHook', dict(draw=True, test_out_dir='d'), None),
    ('SegVisualizationHook', dict(draw=True), 'd'),
    ('mmpretrain.VisualizationHook',
     dict(enable=True, interval=1, out_dir='d'), None)])
def test_drawing(kind, hook, save_dir):
    def draw(*flags):
        cfg = Config(dict(
            default_hooks=dict(visualization=dict(type=kind)),
            visualizer=dict(type='Visualizer')))
        test.draw_predictions(
            cfg, test.parse_args(['c.py', 'w.pth', *flags]))
        return cfg

    cfg = draw('--show-dir', 'd')
    assert cfg.default_hooks.visualization == dict(type=kind, **hook)
    assert cfg.visualizer.get('save_dir') == save_dir
    shown = draw('--show', '--wait-time', '0.5').default_hooks.visualization
    assert (shown.show, shown.wait_time) == (True, 0.5)
    assert 'd' not in shown.values()


def test_drawing_needs_a_known_hook():
    args = test.parse_args(['c.py', 'w.pth', '--show'])
    with pytest.raises(UsageError, match='config has none'):
        test.draw_predictions(Config(dict(default_hooks=dict())), args)
    hooks = dict(visualization=dict(type='OtherHook'))
    with pytest.raises(UsageError, match='OtherHook'):
        test.draw_predictions(Config(dict(default_hooks=hooks)), args)


def test_tta_default_of_a_detector():
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]
    dataset = dict(type='Repeat', dataset=dict(pipeline=pipeline))
    cfg = scope('mmdet', model=dict(type='Net'),
                test_dataloader=dict(dataset=dataset))
    assert len(test.use_tta(cfg)) == 2
    assert cfg.model.type == 'DetTTAModel' and cfg.model.module.type == 'Net'
    read, augment = cfg.test_dataloader.dataset.dataset.pipeline
    assert read.type == 'LoadImageFromFile'
    flips, pack = augment.transforms
    assert [f['prob'] for f in flips] == [1, 0]
    assert {'flip', 'flip_direction'} < set(pack[0]['meta_keys'])


def test_tta_of_masks():
    cfg = scope('mmdet', model=dict(roi_head=dict(mask_head=dict(type='M'))))
    with pytest.raises(UsageError, match='merges boxes only'):
        test.use_tta(cfg)


def test_tta_of_the_config():
    cfg = scope('mmseg', model=dict(type='Net'), tta_pipeline=[],
                test_dataloader=dict(dataset=dict(pipeline=[dict()])))
    with pytest.raises(UsageError, match='tta_model and tta_pipeline'):
        test.use_tta(cfg)
    cfg.update(tta_model=dict(type='SegTTAModel'), tta_pipeline=[dict(a=1)])
    assert test.use_tta(cfg) == []
    assert cfg.model == dict(type='SegTTAModel', module=dict(type='Net'))
    assert cfg.test_dataloader.dataset.pipeline == [dict(a=1)]


# -- shell scripts ---------------------------------------------------------


def fake(folder, name, text):
    path = folder / name
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def shell(tmp_path):
    """Run a script where python sees a given number of GPUs.

    Whatever else python or srun are asked to do they print, one word a
    line, after PYTHONPATH and OMP_NUM_THREADS.
    """
    def run(script, *arguments, gpus=0, **env):
        tell = ('echo "PYTHONPATH=$PYTHONPATH"\n'
                'echo "OMP_NUM_THREADS=$OMP_NUM_THREADS"\n'
                'for word in "$@"; do echo "$word"; done')
        fake(tmp_path, 'python',
             f'if [ "$1" = -c ]; then echo {gpus}; exit; fi\n{tell}')
        fake(tmp_path, 'srun', tell)
        path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
        done = subprocess.run(
            ['bash', str(TOOLS / script), *arguments], cwd=tmp_path,
            env=dict(PATH=path, **env), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        return done.returncode, done.stdout.split('\n'), done.stderr

    return run


@pytest.mark.parametrize('script', SCRIPTS)
def test_script_syntax_and_usage(script, shell):
    subprocess.run(['bash', '-n', str(TOOLS / script)], check=True)
    assert os.access(TOOLS / script, os.X_OK)
    code, _, error = shell(script, 'only_one')
    assert code == 2
    assert error.startswith(f'usage: {script} ')


def test_dist_train_command(shell):
    code, words, error = shell('dist_train.sh', 'c.py', '2', '--amp',
                               '--cfg-options', 'a=b c', gpus=2)
    assert (code, error) == (0, '')
    assert words[:2] == [f'PYTHONPATH={TOOLS}/..', 'OMP_NUM_THREADS=']
    assert words[2:-1] == [
        '-m', 'torch.distributed.run', '--nnodes=1', '--node_rank=0',
        '--master_addr=127.0.0.1', '--master_port=29500',
        '--nproc_per_node=2', f'{TOOLS}/train.py', 'c.py', '--amp',
        '--cfg-options', 'a=b c', '--launcher', 'pytorch']


def test_dist_test_command(shell):
    code, words, _ = shell(
        'dist_test.sh', 'c.py', 'w.pth', '3', '--tta', gpus=8, NNODES='2',
        NODE_RANK='1', PORT='1234', MASTER_ADDR='there', PYTHONPATH='mine')
    assert code == 0
    assert words[0] == f'PYTHONPATH={TOOLS}/..:mine'
    assert words[4:-1] == [
        '--nnodes=2', '--node_rank=1', '--master_addr=there',
        '--master_port=1234', '--nproc_per_node=3', f'{TOOLS}/test.py',
        'c.py', 'w.pth', '--tta', '--launcher', 'pytorch']


@pytest.mark.parametrize('script, arguments', [
    ('dist_train.sh', ['c.py']), ('dist_test.sh', ['c.py', 'w.pth'])])
def test_number_of_gpus(script, arguments, shell):
    code, words, error = shell(script, *arguments, '4', gpus=3)
    assert (code, words) == (1, [''])
    assert error == (f'{script}: error: 4 GPUs asked for, 3 found; '
                     'ask for at most 3\n')
    for gpus in ('two', '0', '-1', ''):
        code, words, error = shell(script, *arguments, gpus, gpus=3)
        assert (code, words) == (2, [''])
        assert f"GPUS is '{gpus}'" in error
    code, words, error = shell(script, *arguments, '99', gpus=0)
    assert code == 0
    assert error == (f'{script}: no GPU here, 99 gloo process(es) on the '
                     'CPU\n')
    assert words[1] == 'OMP_NUM_THREADS=1'
    _, words, _ = shell(script, *arguments, '99', OMP_NUM_THREADS='5')
    assert words[1] == 'OMP_NUM_THREADS=5'


def test_slurm_commands(shell):
    code, words, _ = shell('slurm_train.sh', 'part', 'job', 'c.py', 'out',
                           '--amp', SRUN_ARGS='--quiet --time 5')
    assert code == 0
    assert words[0] == f'PYTHONPATH={TOOLS}/..'
    assert words[2:-1] == [
        '-p', 'part', '--job-name=job', '--gres=gpu:8', '--ntasks=8',
        '--ntasks-per-node=8', '--cpus-per-task=5', '--kill-on-bad-exit=1',
        '--quiet', '--time', '5', 'python', '-u', f'{TOOLS}/train.py',
        'c.py', '--work-dir', 'out', '--amp', '--launcher', 'slurm']
    code, words, _ = shell('slurm_test.sh', 'part', 'job', 'c.py', 'w.pth',
                           GPUS='6', GPUS_PER_NODE='3', CPUS_PER_TASK='2')
    assert code == 0
    assert words[5:8] == ['--gres=gpu:3', '--ntasks=6',
                          '--ntasks-per-node=3']
    assert words[12:-1] == [f'{TOOLS}/test.py', 'c.py', 'w.pth',
                            '--launcher', 'slurm']
