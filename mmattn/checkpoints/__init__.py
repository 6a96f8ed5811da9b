from .convert import convert
from .exact import load_exactly
from .safe import (CheckpointError, install_safe_loading,
                   load_checkpoint_file)

__all__ = [
    'CheckpointError', 'convert', 'install_safe_loading',
    'load_checkpoint_file', 'load_exactly'
]
