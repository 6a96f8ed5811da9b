"""Checkpoints that would grow beyond all measure while they are read.

The rule, for files of ``torch.save``: nothing in a file may ask for more than
the file holds.

- As a zip archive, which ``torch.save`` writes without compression: no member
  is compressed, no two have one name, and together they are no larger than
  the file. So a zip bomb is refused by the archive's table alone.
- A tensor's storage is no larger than the bytes the file has for it.
- The objects that a pickle makes take at most ``BASE + TIMES * its size``
  bytes, by a count that runs the pickle on sizes in place of objects; so does
  each of them with what it refers to, counted as often as it refers to it.

A file that breaks it is refused before memory is taken.
"""
import io
import pickle
import pickletools
import tarfile
import zipfile
from typing import Any, BinaryIO, Dict, Optional

import torch

BASE, TIMES = 2**28, 16
# What an object takes in memory, and what a call may make (a tensor, an empty
# log), at least; bytes.
OBJECT, CALL = 64, 1024
# Bytes of a number by the name of its storage; of others at least 1.
ITEMS = dict(Double=8, Float=4, Half=2, BFloat16=2, Long=8, Int=4, Short=2,
             ComplexDouble=16, ComplexFloat=8)
# What torch would cast without a word.
WEIGHTS = ('weight', 'bias', 'running_mean', 'running_var')
ZIP = b'PK\x03\x04'
END, END64, LOCATOR64 = b'PK\x05\x06', b'PK\x06\x06', b'PK\x06\x07'
# A file from before zip archives is five pickles and then the numbers.
PICKLES = 5
CHANGE = ('APPEND', 'APPENDS', 'SETITEM', 'SETITEMS', 'ADDITEMS', 'BUILD')
CALLS = ('REDUCE', 'NEWOBJ', 'NEWOBJ_EX', 'INST', 'OBJ')
KEEP = ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE')
FETCH = ('GET', 'BINGET', 'LONG_BINGET')


class LimitError(Exception):
    """What a file asks for beyond the limits, in words."""


class _Thing:
    """On the stack of a pickle: what it takes in memory, and a short value."""
    __slots__ = 'size', 'value'

    def __init__(self, size: int, value: Any = None):
        self.size, self.value = size, value


class _Storages:
    """Holds what a pickle says of its storages against the file."""

    def __init__(self, size: int, records: Optional[Dict[str, int]] = None):
        self.size, self.records = size, records
        self.declared = {}

    def check(self, value: Any) -> None:
        known = isinstance(value, tuple) and len(value) in (5, 6)
        _, kind, key, _, count = value[:5] if known else [None] * 5
        if not isinstance(count, int) or not isinstance(kind, str):
            raise LimitError('it has a storage that is not described as '
                             'torch.save does')
        name = kind.split()[-1].replace('Storage', '')
        size = count * ITEMS.get(name, 1)
        there = self.size
        if self.records is not None:
            there = self.records.get(f'data/{key}', 0)
        self.declared[key] = max(size, self.declared.get(key, 0))
        if not 0 <= size <= there or sum(
                self.declared.values()) > self.size:
            raise LimitError(f'its storage {key!r} is to have {size} bytes, '
                             f'for which the file has {there}')


def _taken(op: Any, stack: list, marks: list) -> list:
    """What an operation takes from the stack, the lowest first."""
    count = len(op.stack_before)
    if pickletools.markobject in op.stack_before:
        count = op.stack_before.index(pickletools.markobject)
        count += len(stack) - marks.pop()
    if count > len(stack):
        raise pickle.UnpicklingError('an operation lacks its operands')
    taken = stack[len(stack) - count:]
    del stack[len(stack) - count:]
    return taken


def _check_pickle(file: BinaryIO, size: int, storages: _Storages) -> None:
    """Run a pickle on sizes in place of objects.

    Args:
        file: At its start; afterwards behind its end.
        size: Of the pickle, at most.
        storages: Of the file.
    """
    stack, marks, memo, made = [], [], {}, 0
    for op, arg, _ in pickletools.genops(file):
        if op.name in KEEP:
            memo[len(memo) if arg is None else arg] = stack[-1]
            continue
        if op.name in FETCH:
            stack.append(memo[arg])
            continue
        if op.name == 'MARK':
            marks.append(len(stack))
            continue
        taken = _taken(op, stack, marks)
        changed = taken.pop(0) if op.name in CHANGE else None
        inner = sum(thing.size for thing in taken)
        cost = CALL + inner if op.name in CALLS else OBJECT
        value = arg
        if isinstance(arg, (str, bytes)):
            cost += len(arg)
            value = arg if len(arg) < 256 else None
        elif op.name.startswith('TUPLE') and len(taken) < 8:
            value = tuple(thing.value for thing in taken)
        elif op.name == 'BINPERSID':
            storages.check(taken[0].value)
        made += cost
        thing = changed or _Thing(cost, value)
        thing.size += inner
        if max(made, thing.size) > BASE + TIMES * size:
            raise LimitError(
                f'its pickle, of at most {size} bytes, makes objects of over '
                f'{max(made, thing.size) >> 20} MB')
        stack += [thing] * len(op.stack_after)


def _directory(file: BinaryIO, size: int) -> list:
    """The table of a zip archive, if there is but one way to find it."""
    with zipfile.ZipFile(file) as archive:
        members, comment = archive.infolist(), archive.comment
    file.seek(max(0, size - 22 - 20 - 56))
    tail = file.read()
    located = tail[-42:-38] == LOCATOR64
    if comment or tail[-22:-18] != END or located and (
            tail[:4] != END64
            or int.from_bytes(tail[-34:-26], 'little') != size - len(tail)):
        raise LimitError('its archive does not end as torch.save ends it')
    return members


def _check_zip(file: BinaryIO, size: int) -> None:
    members = _directory(file, size)
    names = {member.filename.lower() for member in members}
    if any('constants.pkl' in name for name in names):
        raise pickle.UnpicklingError('GLOBAL torch.jit')
    if len(names) < len(members):
        raise LimitError('several members of its archive have one name')
    for member in members:
        if (member.compress_type != zipfile.ZIP_STORED
                or member.compress_size != member.file_size):
            raise LimitError(
                f'{member.filename} in it is compressed, from '
                f'{member.file_size} to {member.compress_size} bytes, which '
                'torch.save never does')
    total = sum(member.file_size for member in members)
    if total > size:
        raise LimitError(f'the members of its archive are to have {total} '
                         f'bytes, and the file has {size}')
    records = {
        member.filename.partition('/')[2]: member.file_size
        for member in members
    }
    with zipfile.ZipFile(file) as archive:
        for member in members:
            if member.filename.lower().endswith('.pkl'):
                content = io.BytesIO(archive.read(member))
                _check_pickle(content, member.file_size,
                              _Storages(size, records))


def check_limits(file: BinaryIO) -> None:
    """Hold a file of ``torch.save`` against the rule of this module.

    Args:
        file: Open for reading; afterwards at its start.

    Raises:
        LimitError: It breaks the rule.
        Exception: Nearly any: it is damaged, or none of ``torch.save``.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(len(ZIP)) == ZIP:
        _check_zip(file, size)
    else:
        file.seek(0)
        if tarfile.is_tarfile(file):  # how torch 0.1 wrote
            raise pickle.UnpicklingError('a tar archive')
        file.seek(0)
        storages = _Storages(size)
        for _ in range(PICKLES):
            _check_pickle(file, size, storages)
    file.seek(0)


def check_tensors(node: Any, meta: bool) -> None:
    """Refuse tensors that no weight can be copied from, at any depth.

    Args:
        node: What was read.
        meta: Whether it was asked for without values.

    Raises:
        LimitError: There is one.
    """
    for key, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, torch.Tensor):
            kinds = [
                *['sparse'] * (value.layout != torch.strided),
                *['quantised'] * value.is_quantized,
                *['without values'] * (value.is_meta and not meta),
                *['without a name'] * (not isinstance(key, str)),
                *[f'of {value.dtype}'] * (
                    str(key).rpartition('.')[2] in WEIGHTS
                    and not value.is_floating_point())
            ]
            if kinds:
                raise LimitError(
                    f'the tensor {key!r} in it is {kinds[0]}; weights are '
                    'dense tensors of real numbers, by name')
        else:
            check_tensors(value, meta)
