"""Networks as files that run without this package, checked against eager.

Needs torch; ``.onnx`` needs onnx, onnxscript and onnxruntime as well.
"""
from .files import FORMATS, ExportError, Report, export, load
from .network import Network, output_names

__all__ = [
    'ExportError', 'FORMATS', 'Network', 'Report', 'export', 'load',
    'output_names'
]
