"""Read the parameter files of MXNet, in which Gluon networks are published.

``net.save_parameters(path)`` writes a list of arrays, then their names; all
numbers are little-endian::

    uint64 0x112, uint64 reserved
    uint64 count, then so many arrays:
        uint32 0xF993FAC9  the kind of record (V1 ...C8, V2 ...C9, V3 ...CA)
        int32 storage      0 is dense; V1 has no such field
        int32 ndim, int64 size of each axis
        int32, int32       device type and number
        int32 type         a key of TYPES
        the values
    uint64 count, then so many names:
        uint64 length, UTF-8

MXNet itself is not needed, and nothing in a file can name code.
"""
import math
import os
import struct
from os import path as osp
from typing import Any, BinaryIO, Dict

import torch
from torch import Tensor

from .safe import CheckpointError

MAGIC = struct.pack('<Q', 0x112)
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
MAX_AXES = 8  # the weight of a 3-D convolution has 5
MAX_ARRAYS = 100_000  # each takes more memory than its 25 bytes of a file
TYPES = {
    0: torch.float32,
    1: torch.float64,
    2: torch.float16,
    3: torch.uint8,
    4: torch.int32,
    5: torch.int8,
    6: torch.int64,
}
LEAVES = {'gamma': 'weight', 'beta': 'bias'}


class _Damaged(Exception):
    """What is wrong with a file, in words."""


class _Reader:
    """Takes from a file no more than it holds."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.left = os.fstat(file.fileno()).st_size

    def take(self, size: int, what: str) -> bytearray:
        if size > self.left:
            raise _Damaged(f'{what} needs {size} bytes and {self.left} are '
                           'left')
        self.left -= size
        data = bytearray(size)
        self.file.readinto(data)
        return data

    def numbers(self, form: str, what: str) -> Any:
        data = self.take(struct.calcsize('<' + form), what)
        values = struct.unpack('<' + form, data)
        return values if len(values) > 1 else values[0]


def _read_array(reader: _Reader, what: str) -> Tensor:
    kind = reader.numbers('I', what)
    if kind not in (V1, V2, V3):
        raise _Damaged(f'{what} starts with {kind:#x}, which is no record '
                       'of the versions V1 to V3')
    storage = 0 if kind == V1 else reader.numbers('i', what)
    if storage != 0:
        raise _Damaged(f'{what} has storage type {storage}; only dense '
                       'arrays (0) are read')
    axes = reader.numbers('i', what)
    fewest = 0 if kind == V3 else 1  # before V3, 0 meant: not yet known
    if not fewest <= axes <= MAX_AXES:
        raise _Damaged(f'{what} has {axes} axes, not {fewest} to {MAX_AXES}; '
                       'fewer are those of a parameter that was never set')
    shape = [reader.numbers('q', what) for _ in range(axes)]
    reader.take(8, what)  # the device that it was on
    flag = reader.numbers('i', what)
    if flag not in TYPES:
        known = ', '.join(str(dtype)[6:] for dtype in TYPES.values())
        raise _Damaged(f'{what} has values of type {flag}; known are {known}')
    if min(shape, default=1) < 1:
        raise _Damaged(f'{what} has the shape {tuple(shape)}; every axis '
                       'must have a size of 1 or more')
    size = math.prod(shape) * torch.empty(0, dtype=TYPES[flag]).element_size()
    data = reader.take(size, f'{what}, {tuple(shape)},')
    return torch.frombuffer(data, dtype=TYPES[flag]).reshape(shape)


def _read_name(reader: _Reader, what: str) -> str:
    """A name, by which torch would call the parameter."""
    length = reader.numbers('Q', what)
    try:
        name = reader.take(length, what).decode()
    except UnicodeDecodeError:
        raise _Damaged(f'{what} is no text') from None
    if name.startswith(('arg:', 'aux:')):
        name = name[4:]
    owner, dot, leaf = name.rpartition('.')
    return owner + dot + LEAVES.get(leaf, leaf)


def _read(file: BinaryIO) -> Dict[str, Tensor]:
    reader = _Reader(file)
    if reader.take(8, 'the header') != MAGIC:
        raise _Damaged('it does not start as a list of arrays')
    _, count = reader.numbers('QQ', 'the header')
    if count > MAX_ARRAYS:
        raise _Damaged(f'it is to have {count} arrays; no network has over '
                       f'{MAX_ARRAYS}')
    arrays = []
    while len(arrays) < count:
        arrays.append(_read_array(reader, f'array {len(arrays)}'))
    named = reader.numbers('Q', 'the list of names')
    if named != count or count == 0:
        raise _Damaged(f'it has {count} arrays and {named} names; each '
                       'array must have one')
    weights = {}
    for i, array in enumerate(arrays):
        name = _read_name(reader, f'name {i}')
        if name in weights:
            raise _Damaged(f'two arrays are called {name}')
        weights[name] = array
    if reader.left:
        raise _Damaged(f'{reader.left} bytes follow the last name')
    return weights


def is_params(path: str) -> bool:
    """Whether a file starts as MXNet's do; of no file, False."""
    path = osp.expanduser(path)
    if not osp.isfile(path):
        return False
    with open(path, 'rb') as file:
        return file.read(len(MAGIC)) == MAGIC


def read_params(path: str) -> Dict[str, Tensor]:
    """Read what MXNet's ``save_parameters`` or ``nd.save`` wrote.

    The names lose the prefixes ``arg:`` and ``aux:`` of MXNet's older files,
    and a last part ``gamma`` or ``beta`` becomes ``weight`` or ``bias``.
    Types of values stay as they are, half included.

    Args:
        path: The file; ``~`` is expanded.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is damaged, not MXNet's, or holds what a
            network has no parameter for: sparse or nameless arrays, types
            of values other than those of ``TYPES``, an array without values.
    """
    path = osp.expanduser(path)
    if not osp.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    try:
        with open(path, 'rb') as file:
            return _read(file)
    except _Damaged as error:
        raise CheckpointError(
            f'{path} cannot be read as parameters of MXNet: {error}. If it is '
            'cut off or damaged, get it again; if it is not what a Gluon '
            'network saved by save_parameters, convert it there.') from None
