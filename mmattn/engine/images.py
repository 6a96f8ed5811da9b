"""Images that are damaged, or of a kind that loses something, are named.

mmcv hands what a file holds to its decoder. A damaged one ends in an
assertion without the file's name, or, by some decoders, in a picture that is
half grey; values of 16 bits lose their lower 8 without a word.
"""
import logging
import struct
from typing import Any, Optional

import mmcv
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile as StockLoader
from mmengine import fileio
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS as ROOT
from mmengine.runner import Runner

from ..registry import TRANSFORMS

SOI, SOS, EOI = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
PNG = b'\x89PNG\r\n\x1a\n'
# What is said of an image, by its kind.
KINDS = dict(
    deep='has more than 8 bits a channel, of which 8 are kept',
    clipped='has more than 8 bits, and Pillow makes all above 255 white; set '
    "imdecode_backend='cv2'",
    cmyk='is of the kind CMYK; its colours are converted without a colour '
    'profile',
    alpha='has transparency, which is left out: what was hidden shows',
    unread='cannot be read and is left out (ignore_empty)')
# What our tools put in the place of a toolbox's loader.
CHECKED = {
    'mmcv.transforms.loading.LoadImageFromFile': 'mmattn.LoadImageFromFile',
    'mmseg.datasets.transforms.loading.LoadAnnotations':
    'mmattn.segmentation.LoadAnnotations',
}


class ImageError(ValueError):
    """Which file cannot be read, why, and what to do."""

    @classmethod
    def of(cls, path: str, why: str) -> 'ImageError':
        return cls(f'{path}: {why}. Get the file again, or take it out of '
                   'the annotations')


def find_fault(data: bytes) -> Optional[str]:
    """What is wrong with an image file, if its first and last bytes tell.

    Empty files, and files of JPEG, PNG and WebP that lack their end. A
    decoder notices the rest.
    """
    if not data:
        return 'the file is empty'
    whole = True
    if data.startswith(SOI):
        # An end behind the last scan; other things may follow it, and a
        # small preview may lie before the scan.
        whole = data.endswith(EOI) or data.rfind(EOI) > data.rfind(SOS)
    elif data.startswith(PNG):
        whole = data.rfind(b'IEND') > 0
    elif data[:4] == b'RIFF' and data[8:12] == b'WEBP':
        whole = len(data) >= 8 + int.from_bytes(data[4:8], 'little')
    return None if whole else 'the image is truncated: its end is missing'


def _jpeg_kind(data: bytes) -> str:
    place = 2
    while data[place] == 0xFF and data[place + 1] != SOS[1]:
        marker, size = data[place + 1], data[place + 2:place + 4]
        # Frames, among whose numbers three others lie.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            depth, channels = data[place + 4], data[place + 9]
            return 'deep' if depth > 8 else 'cmyk' * (channels == 4)
        place += 2 + int.from_bytes(size, 'big')
    return ''


def _png_kind(data: bytes) -> str:
    depth, colours = data[24], data[25]
    if depth > 8:
        return 'deep'
    # Colours 4 and 6 have alpha; a tRNS chunk lies before the first IDAT.
    clear = colours in (4, 6) or b'tRNS' in data[:data.find(b'IDAT')]
    return 'alpha' * clear


def _tiff_kind(data: bytes) -> str:
    order = '<' if data.startswith(b'II') else '>'

    def number(form: str, place: int) -> int:
        return struct.unpack_from(order + form, data, place)[0]

    start = number('I', 4)
    tags = {}
    for place in range(start + 2, start + 2 + 12 * number('H', start), 12):
        count = number('I', place + 4)
        far = number('I', place + 8) if count > 2 else place + 8
        tags[number('H', place)] = number('H', far), count
    if tags.get(258, (1, ))[0] > 8:  # bits
        return 'deep'
    if tags.get(262, (1, ))[0] == 5:  # colours
        return 'cmyk'
    return 'alpha' * (338 in tags)


def find_kind(data: bytes) -> str:
    """The key of ``KINDS`` for what a 3-channel image of a file loses.

    ``''`` where nothing is lost, as of grey and palette images, or where the
    file is neither JPEG, PNG nor TIFF.
    """
    try:
        if data.startswith(SOI):
            return _jpeg_kind(data)
        if data.startswith(PNG):
            return _png_kind(data)
        if data[:4] in (b'II*\0', b'MM\0*'):
            return _tiff_kind(data)
    except (IndexError, struct.error):  # a header that the decoder refuses
        pass
    return ''


class Counts:
    """How many images of each kind were read, by all workers of a process.

    The 1st, 10th, 100th, ... is named in a warning. There is no lock: of two
    workers that count in the same moment, one may not be counted.
    """

    def __init__(self):
        self._counts = torch.zeros(len(KINDS), dtype=torch.long)
        self._counts.share_memory_()

    def __deepcopy__(self, memo: dict) -> 'Counts':
        return self  # datasets are copied; what was read stays read

    def add(self, kind: str, path: str) -> None:
        place = list(KINDS).index(kind)
        count = self._counts[place].item() + 1
        self._counts[place] = count
        if str(count).strip('0') == '1':
            # mmengine shows nothing but errors of ranks other than 0.
            rank = get_rank()
            print_log(
                f'{path} {KINDS[kind]}; such images read so far'
                f'{f" by rank {rank}" if rank else ""}: {count}',
                logger='current',
                level=logging.ERROR if rank else logging.WARNING)


@TRANSFORMS.register_module()
class LoadImageFromFile(StockLoader):
    """mmcv's ``LoadImageFromFile``, which names each file that is not sound.

    Empty, cut and unreadable files are an error. Grey and palette images
    become three channels without a word. Where something is lost (``KINDS``),
    the 1st, 10th, 100th, ... file is named in a warning with their number,
    unless ``color_type='unchanged'`` asks for what the file holds. Our tools
    put this in the place of mmcv's.

    Args:
        As mmcv's. With ``ignore_empty=True`` whatever cannot be read gives
        None, as there, and is counted.

    Raises:
        ImageError: The file is damaged or no image.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.counts = Counts()

    def _get(self, path: str) -> bytes:
        if self.file_client_args is not None:
            client = fileio.FileClient.infer_client(
                self.file_client_args, path)
            return client.get(path)
        return fileio.get(path, backend_args=self.backend_args)

    def _decode(self, path: str, data: bytes) -> np.ndarray:
        fault = find_fault(data)
        if fault:
            raise ImageError.of(path, fault)
        try:
            image = mmcv.imfrombytes(
                data, flag=self.color_type, backend=self.imdecode_backend)
        except Exception as error:  # its kinds differ by decoder
            raise ImageError.of(
                path, f'{self.imdecode_backend} cannot read it as an image '
                f'({type(error).__name__}: {error})') from error
        if image is None:
            raise ImageError.of(
                path, f'{self.imdecode_backend} cannot read it as an image; '
                f'it starts with {bytes(data[:8])!r}')
        return image

    def _kind(self, data: bytes) -> str:
        if (self.color_type == 'unchanged'
                or self.imdecode_backend == 'tifffile'):
            return ''
        kind = find_kind(data)
        if self.imdecode_backend == 'pillow' and kind == 'deep' and (
                not data.startswith(PNG) or data[25] in (0, 4)):
            return 'clipped'
        return kind

    def transform(self, results: dict) -> Optional[dict]:
        path = results['img_path']
        try:
            data = self._get(path)
            image = self._decode(path, data)
        except Exception:
            if not self.ignore_empty:
                raise
            self.counts.add('unread', path)
            return None
        kind = self._kind(data)
        if kind:
            self.counts.add(kind, path)
        if self.to_float32:
            image = image.astype(np.float32)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def check_images(node: Any) -> None:
    """Put the loaders that name files in the place of stock ones.

    Names are looked up in the current default scope, so that a loader that a
    project registers by a stock name of its own stays.

    Args:
        node: A config's data loader or pipeline, changed in place, or any
            part of one.
    """
    if isinstance(node, dict):
        kind = node.get('type')
        names = [name.rpartition('.')[2] for name in CHECKED]
        if isinstance(kind, str) and kind.rpartition('.')[2] in names:
            with ROOT.switch_scope_and_registry(None) as registry:
                try:
                    kind = registry.get(kind)
                except RuntimeError:  # no such name, as building it will say
                    pass
        full = (f'{getattr(kind, "__module__", "")}.'
                f'{getattr(kind, "__name__", "")}')
        if full in CHECKED:
            node['type'] = CHECKED[full]
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            check_images(child)


def check_runner(runner: Runner) -> Runner:
    """Have a Runner that has built no loader yet read by the checked ones.

    Its config was dumped when it was built and keeps the stock names, which
    other programs look for in a run's copy.
    """
    for split in ('train', 'val', 'test'):
        check_images(getattr(runner, f'_{split}_dataloader', None))
    return runner
