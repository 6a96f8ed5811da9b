"""MXNet's parameter files, byte by byte.

The layout, all of it little-endian:

    uint64 0x112 | uint64 0 | uint64 count | arrays
    uint64 count | for each name: uint64 length, UTF-8

    array: uint32 version | int32 storage (not in V1) | int32 ndim
           | int64 sizes | int32 device type, int32 its number
           | int32 type of values | values
"""
import struct
import tracemalloc

import pytest
import torch

from mmattn.checkpoints import CheckpointError
from mmattn.checkpoints.mxnet import is_params, read_params

LIST = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
CPU = struct.pack('<ii', 1, 0)
TYPES = {  # MXNet's number: struct's letter, torch's type
    0: ('f', torch.float32),
    1: ('d', torch.float64),
    2: ('e', torch.float16),
    3: ('B', torch.uint8),
    4: ('i', torch.int32),
    5: ('b', torch.int8),
    6: ('q', torch.int64),
}

# What MXNet 1.9.1 wrote, with numpy 1.23.5:
# nd.save(path, {'arg:bn.gamma': nd.array([1, -2, .1], dtype='float16'),
#   'aux:bn.running_mean': nd.array([[.5], [3]], dtype='float64')})
WRITTEN = """
1201000000000000 0000000000000000 0200000000000000
c9fa93f9 00000000 01000000 0300000000000000 01000000 00000000 02000000
003c 00c0 662e
c9fa93f9 00000000 02000000 0200000000000000 0100000000000000
01000000 00000000 01000000 000000000000e03f 0000000000000840
0200000000000000
0c00000000000000 6172673a626e2e67616d6d61
1300000000000000 6175783a626e2e72756e6e696e675f6d65616e"""
# and, under util.np_shape(True),
# nd.save(path, {'s': mx.np.array(2.5).as_nd_ndarray()})
WRITTEN_SCALAR = """
1201000000000000 0000000000000000 0100000000000000
cafa93f9 00000000 00000000 01000000 00000000 00000000 00002040
0100000000000000 0100000000000000 73"""


def array(values=(1, -2), shape=(2, ), flag=0, version=V2, storage=0):
    return b''.join([
        struct.pack('<I', version),
        b'' if version == V1 else struct.pack('<i', storage),
        struct.pack(f'<i{len(shape)}q', len(shape), *shape), CPU,
        struct.pack('<i', flag),
        struct.pack(f'<{len(values)}{TYPES.get(flag, "b")[0]}', *values)
    ])


def content(arrays, names, magic=LIST):
    parts = [struct.pack('<QQQ', magic, 0, len(arrays)), *arrays]
    parts.append(struct.pack('<Q', len(names)))
    for name in names:
        name = name if isinstance(name, bytes) else name.encode()
        parts += [struct.pack('<Q', len(name)), name]
    return b''.join(parts)


@pytest.fixture
def read(tmp_path):
    """Read bytes, through a file."""
    path = tmp_path / 'net.params'

    def from_bytes(data):
        path.write_bytes(data)
        return read_params(str(path))

    return from_bytes


# -- what is read ----------------------------------------------------------


def test_files_that_mxnet_wrote(read):
    weights = read(bytes.fromhex(WRITTEN))
    assert list(weights) == ['bn.weight', 'bn.running_mean']
    gamma, mean = weights.values()
    assert torch.equal(gamma, torch.tensor([1, -2, 0.1]).half())
    assert torch.equal(mean, torch.tensor([[0.5], [3]]).double())
    assert (gamma.dtype, mean.dtype) == (torch.float16, torch.float64)
    scalar = read(bytes.fromhex(WRITTEN_SCALAR))['s']
    assert torch.equal(scalar, torch.tensor(2.5))


@pytest.mark.parametrize('version', [V1, V2, V3])
@pytest.mark.parametrize('flag', TYPES)
def test_every_type_in_every_version(read, version, flag):
    values = [7, 0, 100, 3, 1, 9]
    weights = read(content([array(values, (3, 2), flag, version)], ['a']))
    expected = torch.tensor(values, dtype=TYPES[flag][1]).reshape(3, 2)
    assert weights['a'].dtype == expected.dtype
    assert torch.equal(weights['a'], expected)


@pytest.mark.parametrize('shape', [(5, ), (1, ), (2, 3), (4, 3, 2, 1)])
def test_shapes(read, shape):
    expected = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    values = expected.flatten().tolist()
    after = array([0.5], (1, ))
    weights = read(content([array(values, shape), after], ['a', 'b']))
    assert torch.equal(weights['a'], expected)
    assert torch.equal(weights['b'], torch.tensor([0.5]))
    weights['a'].zero_()  # it is a tensor like any other
    assert weights['b'] == 0.5


@pytest.mark.parametrize('name, ours', [
    ('conv1.0.weight', 'conv1.0.weight'),
    ('layer1.0.bn1.gamma', 'layer1.0.bn1.weight'),
    ('layer1.0.bn1.beta', 'layer1.0.bn1.bias'),
    ('bn1.running_var', 'bn1.running_var'),
    ('arg:fc.bias', 'fc.bias'),
    ('aux:bn.running_mean', 'bn.running_mean'),
    ('gamma', 'weight'),
    ('gamma.0.weight', 'gamma.0.weight'),
    ('resnet0_bn_gamma', 'resnet0_bn_gamma'),
    ('flag:x', 'flag:x'),
])
def test_names(read, name, ours):
    assert list(read(content([array()], [name]))) == [ours]


# -- what is refused -------------------------------------------------------

GOOD = content([array([1, 2], flag=2), array()], ['a.gamma', 'b'])


def test_a_file_cut_off_anywhere(read):
    assert len(read(GOOD)) == 2
    for size in range(len(GOOD)):
        with pytest.raises(CheckpointError, match=r'bytes and \d+ are left'):
            read(GOOD[:size])


def raw(storage=0, axes=(), version=V2):
    """The start of an array, with fields as they come."""
    return struct.pack('<Iii', version, storage, axes[0]) + struct.pack(
        f'<{len(axes) - 1}q', *axes[1:]) + CPU + struct.pack('<i', 0)


@pytest.mark.parametrize('data, words', [
    (b'', 'the header needs 8 bytes and 0 are left'),
    (content([array()], ['a'], magic=0x113), 'does not start as a list'),
    (b'\x80\x02}q\x00.' + GOOD, 'does not start as a list'),
    (GOOD + b'\0', '1 bytes follow the last name'),
    (content([array(version=V3 + 1)], ['a']), 'array 0 starts with 0xf993fac'),
    (content([array(), array(version=2)], ['a', 'b']),
     'array 1 starts with 0x2'),
    (content([array(storage=1)], ['a']), 'storage type 1; only dense'),
    (content([array(storage=2)], ['a']), 'storage type 2; only dense'),
    (content([array(storage=-1)], ['a']), 'storage type -1; only dense'),
    (content([array(flag=7)], ['a']), 'type 7; known are float32, float64, '
     'float16, uint8, int32, int8, int64'),
    (content([array(flag=-1)], ['a']), 'type -1; known are'),
    (content([array((), (0, 3), version=V3)], ['a']), r'shape \(0, 3\)'),
    (content([array((1, 2), (-1, -2))], ['a']), r'shape \(-1, -2\)'),
    (content([array((1, ), ())], ['a']), 'array 0 has 0 axes, not 1 to 8'),
    (content([raw(axes=[-1])], ['a']), 'array 0 has -1 axes'),
    (content([raw(axes=[-1], version=V3)], ['a']), '-1 axes, not 0 to 8'),
    (content([raw(axes=[9] + [1] * 9)], ['a']), 'array 0 has 9 axes'),
    (content([array()], []), 'it has 1 arrays and 0 names'),
    (content([], []), 'it has 0 arrays and 0 names'),
    (content([array()], ['a', 'b']), 'it has 1 arrays and 2 names'),
    (content([array(), array()], ['arg:a', 'aux:a']),
     'two arrays are called a'),
    (content([array(), array()], ['a.gamma', 'a.weight']),
     'two arrays are called a.weight'),
    (content([array()], [b'\xff\xfe']), 'name 0 is no text'),
])
def test_refuses(read, data, words, tmp_path):
    with pytest.raises(CheckpointError, match=words) as error:
        read(data)
    message = str(error.value)
    assert message.startswith(f'{tmp_path / "net.params"} cannot be read')
    assert 'get it again' in message and 'save_parameters' in message
    assert error.value.__cause__ is None and error.value.__suppress_context__


HUGE = 2**62


@pytest.mark.parametrize('data', [
    content([raw(axes=[1, HUGE])], ['a']),
    content([raw(axes=[1, 2**40])], ['a']),
    content([raw(axes=[2, 2**32, 2**32])], ['a']),  # 2**64 wraps to 0
    content([raw(axes=[8] + [HUGE] * 8)], ['a']),
    content([raw(axes=[2**31 - 1])], ['a']),
    struct.pack('<QQQ', LIST, 0, 2**64 - 1) + array(),
    content([array()], [])[:-8] + struct.pack('<Q', 2**64 - 1),
    content([array()], [])[:-8] + struct.pack('<QQ', 1, 2**64 - 1),
    content([array()], [])[:-8] + struct.pack('<QQ', 1, 2**31) + b'a',
])
def test_absurd_sizes_cost_nothing(read, data):
    tracemalloc.start()
    with pytest.raises(CheckpointError, match='cannot be read as parameters'):
        read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


# -- the file itself -------------------------------------------------------


def test_told_by_its_first_bytes(tmp_path):
    params, torches = tmp_path / 'a.pth', tmp_path / 'b.params'
    params.write_bytes(GOOD)
    torch.save(dict(a=torch.zeros(2)), torches)
    assert is_params(str(params))
    assert not is_params(str(torches))
    torches.write_bytes(GOOD[:7])
    assert not is_params(str(torches))
    assert not is_params(str(tmp_path / 'none'))
    assert not is_params(str(tmp_path))


def test_missing_file_and_home(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match='none.params does not exist'):
        read_params(str(tmp_path / 'none.params'))
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'net.params').write_bytes(GOOD)
    assert is_params('~/net.params')
    assert sorted(read_params('~/net.params')) == ['a.weight', 'b']
