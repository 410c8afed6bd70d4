"""Reads what an ONNX file says about itself, and checks it, without the onnx package.

An ONNX file is one protobuf message, and what is wanted here (opset, declared inputs and outputs,
``metadata_props``, the types of the nodes) is plain enough to be picked out while the values of the
weights are skipped. One reader for every backend means that a broken file gets the same short error
everywhere, before a library is loaded that would print its own.

A file may have been changed after its export. So its spec is given out only where the graph's
tensors and precision are those of the spec, and what the export measured only while the graph is
the one that was measured.

Source: ``onnx/onnx.proto`` (messages ModelProto, GraphProto, ValueInfoProto).
"""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from fcnkit.errors import ArtifactError, message, warn_of_model
from fcnkit.runtime.artifacts.onnx_graph import MAX_DEPTH, Graph, TensorInfo, read_graph
from fcnkit.runtime.artifacts.onnx_precision import PrecisionProof, prove_precision
from fcnkit.runtime.artifacts.onnx_wire import Source, WireError, fields_of, text_of
from fcnkit.runtime.artifacts.signature import check_signature, narrowed
from fcnkit.runtime.artifacts.spec import METADATA_KEY, ModelSpec

__all__ = [
    "DIFFERS_KEY",
    "KEPT_KEY",
    "SEAL_KEY",
    "OnnxFile",
    "TensorInfo",
    "read_onnx_bytes",
    "read_onnx_file",
]

DIFFERS_KEY: Final = "fcnkit.differs"
"""Key in ``metadata_props``: the backends that gave other labels at the export, by comma."""

KEPT_KEY: Final = "kept_fp32"
"""Key in ``metadata_props``: the modules that stay in float32, by comma."""

SEAL_KEY: Final = "fcnkit.seal"
"""Key in ``metadata_props``: the SHA-256 of graph and spec at the export, see OnnxFile.seal."""

_NOT_ONNX = "must be a complete ONNX file"
_COPY_AGAIN = "copy the file again or export the model again with fcnkit export onnx"


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """What an ONNX file declares."""

    opset: int
    """Version of the default operator set, 0 where none is declared."""
    graph: Graph = field(repr=False)
    functions: int
    """Number of functions that the file defines for itself; fcnkit writes none."""
    metadata: dict[str, str]
    computed: str
    """SHA-256 of what is computed: graph, operator sets and functions."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The declared inputs, without the weights."""
        return self.graph.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The declared outputs."""
        return self.graph.outputs

    @property
    def kept(self) -> tuple[str, ...]:
        """The modules that were left in float32 on purpose."""
        return tuple(filter(None, self.metadata.get(KEPT_KEY, "").split(", ")))

    @property
    def differs(self) -> tuple[str, ...]:
        """The backends that gave other labels for this file when it was exported."""
        return tuple(filter(None, self.metadata.get(DIFFERS_KEY, "").split(", ")))

    @property
    def seal(self) -> str:
        """SHA-256 of what is computed together with what is said about it."""
        said = (self.metadata.get(key, "") for key in (METADATA_KEY, KEPT_KEY))
        return hashlib.sha256("\n".join((self.computed, *said)).encode()).hexdigest()

    @cached_property
    def is_as_exported(self) -> bool:
        """Whether graph and spec are those that fcnkit wrote."""
        return self.metadata.get(SEAL_KEY) == self.seal

    def spec(self, *, where: str) -> ModelSpec:
        """Read the ModelSpec that the metadata holds, and compare it with the graph.

        Where the graph fixes a side or the batch, the legal shapes are narrowed to that. Where
        graph or spec were changed after the export, the parity is None, and a warning says so.

        Args:
            where: The file, for the error.

        Returns:
            The spec.

        Raises:
            ArtifactError: There is none, or it is not what this version reads, or the graph has
                other inputs and outputs or computes in another precision.
        """
        text = self.metadata.get(METADATA_KEY)
        if text is None:
            rule = f"the ONNX file must hold a model spec ({METADATA_KEY})"
            raise ArtifactError(
                message(where, rule, "none", "export the model with fcnkit export onnx")
            )
        spec = narrowed(ModelSpec.from_json(text, where=where), self.inputs)
        check_signature(self.inputs, self.outputs, spec, where=where)
        self.prove(spec, where=where)
        if spec.source.parity is None or self.is_as_exported:
            return spec
        text = message(
            where,
            "its graph and spec must be those that were exported to keep the parity",
            "others" if SEAL_KEY in self.metadata else "a file without their hash",
            "the parity is taken as unknown, compare it again with fcnkit verify",
        )
        warn_of_model(text)
        return replace(spec, source=replace(spec.source, parity=None))

    def prove(self, spec: ModelSpec, *, where: str) -> PrecisionProof:
        """Check that the graph computes in the precision of a spec, see ``prove_precision``."""
        if self.functions:
            rule = "its precision must be visible, in a graph without functions"
            remedy = "inline them with onnx.inliner, or export the model again"
            raise ArtifactError(message(where, rule, f"{self.functions} functions", remedy))
        return prove_precision(self.graph, spec.precision, self.kept, where=where)


def read_onnx_file(path: str | Path) -> OnnxFile:
    """Read an ONNX file's declarations and nodes; the values of the weights are only hashed.

    Args:
        path: The file.

    Returns:
        Opset, graph and metadata.

    Raises:
        ArtifactError: There is no such file, or it is not a complete ONNX file.
    """
    path = Path(path)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise ArtifactError(message(str(path), "must be a model file", got, "check the path"))
    if path.stat().st_size == 0:
        raise ArtifactError(message(str(path), _NOT_ONNX, "an empty file", _COPY_AGAIN))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return read_onnx_bytes(content, where=str(path))


def read_onnx_bytes(content: bytes | mmap.mmap, *, where: str) -> OnnxFile:
    """Read the content of an ONNX file.

    Args:
        content: The bytes.
        where: The file, for the error.

    Returns:
        As read_onnx_file.

    Raises:
        ArtifactError: They are not a complete ONNX file.
    """
    try:
        _refuse_outside_weights(Source(content), "model", (0, len(content)), depth=0)
        return _read_model(Source(content))
    except _OutsideError as error:
        rule = "an ONNX file must hold its weights itself"
        remedy = "save it as one file; other files are not read"
        raise ArtifactError(message(where, rule, str(error), remedy)) from None
    except (WireError, UnicodeDecodeError) as error:
        raise ArtifactError(message(where, _NOT_ONNX, str(error), _COPY_AGAIN)) from None


class _OutsideError(Exception):
    """The weights are in another file."""


_COMPUTED: Final = (7, 8, 20, 25)
"""The fields of a ModelProto that say what is computed: graph, operator sets, training and
functions. The others hold names, versions and metadata."""


def _read_model(data: Source) -> OnnxFile:
    opset = functions = 0
    metadata: dict[str, str] = {}
    graph: Graph | None = None
    computed = hashlib.sha256()
    for entry in fields_of(data, 0, len(data.content)):
        number, _, start, stop = entry
        if number in _COMPUTED:
            computed.update(b"%d %d " % (number, stop - start))
            with memoryview(data.content) as view, view[start:stop] as span:
                computed.update(span)
        if number == 7:
            if graph is not None:
                raise WireError("a file with two graphs")
            graph = read_graph(data, start, stop)
        elif number == 8:
            opset = max(opset, _read_opset(data, start, stop))
        elif number == 14:
            pair = {inner[0]: text_of(data, inner) for inner in fields_of(data, start, stop)}
            metadata[pair.get(1, "")] = pair.get(2, "")
        elif number == 25:
            functions += 1
    if graph is None:
        raise WireError("a file without a graph")
    return OnnxFile(
        opset=opset,
        graph=graph,
        functions=functions,
        metadata=metadata,
        computed=computed.hexdigest(),
    )


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


def _refuse_outside_weights(data: Source, kind: str, span: tuple[int, int], *, depth: int) -> None:
    """Refuse tensors whose values are in another file, wherever in the model they are.

    Libraries follow such paths, older ones out of the model's folder too.
    """
    if depth > MAX_DEPTH:
        raise WireError("graphs nested without end")
    for entry in fields_of(data, *span):
        if kind != "tensor":
            inner = _INSIDE[kind].get(entry[0])
            if inner:
                _refuse_outside_weights(data, inner, entry[2:], depth=depth + 1)
        elif entry[0] == 13:  # external_data, an entry each of location, offset and length
            pair = {inner[0]: text_of(data, inner) for inner in fields_of(data, *entry[2:])}
            raise _OutsideError(f"{pair.get(1, 'a place')} {pair.get(2, '')!r}")
        elif entry[0] == 14 and entry[1] == 1:  # data_location EXTERNAL
            raise _OutsideError("weights somewhere else")


def _read_opset(data: Source, start: int, stop: int) -> int:
    """Return the version if this entry is the default operator set, else 0."""
    domain, version = "", 0
    for entry in fields_of(data, start, stop):
        if entry[0] == 1:
            domain = text_of(data, entry)
        elif entry[0] == 2:
            version = entry[1]
    return version if domain in ("", "ai.onnx") else 0
