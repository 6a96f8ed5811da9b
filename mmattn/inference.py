"""Run a trained model on pictures or a video.

The command ``mmattn infer`` is :func:`infer`.
"""
import json
import os
import sys
import tempfile
from itertools import chain
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

import cv2
import mmcv
import numpy as np
import torch
from mmengine.utils import ProgressBar
from PIL import Image

from .engine.images import KINDS, find_fault, find_kind
from .engine.launch import UsageError
from .inferencers import Model, Result, build

VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm',
          '.wmv')
RESULTS = 'predictions.json'


class PictureError(Exception):
    """Why one picture has no result; the others go on."""


def check_picture(path: Path) -> Tuple[int, int]:
    """Return a picture's height and width, upright.

    OpenCV, which reads for the networks, never says what is wrong with a
    file, and some of its readers fill up what a cut file lacks: the file's
    end is looked at, and Pillow reads first. Of grey, CMYK and 16-bit
    pictures OpenCV makes 8 bits of blue, green and red; alpha is left out.

    Raises:
        PictureError: The file is not a whole picture.
    """
    fault = find_fault(path.read_bytes())
    if fault:
        raise PictureError(fault)
    try:
        with Image.open(path) as picture:
            picture.load()
    # Pillow's ways to say so, by the format of the file
    except (OSError, SyntaxError, ValueError, EOFError,
            Image.DecompressionBombError) as error:
        why = str(error).replace(str(path), path.name)
        raise PictureError(f'no picture, or damaged ({why})') from None
    try:
        image = mmcv.imread(str(path))  # as the toolboxes do
    except cv2.error:  # over OpenCV's own limit of pixels
        image = None
    if image is None:
        raise PictureError(
            f'OpenCV cannot read this kind of picture ({picture.format}, '
            f'mode {picture.mode}); convert it to PNG with 8 bits')
    return image.shape[:2]


def find_files(source: Path) -> List[Path]:
    """The file, or those of a folder by name; subfolders are not entered.

    Raises:
        UsageError: There is none.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UsageError(f'{str(source)!r} is neither a file nor a folder '
                         f'(looked from {os.getcwd()}); check the path')
    files = sorted(path for path in source.iterdir()
                   if path.is_file() and not path.name.startswith('.'))
    if not files:
        raise UsageError(f'folder {str(source)!r} holds no file; give a '
                         'picture, a folder of pictures or a video')
    return files


def _predict(model: Model, path: Path) -> Result:
    try:
        with torch.no_grad():
            return model(str(path))
    except Exception as error:  # the toolbox's own, whatever it is
        raise PictureError(f'the model fails on it: {type(error).__name__}: '
                           f'{error}') from error


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise UsageError(f'{path} cannot be written')


def _pictures(model: Model, files: List[Path], out: Path) -> dict:
    """The results of pictures, and why some have none."""
    images, failed = [], []
    bar = ProgressBar(len(files), file=sys.stderr)
    for path in files:
        try:
            height, width = check_picture(path)
            result = _predict(model, path)
        except PictureError as error:
            failed.append(dict(image=path.name, error=str(error)))
        else:
            drawn = Path('pictures', f'{path.name}.png')
            _write(out / drawn, result.drawn[..., ::-1])
            entry = dict(image=path.name, height=height, width=width,
                         picture=str(drawn))
            kind = find_kind(path.read_bytes())
            if kind:
                entry['note'] = KINDS[kind]
            if result.labels is not None:
                labels = Path('labels', f'{path.name}.png')
                _write(out / labels, result.labels)
                entry['labels'] = str(labels)
            images.append({**entry, **result.entry})
        bar.update()
    print(file=sys.stderr)
    return dict(images=images, failed=failed)


def open_video(path: Path) -> Tuple[mmcv.VideoReader, np.ndarray]:
    """A video behind its first frame, and that.

    Raises:
        UsageError: It cannot be read.
    """
    video = mmcv.VideoReader(str(path))
    first = video.read() if video.opened else None
    if first is None:
        raise UsageError(
            f'{path} cannot be read as a video: it is damaged, or OpenCV has '
            'no decoder for it here; convert it (ffmpeg -i IN -c:v mjpeg '
            'OUT.avi) or give a folder of its frames')
    return video, first


def _frames(video: mmcv.VideoReader) -> Iterator[np.ndarray]:
    frame = video.read()
    while frame is not None:
        yield frame
        frame = video.read()


def _video(model: Model, path: Path, video: mmcv.VideoReader,
           first: np.ndarray, out: Path) -> dict:
    """The results of a video's frames, which also become a video."""
    height, width = first.shape[:2]
    fps = video.fps if video.fps > 0 else 25.
    drawn = Path(f'{path.stem}.mp4')
    writer = cv2.VideoWriter(
        str(out / drawn), cv2.VideoWriter_fourcc(*'mp4v'), fps,
        (width, height))
    if not writer.isOpened():
        raise UsageError(f'OpenCV cannot write {out / drawn} here (no mp4v '
                         'encoder); give a folder of frames instead')
    images, failed = [], []
    bar = ProgressBar(max(video.frame_cnt, 0), file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        # The inferencers take arrays in other colours than they draw them.
        frame = Path(folder, 'frame.bmp')
        for i, image in enumerate(chain([first], _frames(video))):
            _write(frame, image)
            try:
                result = _predict(model, frame)
            except PictureError as error:
                failed.append(dict(frame=i, error=str(error)))
                writer.write(image)
            else:
                writer.write(cv2.resize(
                    np.ascontiguousarray(result.drawn[..., ::-1]),
                    (width, height)))
                entry = dict(frame=i)
                if result.labels is not None:
                    labels = Path('labels', path.name, f'{i:06d}.png')
                    _write(out / labels, result.labels)
                    entry['labels'] = str(labels)
                images.append({**entry, **result.entry})
            bar.update()
    print(file=sys.stderr)
    writer.release()
    return dict(
        video=path.name, height=height, width=width, fps=fps,
        announced_frames=video.frame_cnt, picture=str(drawn), frames=images,
        failed=failed)


def infer(config: str,
          checkpoint: str,
          source: str,
          out: str,
          device: Optional[str] = None,
          score_thr: Optional[float] = None) -> dict:
    """Run a model on pictures or a video; write pictures and JSON.

    ``out/predictions.json`` holds ``config``, ``checkpoint``, ``task``,
    ``classes``, for detectors ``score_thr``, and ``images``, one entry each:

    - ``image``, its file's name, ``height``, ``width``, and ``picture``, the
      drawn one below ``out``; ``note``, what was lost in reading it, if
      anything was;
    - of a detector ``objects``: ``label`` (from 0), ``class``, ``score``,
      ``box`` (left, top, right, bottom in pixels) and, if the model makes
      masks, ``mask`` (COCO's compressed run lengths);
    - of a segmentor ``labels``, a PNG of class numbers, and ``shares``, the
      part of the pixels of each class that occurs;
    - of a classifier ``top``: up to five of ``label``, ``class``, ``score``,
      best first.

    For a video there are ``video``, ``height``, ``width``, ``fps``,
    ``announced_frames`` (by its header) and ``picture``, the drawn video,
    once, and ``frames`` in place of ``images``, with ``frame`` (from 0).
    ``failed`` names each picture or frame without a result, and why.

    Args:
        config: Of mmdet, mmsegmentation or mmpretrain.
        checkpoint: A local file that fits it exactly, read without running
            code of it.
        source: A picture, a folder of them or a video.
        out: The folder to write to; made if need be.
        device: Where to run; default: what mmengine chooses.
        score_thr: Lowest score of an object, in pictures and JSON; default:
            0.3. Detectors only.

    Returns:
        What the JSON holds.

    Raises:
        UsageError: What cannot be used, and why.
    """
    place, folder = Path(source), Path(out)
    files = find_files(place)
    is_video = place.is_file() and place.suffix.lower() in VIDEOS
    video = open_video(place) if is_video else ()
    if (folder / RESULTS).exists():
        raise UsageError(f'{folder / RESULTS} exists; give another folder, or '
                         'take the earlier results away')
    task, model = build(config, checkpoint, device, score_thr)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f'folder {out!r} cannot be made: {error}') from None
    head = dict(config=str(config), checkpoint=str(checkpoint), task=task,
                classes=list(model.meta.get('classes') or []))
    if task == 'detection':
        head['score_thr'] = model.score_thr
    if is_video:
        results = {**head, **_video(model, place, *video, folder)}
    else:
        results = {**head, **_pictures(model, files, folder)}
    (folder / RESULTS).write_text(json.dumps(results) + '\n', encoding='utf-8')
    return results
