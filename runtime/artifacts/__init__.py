"""What model files say about themselves: specs, ONNX files, engines and their sidecars.

Files are read and checked here without onnx, TensorRT or any other library.
"""

from __future__ import annotations
