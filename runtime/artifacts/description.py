"""What a model file is, as plain data that prints and dumps to JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

from fcnkit.runtime.artifacts.engine_file import read_engine_file
from fcnkit.runtime.artifacts.onnx_file import TensorInfo, read_onnx_file
from fcnkit.runtime.files import sha256_of

__all__ = ["CHECKPOINT_SUFFIXES", "ENGINE_SUFFIXES", "ModelKind", "describe", "kind_of"]

ModelKind = Literal["checkpoint", "onnx", "engine"]
"""The kinds of model files."""

CHECKPOINT_SUFFIXES: Final = (".pt", ".pth", ".safetensors")
"""What the names of checkpoints end in."""

ENGINE_SUFFIXES: Final = (".engine", ".plan")
"""What the names of engines end in."""


def kind_of(path: Path) -> ModelKind:
    """Return the kind of a model file by its name; a name that is not known is taken for ONNX."""
    if path.suffix in CHECKPOINT_SUFFIXES:
        return "checkpoint"
    return "engine" if path.suffix in ENGINE_SUFFIXES else "onnx"


def describe(path: str | Path) -> dict[str, Any]:
    """Say what an ONNX file or an engine is, without running it.

    Args:
        path: An ONNX file, or an engine with its ``.json`` sidecar beside it.

    Returns:
        ``path``, ``kind`` (``onnx`` or ``engine``), ``bytes``, ``sha256`` and ``spec``; of an ONNX
        file also ``opset``, ``inputs`` and ``outputs`` (declared names, dtypes and dimensions) and
        ``as_exported`` (whether graph and spec are those that were exported); of an engine also
        whatever else its sidecar holds.

    Raises:
        ArtifactError: The file or its sidecar is missing, broken or without a spec.
    """
    path = Path(path)
    kind = "engine" if path.suffix in ENGINE_SUFFIXES else "onnx"
    found = _describe_engine(path) if kind == "engine" else _describe_onnx(path)
    facts = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return {"path": str(path), "kind": kind, **facts, **found}


def _describe_onnx(path: Path) -> dict[str, Any]:
    file = read_onnx_file(path)
    return {
        "opset": file.opset,
        "inputs": [_tensor(tensor) for tensor in file.inputs],
        "outputs": [_tensor(tensor) for tensor in file.outputs],
        "as_exported": file.is_as_exported,
        "spec": asdict(file.spec(where=str(path))),
    }


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "dims": list(tensor.dims)}


def _describe_engine(path: Path) -> dict[str, Any]:
    engine = read_engine_file(path)
    return {**engine.sidecar, "spec": asdict(engine.spec)}
