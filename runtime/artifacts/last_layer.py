"""The weights of the last layer, which the runtime computes: where they are kept and how read.

They lie in an ONNX file as stored tensors that no node reads, and beside an engine as
``model.engine.last_layer``: the weights and then the bias, float32, little-endian.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import ArtifactError, message
from fcnkit.runtime.artifacts.onnx_wire import Source, WireError, fields_of, text_of
from fcnkit.runtime.artifacts.spec import Border, LastLayer, ModelSpec

__all__ = [
    "BIAS_NAME",
    "WEIGHT_NAME",
    "LastLayerWeights",
    "last_layer_path",
    "read_beside_engine",
    "read_in_onnx",
]

WEIGHT_NAME: Final = "fcnkit.last_layer.weight"
BIAS_NAME: Final = "fcnkit.last_layer.bias"
"""The stored tensors of an ONNX file."""


@dataclass(frozen=True, kw_only=True)
class LastLayerWeights:
    """The numbers of a last layer, see ``LastLayer``."""

    weight: NDArray[np.float32]
    """(C, C, K, K), input class first, or (C, K, K) where a class reads its own scores only."""
    bias: NDArray[np.float32]
    """(C,)."""
    border: Border

    @property
    def stride(self) -> int:
        """By how much it enlarges."""
        side: int = self.weight.shape[-1]
        return side // 2

    def to_bytes(self) -> bytes:
        """Return what is hashed, and kept beside an engine."""
        return b"".join(part.astype("<f4").tobytes() for part in (self.weight, self.bias))

    def described(self) -> LastLayer:
        """Return what a spec says about it."""
        content = self.to_bytes()
        return LastLayer(
            stride=self.stride,
            border=self.border,
            form="dense" if self.weight.ndim == 4 else "diagonal",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )


def last_layer_path(engine: Path) -> Path:
    """Return where the weights of an engine's last layer lie, beside the engine."""
    return engine.with_name(f"{engine.name}.last_layer")


def read_beside_engine(engine: Path, spec: ModelSpec, *, remedy: str) -> LastLayerWeights | None:
    """Read the weights that lie beside an engine.

    Args:
        engine: The engine.
        spec: Its spec.
        remedy: What the user can do about a file that is missing or damaged.

    Returns:
        The weights; None where the spec has no last layer.

    Raises:
        ArtifactError: The file is missing, or is not the one that the spec describes.
    """
    layer, path = spec.last_layer, last_layer_path(engine)
    if layer is None:
        return None
    if not path.is_file():
        rule = f"the weights of its last layer, {path.name}, must lie beside it"
        raise ArtifactError(message(str(engine), rule, "no such file", remedy))
    # Check the size first, so that a long file is not read for nothing.
    content = path.read_bytes() if path.stat().st_size == layer.bytes else b""
    return _checked(content, spec, layer, where=str(path), remedy=remedy)


def read_in_onnx(path: Path, spec: ModelSpec) -> LastLayerWeights | None:
    """Read the weights that an ONNX file holds.

    Args:
        path: The file.
        spec: Its spec.

    Returns:
        The weights; None where the spec has no last layer.

    Raises:
        ArtifactError: The tensors are missing, or are not those that the spec describes.
    """
    layer = spec.last_layer
    if layer is None:
        return None
    remedy = "export the model again with fcnkit export onnx"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            found = _stored(Source(data))
        except (WireError, UnicodeDecodeError) as error:
            rule = "must be a complete ONNX file"
            raise ArtifactError(message(str(path), rule, str(error), remedy)) from None
    missing = [name for name in (WEIGHT_NAME, BIAS_NAME) if name not in found]
    if missing:
        rule = "must hold the weights of its last layer, as its spec says"
        raise ArtifactError(message(str(path), rule, f"no tensor {missing[0]}", remedy))
    content = found[WEIGHT_NAME] + found[BIAS_NAME]
    return _checked(content, spec, layer, where=str(path), remedy=remedy)


def _stored(data: Source) -> dict[str, bytes]:
    """Return the values of the last layer's tensors by name (ModelProto, GraphProto)."""
    found: dict[str, bytes] = {}
    for number, _, start, stop in fields_of(data, 0, len(data.content)):
        if number != 7:  # graph
            continue
        for inner, _, at, end in fields_of(data, start, stop):
            if inner != 5:  # initializer
                continue
            name, values = _tensor(data, at, end)
            if name in (WEIGHT_NAME, BIAS_NAME):
                found[name] = values
    return found


def _tensor(data: Source, start: int, stop: int) -> tuple[str, bytes]:
    """Return name and raw data of a TensorProto; no data where the tensor is another one."""
    name, place = "", (0, 0)
    for field in fields_of(data, start, stop):
        if field[0] == 8:
            name = text_of(data, field)
        elif field[0] == 9:
            place = field[2], field[3]
    wanted = name in (WEIGHT_NAME, BIAS_NAME)
    return name, bytes(data.content[place[0] : place[1]]) if wanted else b""


def _checked(
    content: bytes, spec: ModelSpec, layer: LastLayer, *, where: str, remedy: str
) -> LastLayerWeights:
    if len(content) != layer.bytes or hashlib.sha256(content).hexdigest() != layer.sha256:
        rule = "must hold the weights of the last layer that its spec describes"
        raise ArtifactError(message(where, rule, "others", remedy))
    values = np.frombuffer(content, "<f4").astype(np.float32)
    shape = layer.weights_shape(spec.num_classes)
    count = math.prod(shape)
    return LastLayerWeights(
        weight=values[:count].reshape(shape), bias=values[count:], border=layer.border
    )
