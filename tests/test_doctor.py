"""What ``mmattn doctor`` finds: faults are made, one at a time."""
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmattn import doctor
from mmattn.cli import main
from mmattn.doctor import data, environment, gpu, training, weights
from mmattn.doctor import finding as findings_module
from mmattn.doctor import stack as stacks
from mmattn.doctor.config import Case, locate, read_config
from mmattn.doctor.names import check_types
from mmattn.doctor.shapes import check_build, check_shapes
from mmattn.doctor.stack import (GPU_OPS, OPS, TRIALS, Stack, Trial,
                                 find_owners, try_imports)

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
PUBLISHED = {
    'torch': {'torch': '2.1.0'}, 'torchvision': {'torchvision': '0.16.0'},
    'mmengine': {'mmengine': '0.10.7'}, 'mmcv': {'mmcv': '2.1.0'},
    'mmdet': {'mmdet': '3.3.0'}, 'mmseg': {'mmsegmentation': '1.2.2'},
    'mmpretrain': {'mmpretrain': '1.2.0'}}


def make_stack(errors=None, absent=(), **owners):
    """A sound stack but for what is given."""
    held = {**PUBLISHED, **owners, **{name: {} for name in absent}}
    trials = {
        name: Trial((errors or {}).get(name, ''), '12.1')
        for name in TRIALS if name not in absent}
    return Stack(held, trials)


def bad(findings):
    return [f for f in findings if f.severity != 'ok']


def only(findings, severity, *words):
    """The one finding that is not fine; it says these words."""
    found, = bad(findings)
    assert found.severity == severity
    text = f'{found.message} -> {found.fix}'
    for word in words:
        assert word in text
    return found


# -- the stack ---------------------------------------------------------------


def test_a_sound_stack_has_no_complaint():
    for check in (environment.check_versions, environment.check_flavours,
                  environment.check_imports):
        assert not bad(check(make_stack(), set()))


def test_two_owners_of_one_package_are_fatal():
    stack = make_stack(mmcv={'mmcv': '2.1.0', 'onedl-mmcv': '2.3.6'})
    only(environment.check_flavours(stack, set()), 'fatal', 'mmcv and '
         'onedl-mmcv', 'pip uninstall')


def test_owners_are_read_from_the_installed_metadata(tmp_path, monkeypatch):
    for name in ('mmcv-9.1.dist-info', 'onedl_mmcv-9.2.dist-info'):
        folder = tmp_path / name
        folder.mkdir()
        label, version = name[:-len('.dist-info')].split('-')
        (folder / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {label}\nVersion: {version}\n')
        (folder / 'top_level.txt').write_text('mmcv\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert find_owners()['mmcv'] == {'mmcv': '9.1', 'onedl-mmcv': '9.2'}


def test_mixed_publishers_are_a_warning():
    stack = make_stack(mmcv={'onedl-mmcv': '2.3.6'})
    only(environment.check_flavours(stack, set()), 'warning', 'onedl-mmcv')


def test_a_missing_toolbox_matters_to_its_configs_only():
    stack = make_stack(absent=['mmseg'])
    check = environment.check_versions
    assert not bad(check(stack, {'mmdet'}))
    only(check(stack, {'mmseg'}), 'fatal', 'pip install mmsegmentation')


def test_torchvision_for_another_torch(monkeypatch):
    monkeypatch.setattr('importlib.metadata.requires',
                        lambda name: ['numpy', 'torch (==2.0.1)'])
    only(environment.check_torchvision(make_stack(), set()), 'warning',
         'torch 2.0.1', '2.1.0')


@pytest.mark.parametrize('error, words', [
    ("ModuleNotFoundError: No module named 'mmcv._ext'", 'mmcv-lite'),
    ('ImportError: _ext.so: undefined symbol: _ZN3c10', 'another torch'),
    ('ImportError: libcudart.so.12: cannot open shared object file',
     'libcudart.so.12'),
    ('AssertionError: MMCV==2.3.6 is used but incompatible. Please install '
     'mmcv>=2.0.0rc4, <2.2.0.', 'accepts mmcv>=2.0.0rc4, <2.2.0'),
    ('RuntimeError: operator torchvision::nms does not exist', 'torchvision'),
    ('RuntimeError: Numpy is not available', 'numpy<2'),
    ('ImportError: libGL.so.1: cannot open shared object file', 'headless'),
    ("ModuleNotFoundError: No module named 'ftfy'", 'pip install ftfy'),
    ("ModuleNotFoundError: No module named 'cv2.x'", 'opencv-python'),
])
def test_import_errors_are_explained(error, words):
    stack = make_stack({OPS: error, 'mmdet': error})
    only(environment.check_imports(stack, set()), 'fatal', words,
         'mmcv.ops, mmdet')


def test_classifiers_do_without_compiled_operators():
    stack = make_stack({OPS: "No module named 'mmcv._ext'"})
    check = environment.check_imports
    assert bad(check(stack, {'mmpretrain'}))[0].severity == 'warning'
    assert bad(check(stack, {'mmdet'}))[0].severity == 'fatal'


def test_a_crash_of_one_import_leaves_the_others(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    codes = dict(
        boom='import os, signal; os.kill(os.getpid(), signal.SIGSEGV)',
        bad='raise ValueError("no")', good='print("noise")\nx = 1')
    for name, code in codes.items():
        (tmp_path / f'stub_{name}.py').write_text(code)
    monkeypatch.setattr(stacks, 'TRIALS', {
        name: f'import stub_{name}' for name in codes})
    trials = try_imports(codes)
    assert 'SIGSEGV' in trials['boom'].error
    assert trials['bad'].error == 'ValueError: no'
    assert not trials['good'].error


def test_an_endless_import_is_given_up(monkeypatch):
    monkeypatch.setattr(stacks, 'TRIALS',
                        dict(a='import threading; threading.Event().wait()'))
    assert 'no end after 1 s' in try_imports(['a'], timeout=1)['a'].error


def test_a_check_that_raises_is_a_finding():

    def check_this():
        raise KeyError('that')

    only(findings_module.run_checks([check_this]), 'warning', 'KeyError',
         'that')


# -- GPUs --------------------------------------------------------------------


@pytest.mark.parametrize('archs, capability, runs', [
    (['sm_80', 'sm_90'], (9, 0), True),
    (['sm_80'], (8, 6), True),
    (['sm_86'], (8, 0), False),
    (['sm_80', 'sm_90'], (12, 0), False),
    (['compute_90'], (12, 0), True),
    (['sm_90a'], (9, 0), True),
    (['sm_90a'], (9, 1), False),
    (['sm_37'], (7, 0), False),
])
def test_architectures(archs, capability, runs):
    assert gpu.runs_on(archs, capability) == runs


@pytest.fixture
def one_gpu(monkeypatch):
    for name, value in dict(
            is_available=True, get_arch_list=['sm_80', 'sm_90'],
            device_count=1, get_device_name='Fake',
            get_device_capability=(9, 0)).items():
        monkeypatch.setattr(torch.cuda, name,
                            lambda *args, value=value: value)
    monkeypatch.setattr(torch.version, 'cuda', '12.8')


def test_gpu_and_operators(one_gpu, monkeypatch):
    stack = make_stack()
    assert not bad(gpu.check_gpu(stack, set()))
    monkeypatch.setattr(torch.cuda, 'get_device_capability',
                        lambda i: (12, 0))
    only(gpu.check_gpu(stack, set()), 'fatal', 'sm_120', 'sm_80, sm_90')


def test_operators_without_kernels(one_gpu):
    stack = make_stack({GPU_OPS: 'RuntimeError: no kernel image is there'})
    only(gpu.check_gpu(stack, set()), 'fatal', 'TORCH_CUDA_ARCH_LIST')
    stack = make_stack()
    stack.trials[OPS] = Trial(said='not available')
    only(gpu.check_gpu(stack, set()), 'fatal', 'FORCE_CUDA')
    stack.trials[OPS] = Trial(said='11.8')
    only(gpu.check_gpu(stack, set()), 'warning', '11.8', '12.8')


def test_a_driver_and_a_torch_without_cuda(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.version, 'cuda', None)
    monkeypatch.setattr(gpu, 'DRIVER', tmp_path)
    only(gpu.check_gpu(make_stack(), set()), 'warning', 'without CUDA')


# -- configs -----------------------------------------------------------------

RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
PSPNET = 'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'
RESNET = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'


@pytest.fixture
def case(tmp_path):
    """Read a config that inherits from another, with some lines more."""

    def read(base, text='', stack=None, **settings):
        for package in ('mmdet', 'mmseg', 'mmpretrain'):
            pytest.importorskip(package)
        path = tmp_path / 'config.py'
        path.write_text(f'_base_ = {base!r}\n{text}\n')
        stack = stack or make_stack()
        cfg, findings = read_config(path, stack)
        assert not findings
        return Case(cfg, stack, offline=True, **settings)

    return read


def shapes_of(case):
    return check_build(case) + check_shapes(case)


OURS = ('mask_rcnn/mask_rcnn_sda_r50_1x_coco.py',
        'quickstart/mask_rcnn_sda_r50_toy.py',
        'deeplabv3/deeplabv3_ca_mbv2_os8_cityscapes.py',
        'imagenet/sda/bl_resnet50_4xb64_in1k.py',
        'cifar100/aff/aff_resnet32_1xb128_cifar100.py')


@pytest.mark.parametrize('base', [RETINANET, PSPNET, RESNET] + [
    pytest.param(str(CONFIGS / name), marks=pytest.mark.config)
    for name in OURS])
def test_good_configs_have_no_complaint(case, base):
    good = case(base)
    assert not bad(check_types(good) + shapes_of(good)
                   + training.check_scratch(good)
                   + training.check_learning_rate(good))


@pytest.mark.parametrize('base, text, words', [
    (RETINANET, "model = dict(neck=dict(type='FPNN'))",
     ["model.neck.type='FPNN'", "'FPN'"]),
    (RETINANET, "model = dict(backbone=dict(type='SKNet'))",
     ["type='mmattn.SKNet'"]),
    (RETINANET, "model = dict(backbone=dict(attention=dict(type='SE')))",
     ["type='mmattn.ResNet'"]),
    (RETINANET, "model = dict(backbone=dict(type='mmattn.ResNett'))",
     ["'mmattn.ResNet'"]),
    (RETINANET, "model = dict(neck=dict(type='my_code.necks.Neck'))",
     ['no package my_code']),
    (RETINANET, "model = dict(neck=dict(type='mmattn.necks.fpn.FPNN'))",
     ['did you mean mmattn.necks.fpn.FPN?']),
    (RETINANET, "model = dict(bbox_head=dict(type='Quite_Unheard_Of'))",
     ['custom_imports']),
    (PSPNET, "model = dict(decode_head=dict(type='PSPHed'))", ["'PSPHead'"]),
    (RESNET, "model = dict(head=dict(type='LinearClsHed'))",
     ["'LinearClsHead'"]),
])
def test_why_a_type_is_not_found(case, base, text, words):
    only(check_types(case(base, text)), 'fatal', *words)


def test_attentions_need_no_prefix_in_our_backbones(case):
    assert not bad(check_types(case(
        RETINANET, "model = dict(backbone=dict(type='mmattn.ResNet', "
        "attention=[None, dict(type='SE'), None, dict(type='SE')]))")))


def test_a_toolbox_that_is_absent_or_broken(case):
    only(check_types(case(RETINANET, stack=make_stack(absent=['mmdet']))),
         'fatal', 'pip install mmdet')
    only(check_types(case(RETINANET, stack=make_stack({'mmdet': 'no'}))),
         'fatal', 'cannot be imported')


@pytest.mark.config
@pytest.mark.parametrize('base, text, words', [
    (RETINANET, 'model = dict(neck=dict(in_channels=[64, 128, 256, 512]))',
     ['model.neck', '[64, 128, 256, 512]', '[256, 512, 1024, 2048]']),
    (RETINANET, 'model = dict(backbone=dict(depth=18))', ['model.neck']),
    (RETINANET, 'model = dict(bbox_head=dict(in_channels=128))',
     ['model.bbox_head', '128', '256']),
    (RETINANET, 'model = dict(backbone=dict(strides=(1, 2, 2, 1)))',
     ['prior_generator.strides', '16']),
    (RETINANET, 'model = dict(neck=dict(num_outs=4))', ['lists 5', '4 maps']),
    (PSPNET, 'model = dict(decode_head=dict(in_channels=512), '
     'auxiliary_head=None)', ['model.decode_head', '512', '2048']),
    (PSPNET, 'model = dict(decode_head=dict(in_index=7), '
     'auxiliary_head=None)', ['in_index=7']),
    (RESNET, 'model = dict(head=dict(in_channels=512))',
     ['model.head', '512', '2048']),
])
def test_parts_that_do_not_fit(case, base, text, words):
    only(shapes_of(case(base, text)), 'fatal', *words)


def test_a_model_that_cannot_be_built(case):
    only(check_build(case(RETINANET, 'model = dict(neck=dict(typo=1))')),
         'fatal', 'typo')


SCRATCH = 'model = dict(backbone=dict(init_cfg=None))\n'


def test_frozen_norms_with_a_scratch_start(case):
    frozen = case(RETINANET, SCRATCH)
    assert not bad(check_build(frozen))
    only(training.check_scratch(frozen), 'warning', 'norm_eval=True',
         'frozen_stages=1')
    for text in ("load_from = 'a.pth'", 'model = dict(backbone=dict('
                 'init_cfg=None, norm_eval=False, frozen_stages=-1))'):
        fine = case(RETINANET, SCRATCH + text)
        check_build(fine)
        assert not bad(training.check_scratch(fine))


def test_learning_rate(case):
    check = training.check_learning_rate
    assert not bad(check(case(RETINANET, gpus=8)))
    only(check(case(RETINANET, gpus=1)), 'warning', '16', '2',
         '--auto-scale-lr')
    only(check(case(RETINANET, 'train_dataloader = dict(batch_size=3)')),
         'warning', 'batch_size 3')


def test_sync_bn_without_gpus(case, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    only(training.check_sync_bn(case(PSPNET)), 'warning', 'SyncBN')
    assert not bad(training.check_sync_bn(case(PSPNET, gpus=4)))


# -- weights and data --------------------------------------------------------


def test_weights_that_are_missing(case, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    check = weights.check_weights
    only(check(case(RETINANET)), 'warning', '--offline', 'checkpoints')
    only(check(case(RETINANET, SCRATCH + "load_from = 'nowhere.pth'")),
         'fatal', 'load_from', 'nowhere.pth')
    only(check(case(RETINANET, SCRATCH + 'model["backbone"]["pretrained"] = '
                    "'torchvision://resnet51'")), 'fatal', 'resnet50')
    (tmp_path / 'start.pth').touch()
    assert not bad(check(case(
        RETINANET, SCRATCH + f'load_from = {str(tmp_path / "start.pth")!r}')))


@pytest.mark.parametrize('answer, severity', [
    (('there', ''), None), (('refused', 'HTTP 404'), 'fatal'),
    (('refused', 'HTTP 403'), 'warning'), (('silent', 'no net'), 'warning')])
def test_answers_of_a_server(tmp_path, monkeypatch, answer, severity):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(weights, 'ask', lambda url, silent: answer)
    asked = Case(Config(dict(load_from='https://host/a.pth')), make_stack())
    found = bad(weights.check_weights(asked))
    assert [f.severity for f in found] == [severity] * (severity is not None)
    (tmp_path / 'checkpoints').mkdir()
    (tmp_path / 'checkpoints' / 'a.pth').touch()
    assert not bad(weights.check_weights(asked))


def test_a_silent_host_is_asked_once(monkeypatch):
    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        raise OSError('no net')

    monkeypatch.setattr('urllib.request.urlopen', fail)
    silent = {}
    for name in 'ab':
        assert weights.ask(f'https://host/{name}', silent)[0] == 'silent'
    assert len(calls) == 1


def test_data(tmp_path):
    root = tmp_path / 'coco'
    loader = dict(dataset=dict(
        type='X', data_root=str(root), ann_file='a.json',
        data_prefix=dict(img='images/')))
    looked = Case(Config(dict(
        train_dataloader=loader, val_dataloader=loader,
        val_evaluator=dict(ann_file=f'{root}/a.json'))), make_stack())
    only(data.check_data(looked), 'fatal', str(root), 'MMATTN_DATA_ROOT')
    (root / 'images').mkdir(parents=True)
    only(data.check_data(looked), 'fatal', 'a.json', 'ann_file')
    (root / 'a.json').touch()
    assert not bad(data.check_data(looked))


# -- reading and the command -------------------------------------------------


@pytest.fixture
def fast(monkeypatch):
    """No processes: the stack is as it is said to be."""
    monkeypatch.setattr(doctor, 'inspect_stack', make_stack)


@pytest.mark.parametrize('text, words', [
    ('a = (', 'SyntaxError'),
    ("_base_ = './absent.py'", 'absent.py'),
    ("custom_imports = dict(imports=['not_there'])", 'PYTHONPATH')])
def test_configs_that_cannot_be_read(tmp_path, text, words):
    path = tmp_path / 'config.py'
    path.write_text(text)
    only(read_config(path, make_stack())[1], 'fatal', words)


@pytest.mark.parametrize('text, words', [
    ('a = 1', 'has no model'), ('model = 3', 'has no model, but model = 3'),
    ("load_from = 'nowhere.pth'", 'has no model')])
def test_a_config_without_a_model(fast, tmp_path, text, words):
    path = tmp_path / 'config.py'
    path.write_text(text)
    found = [f for f in doctor.diagnose(path, offline=True)
             if f.check == 'model']
    only(found, 'fatal', words, '_base_')


def test_a_wrong_name_of_a_config_tells_the_nearest():
    pytest.importorskip('mmdet')
    with pytest.raises(FileNotFoundError, match='retinanet_r50_fpn_1x_coco'):
        locate('mmdet::retinanet/retinanet_r50_fpn_1x_cocoo.py')


def test_exit_codes(fast, tmp_path, capsys):
    path = tmp_path / 'config.py'
    model = "model = dict(type='mmattn.ResNet', depth=18)"
    path.write_text(model)
    assert main(['doctor', str(path), '--offline']) == 0
    path.write_text(f"{model}\nload_from = 'nowhere.pth'")
    assert main(['doctor', str(path), '--offline', '--json']) == 1
    out = capsys.readouterr().out
    found = json.loads(out[out.index('[\n'):])
    assert {'severity', 'check', 'message', 'fix'} == set(found[0])
    for wrong in ([str(tmp_path / 'absent.py')], ['--gpus', '0'],
                  ['--gpus', 'x']):
        with pytest.raises(SystemExit) as error:
            main(['doctor', *wrong])
        assert error.value.code == 2
