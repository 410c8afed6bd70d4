"""Choices of the export that need no library, so that the command line can read them."""

from __future__ import annotations

from typing import Literal

__all__ = ["Activations", "Ranges"]

Activations = Literal["uint8", "int8"]
"""How int8 graphs write activations. ``uint8`` with a zero point lets ONNX Runtime drop every ReLU,
and its fast kernels take it. ``int8`` is symmetric, without zero point: TensorRT takes nothing
else, and ONNX Runtime computes most of such a graph in float32."""

Ranges = Literal["minmax", "percentile", "entropy"]
"""How int8 chooses the range of a tensor from the values it has on the calibration pictures.
``minmax``: all of them. ``percentile``: 99.99 % of them; those outside are clipped. ``entropy``:
the range whose rounding loses the least information (Kullback-Leibler divergence of histograms)."""
