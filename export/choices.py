"""Choices of the export that need no library, so that the command line can read them."""

from __future__ import annotations

from typing import Literal

__all__ = ["Activations"]

Activations = Literal["uint8", "int8"]
"""How int8 graphs write activations. ``uint8`` with a zero point lets ONNX Runtime drop every ReLU,
and its fast kernels take it. ``int8`` is symmetric, without zero point: TensorRT takes nothing
else, and ONNX Runtime computes most of such a graph in float32."""
