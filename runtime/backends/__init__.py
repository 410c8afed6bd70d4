"""Backends: the libraries that run an exported model, behind one small protocol.

A backend's library is imported when that backend is opened, never before, and nothing falls back:
an asked-for backend is what runs, or a BackendUnavailableError with the remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fcnkit.errors import BackendUnavailableError, message
from fcnkit.runtime.backends.base import Backend, CheckedBackend
from fcnkit.runtime.backends.onnxruntime import PROVIDERS, OnnxRuntimeBackend
from fcnkit.runtime.backends.openvino import OpenVinoBackend
from fcnkit.runtime.backends.probe import BackendStatus, list_backends
from fcnkit.runtime.backends.settings import Compute, check_compute

__all__ = [
    "Backend",
    "BackendStatus",
    "CheckedBackend",
    "Compute",
    "OnnxRuntimeBackend",
    "OpenVinoBackend",
    "list_backends",
    "open_backend",
]

_NAMES = ("auto", *PROVIDERS, "openvino")
_ENGINE_SUFFIXES = (".engine", ".plan")


def open_backend(
    path: str | Path,
    *,
    backend: str = "auto",
    threads: int | None = None,
    compute: Compute = "auto",
    options: Mapping[str, str] | None = None,
    spec: str | Path | None = None,
) -> CheckedBackend:
    """Open an exported model.

    Args:
        path: An ONNX file that fcnkit exported.
        backend: ``onnxruntime``, ``onnxruntime-cuda``, ``onnxruntime-tensorrt`` or ``openvino``;
            ``auto`` is ``onnxruntime``.
        threads: CPU threads of one call; every core by default.
        compute: The precision to compute in; ``auto`` is what the file says.
        options: The library's own options, by the library's names.
        spec: For an engine without a sidecar: the file that holds its spec.

    Returns:
        The opened backend; close it, or use it in a ``with`` block. Its ``details`` say what
        really runs.

    Raises:
        ArtifactError: The file is missing, broken or without a fitting spec.
        MissingExtraError: The backend's package is not installed.
        BackendUnavailableError: The backend or precision does not run here, or the file is an
            engine.
        TypeError: threads is no integer, or options map no text to text.
        ValueError: The backend, precision or an option is unknown.
    """
    path = Path(path)
    compute = check_compute(compute, what="open_backend")
    if backend in ("tensorrt", "tensorrt-rtx") or path.suffix in _ENGINE_SUFFIXES:
        got = path.name if path.suffix in _ENGINE_SUFFIXES else f"backend={backend!r}"
        rule = "this version builds TensorRT engines but does not run them"
        remedy = "open the .onnx file that the engine is built from, with backend='onnxruntime'"
        raise BackendUnavailableError(message("open_backend", rule, got, remedy))
    if backend not in _NAMES:
        rule = f"backend must be one of {', '.join(_NAMES)}"
        raise ValueError(message("open_backend", rule, backend, "see fcnkit doctor"))
    if spec is not None:
        rule = "spec= is for engines; an ONNX file holds its own spec"
        raise ValueError(message("open_backend", rule, str(spec), "leave it out"))
    options = options or {}
    if backend == "openvino":
        return OpenVinoBackend(path, threads=threads, compute=compute, options=options)
    name = "onnxruntime" if backend == "auto" else backend
    return OnnxRuntimeBackend(path, name=name, threads=threads, compute=compute, options=options)
