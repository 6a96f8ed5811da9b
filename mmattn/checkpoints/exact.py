"""Checkpoints that must fit a whole model."""
from typing import List

from torch import Tensor, nn

from .repair import without_module
from .safe import CheckpointError, load_checkpoint_file

# Names shown in an error.
SHOWN = 3


def _misfits(model: nn.Module, weights: dict) -> List[str]:
    here = model.state_dict()
    return [
        *(f'{key} is missing' for key in here if key not in weights),
        *(f'{key} is unknown' for key in weights if key not in here),
        *(f'{key} has shape {tuple(weights[key].shape)} instead of '
          f'{tuple(value.shape)}' for key, value in here.items()
          if isinstance(weights.get(key), Tensor)
          and weights[key].shape != value.shape)
    ]


def load_exactly(model: nn.Module, path: str, whose: str,
                 advice: str) -> dict:
    """Fill a model from a checkpoint that must fit it name by name.

    A prefix ``'module.'``, which wrappers for several GPUs leave, is taken
    off, as ``load_from`` does.

    Args:
        model: What is filled.
        path: A local file, read without running code of it.
        whose: What the error calls the model.
        advice: What to do where the file does not fit: a sentence.

    Returns:
        What the checkpoint holds beside the weights.

    Raises:
        CheckpointError: It cannot be read, or belongs to another model.
        FileNotFoundError: There is no such file.
    """
    loaded = load_checkpoint_file(path)
    weights = loaded
    if isinstance(loaded, dict):
        weights = loaded.get('state_dict', loaded)
    if not isinstance(weights, dict):
        raise CheckpointError(f'checkpoint {path} holds no weights by name: '
                              f'{type(weights).__name__}')
    weights = without_module(weights)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # PyTorch's, or a backbone's report
        wrong = _misfits(model, weights) or [str(error)]
        more = len(wrong) - SHOWN
        raise CheckpointError(
            f'checkpoint {path} does not fit {whose}: '
            f'{"; ".join(wrong[:SHOWN])}'
            f'{f", and {more} more" if more > 0 else ""}. {advice}') from None
    return loaded.get('meta') or {}
