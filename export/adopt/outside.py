"""Weights of an ONNX file that are in a second file beside it.

The second file is named by the first, which comes from a stranger. So it is read only where it is
an ordinary file below the first one's folder, reached without links and without ``..``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto

from fcnkit.errors import ArtifactError, message

__all__ = ["LARGEST", "bring_inside", "tensors_of"]

LARGEST: Final = 2**31 - 1
"""Bytes of an ONNX file: what one protobuf message can hold."""

_WIDTHS: Final[dict[int, int]] = {
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32), 4),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64), 8),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16), 2),
    **dict.fromkeys((TensorProto.INT16, TensorProto.UINT16), 2),
    **dict.fromkeys((TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL), 1),
}
"""Bytes of an element by its ONNX type; the others are not read from a second file."""


def bring_inside(model: onnx.ModelProto, path: Path, *, size: int) -> int:
    """Read the weights that are in other files into the model.

    Args:
        model: What the first file holds, changed in place.
        path: The first file.
        size: Its bytes.

    Returns:
        The number of tensors that were read.

    Raises:
        ArtifactError: A place is not allowed, not there or too short, or there would be 2 GiB.
    """
    outside = [t for t in tensors_of(model) if t.external_data or t.data_location == 1]
    total = size
    places = []
    for tensor in outside:
        place = _Place(tensor, path)
        total += place.length
        _check_total(path, total)
        places.append(place)
    for tensor, place in zip(outside, places, strict=True):
        tensor.raw_data = place.read()
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
    return len(outside)


def _check_total(path: Path, total: int) -> None:
    if total > LARGEST:
        rule = "graph and weights must be smaller than 2 GiB"
        remedy = "use a smaller network; TensorRT builds large ones from the first file itself"
        raise ArtifactError(message(str(path), rule, f"{total} bytes", remedy))


def tensors_of(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor of a model, those in attributes, bodies and functions too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
        yield from _of_attributes(function.attribute_proto)
    for training in model.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)


def _of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        yield from _of_attributes(node.attribute)


def _of_attributes(attributes: Iterable[onnx.AttributeProto]) -> Iterator[TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield sparse.values
            yield sparse.indices
        if attribute.HasField("g"):
            yield from _of_graph(attribute.g)
        for body in attribute.graphs:
            yield from _of_graph(body)


class _Place:
    """Where the values of a tensor are: checked first, read later."""

    def __init__(self, tensor: TensorProto, path: Path) -> None:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        self.name, self.model = tensor.name or "a tensor without a name", path
        self.location = entries.get("location", "")
        self.file = path.parent / self.location
        width = _WIDTHS.get(tensor.data_type)
        if width is None:
            raise self._refused("must be of a plain type", f"ONNX type {tensor.data_type}")
        self.length = width
        for side in tensor.dims:
            self.length *= max(0, side)
            if self.length > LARGEST:
                _check_total(path, self.length)
        self.offset = self._number(entries, "offset", 0)
        length = self._number(entries, "length", self.length)
        if length != self.length:
            raise self._refused(f"must have {self.length} bytes", f"length {length}")
        self._check_path()

    def _number(self, entries: dict[str, str], key: str, default: int) -> int:
        text = entries.get(key, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise self._refused(f"{key} must be a number of bytes", repr(text[:40]))
        return int(text)

    def _check_path(self) -> None:
        rule = "must be in a file below the model's folder, without links and .."
        parts = self.location.replace("\\", "/").split("/")
        if not self.location or "\0" in self.location or len(self.location) > 4096:
            raise self._refused(rule, repr(self.location[:100]))
        if Path(self.location).is_absolute() or ".." in parts or ":" in parts[0]:
            raise self._refused(rule, repr(self.location))
        at = self.model.parent
        for part in Path(self.location).parts:
            at /= part
            if at.is_symlink():
                raise self._refused(rule, f"{self.location!r}, where {part!r} is a link")
        if not self.file.is_file():
            raise self._refused("must be in a file that is there", f"no {self.location!r}")

    def read(self) -> bytes:
        """Read the values, once more refusing links."""
        descriptor = os.open(self.file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                rule = "must be in a file below the model's folder, without links and .."
                raise self._refused(rule, f"{self.location!r}, which has other names too")
            if self.offset + self.length > found.st_size:
                end = f"{self.offset + self.length} bytes"
                got = f"{self.location!r} of {found.st_size} bytes"
                raise self._refused(f"must end within its file, at {end}", got)
            file.seek(self.offset)
            content = file.read(self.length)
        if len(content) != self.length:
            raise self._refused("must be read whole", f"{len(content)} bytes")
        return content

    def _refused(self, rule: str, got: str) -> ArtifactError:
        remedy = "copy both files of the model into one folder, or save it as one file"
        return ArtifactError(
            message(str(self.model), f"the weight {self.name} {rule}", got, remedy)
        )
