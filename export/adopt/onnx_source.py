"""A network from an ONNX file of another tool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from fcnkit.errors import ArtifactError, BadValueError, message
from fcnkit.export.adopt.foreign_graph import declared, image_input
from fcnkit.export.adopt.outside import LARGEST, bring_inside
from fcnkit.runtime.artifacts.onnx_file import KEPT_KEY
from fcnkit.runtime.artifacts.spec import METADATA_KEY
from fcnkit.runtime.backends.onnxruntime import create_session
from fcnkit.runtime.files import sha256_of

__all__ = ["OnnxSource", "open_onnx_source"]


@dataclass(frozen=True, kw_only=True)
class OnnxSource:
    """An opened file: the model as it is, weights inside, and what runs it."""

    path: Path
    model: onnx.ModelProto
    sha256: str
    input: str
    output: str
    declared: tuple[int | None, ...]
    """Of the input: (N, 3, H, W), None for a free dim."""
    facts: tuple[str, ...]
    """What was found out, a line each."""
    threads: int
    """CPU threads of one run."""

    @cached_property
    def session(self) -> Any:
        """What runs it; made at its first use, after the graph was looked at."""
        content, where = self.model.SerializeToString(), str(self.path)
        return create_session(content, name="onnxruntime", threads=self.threads, where=where)

    def run(self, image_nchw: NDArray[np.float32]) -> NDArray[Any]:
        """Run the file as it is."""
        feeds = {self.input: np.ascontiguousarray(image_nchw)}
        result: NDArray[Any] = np.asarray(self.session.run([self.output], feeds)[0])
        return result


def open_onnx_source(path: Path, *, output: str | None, threads: int) -> OnnxSource:
    """Read an ONNX file of another tool.

    Args:
        path: The file; its weights may be in a second file below the same folder.
        output: The output to adopt; None where there is one only.
        threads: CPU threads of one run.

    Returns:
        The source.

    Raises:
        ArtifactError: It is not an ONNX file, or not one that can be adopted.
        ValueError: output is none of its outputs, or there are several.
    """
    model, outside = _load(path)
    where = str(path)
    info = image_input(model, where=where)
    chosen = _choose_output(model, output, where=where)
    facts = [f"input {info.name}, output {chosen}"]
    if outside:
        facts.append(f"{outside} weights read from a second file")
    return OnnxSource(
        path=path,
        model=model,
        sha256=sha256_of(path),
        input=info.name,
        output=chosen,
        declared=declared(info),
        facts=tuple(facts),
        threads=threads,
    )


def _load(path: Path) -> tuple[onnx.ModelProto, int]:
    where, rule = str(path), "must be a complete ONNX file"
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise ArtifactError(message(where, "must be an ONNX file", got, "check the path"))
    size = path.stat().st_size
    if size > LARGEST:
        got = f"{size} bytes"
        raise ArtifactError(message(where, "must be smaller than 2 GiB", got, "use a smaller one"))
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except (DecodeError, ValueError, RuntimeError, MemoryError) as error:
        got = str(error)[:200] or type(error).__name__
        raise ArtifactError(message(where, rule, got, "copy the file again")) from None
    if not model.graph.node or not model.graph.output:
        got = "a file without a graph"
        raise ArtifactError(message(where, rule, got, "copy the file again"))
    if any(entry.key in (METADATA_KEY, KEPT_KEY) for entry in model.metadata_props):
        rule = "must be a network from elsewhere"
        remedy = "fcnkit reads this file as it is; export another head from its checkpoint"
        raise ArtifactError(message(where, rule, "a file that fcnkit wrote", remedy))
    return model, bring_inside(model, path, size=size)


def _choose_output(model: onnx.ModelProto, wanted: str | None, *, where: str) -> str:
    names: list[str] = [info.name for info in model.graph.output]
    shown = ", ".join(names[:8])
    if wanted is None:
        if len(names) == 1:
            return names[0]
        remedy = f"name the scores with --output {names[0]}"
        rule = "one output is adopted"
        raise BadValueError(message(where, rule, f"{len(names)} outputs: {shown}", remedy))
    if wanted not in names:
        remedy = f"use --output {names[0]}"
        raise BadValueError(message("--output", f"must be one of {shown}", wanted, remedy))
    return wanted
