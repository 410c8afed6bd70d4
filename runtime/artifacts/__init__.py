"""What files say about themselves: model specs, ONNX files, engines and their sidecars."""

from __future__ import annotations
