"""Models and pictures for the tools, each wrong one named in one line."""
import copy
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from torch import Tensor, nn

from ..checkpoints import CheckpointError, load_exactly
from ..engine.build import build_model
from ..engine.images import check_images, find_fault
from ..engine.configs import (UsageError, read_config, require_file,
                              require_model)
from ..engine.launch import revert_sync_bn, set_data_root, type_name

TASKS = dict(
    mmdet='detection', mmseg='segmentation', mmpretrain='classification')
PICTURES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
SHORT = 224  # to which a classifier's picture is enlarged for its text
# In place of a checkpoint.
RANDOM = 'random'


class Loaded(NamedTuple):
    """A model in evaluation mode, and what belongs to it."""
    name: str
    task: str
    cfg: Config
    model: nn.Module
    classes: Optional[Sequence[str]] = None


def task_of(cfg: Config) -> str:
    """What a config's model does, by its toolbox."""
    scope = cfg.get('default_scope')
    if scope is None:  # new-style configs name classes instead
        kind = cfg.model.type
        scope = kind if isinstance(kind, str) else kind.__module__
    toolbox = scope.split('.')[0]
    if toolbox not in TASKS:
        raise UsageError(f'{cfg.filename} is a config of {toolbox!r}; models '
                         f'of {", ".join(TASKS)} can be visualised')
    return TASKS[toolbox]


def _start_at_random(model: nn.Module) -> None:
    for module in model.modules():
        # What would read the file that training starts from.
        init_cfg = getattr(module, 'init_cfg', None)
        if isinstance(init_cfg, dict) and init_cfg['type'] == 'Pretrained':
            module.init_cfg = None
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # a paragraph for every parameter otherwise
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)


def load_weights(model: nn.Module, path: str, config: str) -> dict:
    """Fill a model from a checkpoint that must fit it exactly.

    Returns:
        What the checkpoint holds beside the weights.

    Raises:
        UsageError: It cannot be read, or belongs to another model.
    """
    require_file(path, 'checkpoint')
    try:
        return load_exactly(
            model, path, f'the model of {config}', 'Give the config that it '
            'was trained with (its work_dir holds a copy)')
    except (CheckpointError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None


def load_model(config: Union[str, Path],
               checkpoint: str,
               device: str = 'cpu',
               data_root: Optional[str] = None) -> Loaded:
    """Build a config's model, with a checkpoint's weights, for evaluation.

    Args:
        config: Its path.
        checkpoint: A file, read without running code of it; ``'random'``
            leaves the weights at a random start.
        device: Where it is put.
        data_root: Where the data of the config is, if elsewhere.

    Raises:
        UsageError: What cannot be used, and why.
    """
    cfg = read_config(str(config))
    require_model(cfg)
    if data_root is not None:
        set_data_root(cfg, data_root)
    task = task_of(cfg)
    revert_sync_bn(cfg.model)
    model = build_model(cfg)
    meta = {}
    if checkpoint == RANDOM:
        _start_at_random(model)
    else:
        meta = load_weights(model, checkpoint, str(config))
    classes = (meta.get('dataset_meta') or {}).get('classes')
    return Loaded(
        Path(config).stem, task, cfg, model.to(device).eval(), classes)


def unique_names(models: Sequence[Loaded]) -> List[Loaded]:
    """The models under names that differ: one config, several checkpoints."""
    names = [loaded.name for loaded in models]
    return [
        loaded if names.count(loaded.name) == 1 else
        loaded._replace(name=f'{loaded.name}-{i + 1}')
        for i, loaded in enumerate(models)
    ]


def scope_of(cfg: Config):
    """A context in which names without a prefix mean the config's toolbox."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope'))


def class_name(loaded: Loaded, label: int) -> str:
    """The name of a class, or its number where nobody says."""
    if loaded.classes and label < len(loaded.classes):
        return str(loaded.classes[label])
    return f'class {label}'


def find_images(path: str, limit: Optional[int] = None) -> List[Path]:
    """The picture, or those of a folder in the order of their names.

    Raises:
        UsageError: There is none.
    """
    place = Path(path)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UsageError(f'images {path!r} is neither a file nor a folder')
    found = sorted(
        p for p in place.iterdir()
        if p.suffix.lower() in PICTURES and p.is_file())
    if not found:
        raise UsageError(f'folder {path!r} holds no picture '
                         f'({", ".join(PICTURES)})')
    return found[:limit]


def read_image(path: Union[str, Path]) -> np.ndarray:
    """A picture as ``(H, W, 3)``, blue first.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        fault = find_fault(Path(path).read_bytes())
    except OSError as error:
        fault = error.strerror
    image = None if fault else cv2.imread(str(path))
    if image is None:
        raise UsageError(f'{path} cannot be read as a picture '
                         f'({fault or "OpenCV does not know what it is"}); '
                         'replace it or take it away')
    return image


def build_dataset(cfg: Config, dataset: dict, option: str) -> Any:
    """A dataset of a config, which names each image that is damaged.

    Args:
        cfg: The config.
        dataset: Of it.
        option: What tells the command where the data are.

    Raises:
        UsageError: The data are not there, or not what the dataset reads.
    """
    dataset = copy.deepcopy(dataset)
    with scope_of(cfg):
        check_images(dataset)
        try:
            built = DATASETS.build(dataset)
        except Exception as error:  # its kinds differ by dataset
            raise UsageError(
                f'the data of {cfg.filename} cannot be read '
                f'({type(error).__name__}: {error}); say where they are with '
                f'{option}') from None
    if not len(built):
        raise UsageError(f'the data of {cfg.filename} hold no image; say '
                         f'where they are with {option}')
    return built


def _test_dataset(cfg: Config) -> dict:
    if not cfg.get('test_dataloader'):
        raise UsageError(f'{cfg.filename} has no test_dataloader, which says '
                         'how pictures are prepared')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:  # wrappers
        dataset = dataset.dataset
    return dataset


class Prepared(NamedTuple):
    """A picture as a model gets it.

    Attributes:
        inputs: ``(1, 3, H, W)``, normalised and padded.
        samples: What else the model is called with.
        size: Height and width without the padding, which is right and below.
        picture: What of the file it shows, ``(H', W', 3)``, blue first: the
            whole for detectors and segmentors, which answer in its pixels;
            what was cropped for classifiers.
    """
    inputs: Tensor
    samples: Any
    size: Tuple[int, int]
    picture: np.ndarray

    def over(self, heat: np.ndarray) -> np.ndarray:
        """Bring a map of the network to the size of the picture."""
        heat = cv2.resize(
            heat.astype(np.float32), tuple(self.inputs.shape[:1:-1]))
        heat = heat[:self.size[0], :self.size[1]]
        return cv2.resize(heat, self.picture.shape[1::-1])


def prepare(loaded: Loaded, path: Path) -> Prepared:
    """Read a picture as the config's test does.

    Raises:
        UsageError: It cannot be read.
    """
    picture = read_image(path)
    steps = [
        copy.deepcopy(step) for step in _test_dataset(loaded.cfg).pipeline
        if 'Annotations' not in type_name(step)
    ]
    with scope_of(loaded.cfg):
        pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        data = pseudo_collate(
            [pipeline(dict(img_path=str(path), img_id=0))])
    image, = data['inputs']
    if loaded.task == 'classification':
        picture = np.ascontiguousarray(image.numpy().transpose(1, 2, 0))
    data = loaded.model.data_preprocessor(data, False)
    return Prepared(data['inputs'], data['data_samples'],
                    tuple(image.shape[1:]), picture)


def find_layer(loaded: Loaded, name: str) -> nn.Module:
    """A module by its full name.

    Raises:
        UsageError: There is none; says which come close.
    """
    modules = dict(loaded.model.named_modules())
    if name in modules and name:
        return modules[name]
    parent = name.rpartition('.')[0]
    while parent and parent not in modules:
        parent = parent.rpartition('.')[0]
    near = ', '.join(
        f'{parent}.{child}'.lstrip('.')
        for child, _ in modules[parent].named_children())
    raise UsageError(f'{loaded.name} has no layer {name!r}; '
                     f'{parent or "the model"} holds {near or "no layers"}')


def stage_layers(loaded: Loaded) -> List[str]:
    """The names of the backbone's stages, first to last."""
    backbone = getattr(loaded.model, 'backbone', None)
    names = getattr(backbone, 'stage_names', None)
    if names is None:  # a stock network's
        names = [n for n, _ in getattr(backbone, 'named_children', list)()
                 if n.startswith('layer')]
    if not names:
        raise UsageError(f'the stages of {loaded.name} are not known; name '
                         'layers with --layer')
    return [f'backbone.{name}' for name in names]


def normalised(loaded: Loaded, image: np.ndarray) -> Tensor:
    """A picture in a network's colours, ``(1, 3, H, W)``, without padding."""
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    data = dict(inputs=[tensor], data_samples=None)
    inputs = loaded.model.data_preprocessor(data, False)['inputs']
    return inputs[..., :image.shape[0], :image.shape[1]]
