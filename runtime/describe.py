"""What a model file is, as plain data that prints and dumps to JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fcnkit.errors import ArtifactError, message
from fcnkit.runtime.files import sha256_of
from fcnkit.runtime.onnx_file import TensorInfo, read_onnx_file
from fcnkit.runtime.spec import ModelSpec

__all__ = ["describe"]

_BUILD_AGAIN = "build the engine again with fcnkit export engine"


def describe(path: str | Path) -> dict[str, Any]:
    """Say what an ONNX file or an engine is, without running it.

    Args:
        path: An ONNX file, or an engine with its ``.json`` sidecar beside it.

    Returns:
        ``path``, ``kind`` (``onnx`` or ``engine``), ``bytes``, ``sha256`` and ``spec``; of an ONNX
        file also ``opset``, ``inputs`` and ``outputs`` (declared names, dtypes and dimensions); of
        an engine also whatever else its sidecar holds.

    Raises:
        ArtifactError: The file or its sidecar is missing, broken or without a spec.
    """
    path = Path(path)
    kind = "engine" if path.suffix in (".engine", ".plan") else "onnx"
    found = _describe_engine(path) if kind == "engine" else _describe_onnx(path)
    sha256 = sha256_of(path)
    if found.get("plan_sha256", sha256) != sha256:
        rule = "must be the sidecar of the engine beside it"
        got = f"one of an engine with sha256 {found['plan_sha256']}"
        raise ArtifactError(message(f"{path}.json", rule, got, _BUILD_AGAIN))
    facts = {"bytes": path.stat().st_size, "sha256": sha256}
    return {"path": str(path), "kind": kind, **facts, **found}


def _describe_onnx(path: Path) -> dict[str, Any]:
    file = read_onnx_file(path)
    return {
        "opset": file.opset,
        "inputs": [_tensor(tensor) for tensor in file.inputs],
        "outputs": [_tensor(tensor) for tensor in file.outputs],
        "spec": asdict(file.spec(where=str(path))),
    }


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "dims": list(tensor.dims)}


def _describe_engine(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ArtifactError(
            message(str(path), "must be a model file", "no such file", "check the path")
        )
    sidecar = path.with_name(f"{path.name}.json")
    rule = "an engine needs its sidecar with a spec beside it"
    try:
        held = json.loads(sidecar.read_bytes())
    except OSError:
        raise ArtifactError(message(str(sidecar), rule, "no such file", _BUILD_AGAIN)) from None
    except ValueError as error:
        raise ArtifactError(message(str(sidecar), rule, str(error), _BUILD_AGAIN)) from None
    if not isinstance(held, dict) or "spec" not in held:
        raise ArtifactError(message(str(sidecar), rule, "no key spec", _BUILD_AGAIN))
    spec = ModelSpec.from_json(json.dumps(held["spec"]), where=str(sidecar))
    return {**held, "spec": asdict(spec)}
