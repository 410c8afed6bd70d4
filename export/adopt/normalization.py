"""What a graph does to its input by itself: a mean that it subtracts, a scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from fcnkit.export.adopt.foreign_graph import IMAGE

__all__ = ["OwnNormalization", "own_normalization"]


@dataclass(frozen=True, kw_only=True)
class OwnNormalization:
    """``(input - mean) / std`` per channel, in the graph's order of channels."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def subtracts(self) -> bool:
        """Whether a mean is subtracted."""
        return any(abs(value) > 1e-6 for value in self.mean)

    @property
    def scale(self) -> int | None:
        """255 where the input is 0..255, 1 where it is 0..1; None where both are possible."""
        largest = max(map(abs, (*self.mean, *self.std)))
        if largest > 2:
            return 255
        return 1 if self.subtracts else None

    def text(self) -> str:
        """Return the numbers as a person reads them."""
        mean, std = (",".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}"


def own_normalization(model: onnx.ModelProto) -> OwnNormalization | None:
    """Follow the input of a cleaned graph through additions and products with constants.

    A batch normalization is none: networks begin with one whatever their images look like.

    Args:
        model: A cleaned graph.

    Returns:
        What these amount to; None where there are none.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    factor, offset = np.ones(3), np.zeros(3)
    name, found = IMAGE, False
    while True:
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1:
            break
        node = readers[0]
        if node.op_type == "Identity":
            name = node.output[0]
            continue
        step = _step(node, name, stored)
        if step is None:
            break
        by, plus = step
        factor, offset = factor * by, offset * by + plus
        name, found = node.output[0], True
    if not found or not np.all(factor):
        return None
    mean, std = -offset / factor, 1 / factor
    return OwnNormalization(
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
    )


def _step(
    node: onnx.NodeProto, name: str, stored: dict[str, onnx.TensorProto]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return by what a node multiplies each channel and what it adds; None for other nodes."""
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return None
    first = node.input[0] == name
    other = _per_channel(stored.get(node.input[1 if first else 0]))
    if other is None or node.input[0] == node.input[1]:
        return None
    one, zero = np.ones(3), np.zeros(3)
    if node.op_type == "Add":
        return one, other
    if node.op_type == "Sub":
        return (one, -other) if first else (-one, other)
    if node.op_type == "Mul":
        return other, zero
    return (1 / other, zero) if first and np.all(other) else None


def _per_channel(tensor: onnx.TensorProto | None) -> NDArray[np.float64] | None:
    """Return a stored constant as one value per channel of (N, 3, H, W)."""
    if tensor is None or int(np.prod(tensor.dims)) not in (1, 3):
        return None
    values = numpy_helper.to_array(tensor).astype(np.float64)
    if values.size == 1:
        return np.repeat(values.reshape(1), 3)
    # (3,) alone would be along the width.
    shape = (1,) * max(0, 4 - values.ndim) + values.shape
    return values.reshape(3) if shape[1] == 3 else None
