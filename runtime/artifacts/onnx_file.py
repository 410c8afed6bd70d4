"""Reading what an ONNX file says about itself, without the onnx package.

An ONNX file is one protobuf message, and the few fields wanted here (opset, declared inputs and
outputs, ``metadata_props``) are plain enough to be picked out while the weights are skipped. One
reader for every backend means that a broken file gets the same short error everywhere, before a
library is loaded that would print its own.

Source: ``onnx/onnx.proto`` (messages ModelProto, GraphProto, ValueInfoProto) and the protobuf
encoding guide (varints, wire types 0, 1, 2 and 5).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fcnkit.errors import ArtifactError, message
from fcnkit.runtime.artifacts.spec import METADATA_KEY, ModelSpec

__all__ = ["OnnxFile", "TensorInfo", "read_onnx_file"]

_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    10: "float16",
    16: "bfloat16",
}
_NOT_ONNX = "must be a complete ONNX file"
_COPY_AGAIN = "copy the file again or export the model again with fcnkit export onnx"


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A declared input or output: a dimension is a number, or a name such as ``32*h``."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """What an ONNX file declares."""

    opset: int
    """Version of the default operator set, 0 where none is declared."""
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: dict[str, str]

    def spec(self, *, where: str) -> ModelSpec:
        """Read the ModelSpec that the metadata holds.

        Args:
            where: The file, for the error.

        Returns:
            The spec.

        Raises:
            ArtifactError: There is none, or it is not what this version reads.
        """
        text = self.metadata.get(METADATA_KEY)
        if text is None:
            rule = f"the ONNX file must hold a model spec ({METADATA_KEY})"
            raise ArtifactError(
                message(where, rule, "none", "export the model with fcnkit export onnx")
            )
        return ModelSpec.from_json(text, where=where)


def read_onnx_file(path: str | Path) -> OnnxFile:
    """Read an ONNX file's declarations; the weights are not touched.

    Args:
        path: The file.

    Returns:
        Opset, inputs, outputs and metadata.

    Raises:
        ArtifactError: There is no such file, or it is no complete ONNX file.
    """
    path = Path(path)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise ArtifactError(message(str(path), "must be a model file", got, "check the path"))
    if path.stat().st_size == 0:
        raise ArtifactError(message(str(path), _NOT_ONNX, "an empty file", _COPY_AGAIN))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        data = _Source(content)
        try:
            _refuse_outside_weights(data, "model", (0, len(content)), depth=0)
            return _read_model(data)
        except _OutsideError as error:
            rule = "an ONNX file must hold its weights itself"
            remedy = "save it as one file; other files are not read"
            raise ArtifactError(message(str(path), rule, str(error), remedy)) from None
        except (_WireError, UnicodeDecodeError) as error:
            raise ArtifactError(message(str(path), _NOT_ONNX, str(error), _COPY_AGAIN)) from None


class _WireError(Exception):
    """The bytes are no protobuf message of the expected kind."""


class _OutsideError(Exception):
    """The weights are in another file."""


_MAX_FIELDS = 1_000_000
"""A file with more is no network: a ResNet-101 with its head has some ten thousand."""


class _Source:
    """The bytes of a file, and how many more fields will be read from it."""

    __slots__ = ("content", "fields_left")

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self.content = content
        self.fields_left = _MAX_FIELDS


_Field = tuple[int, int, int, int]
"""Field number, value of a varint (else 0), start and stop of the payload."""


def _varint(data: _Source, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 70:
        byte = data.content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise _WireError("bytes that end early or are no protobuf")


def _fields(data: _Source, at: int, stop: int) -> Iterator[_Field]:
    """Walk over one message; a payload that leaves the message is an error."""
    while at < stop:
        data.fields_left -= 1
        if data.fields_left < 0:
            raise _WireError(f"more than {_MAX_FIELDS} fields")
        key, at = _varint(data, at, stop)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise _WireError("bytes that are no protobuf")
        value = 0
        if wire == 0:
            start = at
            value, at = _varint(data, at, stop)
        elif wire == 2:
            length, start = _varint(data, at, stop)
            at = start + length
        elif wire in (1, 5):
            start, at = at, at + (8 if wire == 1 else 4)
        else:
            raise _WireError("bytes that are no protobuf")
        if at > stop:
            raise _WireError(f"a file that ends {at - stop} bytes early or is no protobuf")
        yield number, value, start, at


def _text(data: _Source, field: _Field) -> str:
    return bytes(data.content[field[2] : field[3]]).decode("utf-8")


def _read_model(data: _Source) -> OnnxFile:
    opset = 0
    metadata: dict[str, str] = {}
    graph: tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]] | None = None
    for field in _fields(data, 0, len(data.content)):
        number, _, start, stop = field
        if number == 7:
            graph = _read_graph(data, start, stop)
        elif number == 8:
            opset = max(opset, _read_opset(data, start, stop))
        elif number == 14:
            pair = {inner[0]: _text(data, inner) for inner in _fields(data, start, stop)}
            metadata[pair.get(1, "")] = pair.get(2, "")
    if graph is None:
        raise _WireError("a file without a graph")
    return OnnxFile(opset=opset, inputs=graph[0], outputs=graph[1], metadata=metadata)


_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Which fields of a message hold, some levels down, tensors: onnx/onnx.proto."""

_MAX_DEPTH = 100


def _refuse_outside_weights(data: _Source, kind: str, span: tuple[int, int], *, depth: int) -> None:
    """Refuse tensors whose values are in another file, wherever in the model they are.

    Libraries follow such paths, older ones out of the model's folder too.
    """
    if depth > _MAX_DEPTH:
        raise _WireError("graphs nested without end")
    for field in _fields(data, *span):
        if kind != "tensor":
            inner = _INSIDE[kind].get(field[0])
            if inner:
                _refuse_outside_weights(data, inner, field[2:], depth=depth + 1)
        elif field[0] == 13:  # external_data, an entry each of location, offset and length
            pair = {inner[0]: _text(data, inner) for inner in _fields(data, *field[2:])}
            raise _OutsideError(f"{pair.get(1, 'a place')} {pair.get(2, '')!r}")
        elif field[0] == 14 and field[1] == 1:  # data_location EXTERNAL
            raise _OutsideError("weights somewhere else")


def _read_opset(data: _Source, start: int, stop: int) -> int:
    """Return the version if this entry is the default operator set, else 0."""
    domain, version = "", 0
    for field in _fields(data, start, stop):
        if field[0] == 1:
            domain = _text(data, field)
        elif field[0] == 2:
            version = field[1]
    return version if domain in ("", "ai.onnx") else 0


def _read_graph(
    data: _Source, start: int, stop: int
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    inputs, outputs, weights = [], [], set()
    for number, _, at, end in _fields(data, start, stop):
        if number == 11:
            inputs.append(_read_tensor_info(data, at, end))
        elif number == 12:
            outputs.append(_read_tensor_info(data, at, end))
        elif number == 5:
            weights |= {_text(data, f) for f in _fields(data, at, end) if f[0] == 8}
    # Old files list their weights among the inputs as well.
    return tuple(info for info in inputs if info.name not in weights), tuple(outputs)


def _read_tensor_info(data: _Source, start: int, stop: int) -> TensorInfo:
    name, dtype = "", "not a tensor"
    dims: tuple[int | str, ...] = ()
    for field in _fields(data, start, stop):
        if field[0] == 1:
            name = _text(data, field)
        elif field[0] == 2:
            for kind, _, at, end in _fields(data, field[2], field[3]):
                if kind == 1:
                    dtype, dims = _read_tensor_type(data, at, end)
    return TensorInfo(name=name, dtype=dtype, dims=dims)


def _read_tensor_type(data: _Source, start: int, stop: int) -> tuple[str, tuple[int | str, ...]]:
    dtype = "undefined"
    dims: list[int | str] = []
    for number, value, at, end in _fields(data, start, stop):
        if number == 1:
            dtype = _DTYPES.get(value, f"ONNX type {value}")
        elif number == 2:
            for _, _, dim_at, dim_end in _fields(data, at, end):
                dims.append(_read_dim(data, dim_at, dim_end))
    return dtype, tuple(dims)


def _read_dim(data: _Source, start: int, stop: int) -> int | str:
    for field in _fields(data, start, stop):
        if field[0] == 1:
            return field[1]
        if field[0] == 2:
            return _text(data, field)
    return "?"
