"""Time and memory of candidates, measured in turn in one run.

The command is ``tools/benchmark.py``. Imports of toolboxes, timm, torchvision
and matplotlib are inside the functions that need them.
"""
from .candidates import Candidate, parse
from .measure import Row, Setting, compare
from .memory import LiveStorages

__all__ = ['Candidate', 'LiveStorages', 'Row', 'Setting', 'compare', 'parse']
