"""Backends: the libraries that run an exported model, behind one small protocol.

A backend's library is imported when that backend is opened, never before, and nothing falls back:
an asked-for backend is what runs, or a BackendUnavailableError with the remedy.
"""

from __future__ import annotations

from pathlib import Path

from fcnkit.errors import BackendUnavailableError, message
from fcnkit.runtime.backends.base import Backend, CheckedBackend
from fcnkit.runtime.backends.onnxruntime import PROVIDERS, OnnxRuntimeBackend
from fcnkit.runtime.backends.openvino import OpenVinoBackend
from fcnkit.runtime.backends.probe import BackendStatus, list_backends

__all__ = [
    "Backend",
    "BackendStatus",
    "CheckedBackend",
    "OnnxRuntimeBackend",
    "OpenVinoBackend",
    "list_backends",
    "open_backend",
]

_NAMES = ("auto", *PROVIDERS, "openvino")
_ENGINE_SUFFIXES = (".engine", ".plan")


def open_backend(
    path: str | Path, *, backend: str = "auto", threads: int | None = None
) -> CheckedBackend:
    """Open an exported model.

    Args:
        path: An ONNX file that fcnkit exported.
        backend: ``onnxruntime``, ``onnxruntime-cuda``, ``onnxruntime-tensorrt`` or ``openvino``;
            ``auto`` is ``onnxruntime``.
        threads: CPU threads of one call; every core by default.

    Returns:
        The opened backend; close it, or use it in a ``with`` block.

    Raises:
        ArtifactError: The file is missing, broken or without a fitting spec.
        MissingExtraError: The backend's package is not installed.
        BackendUnavailableError: The backend does not run here, or the file is an engine.
        ValueError: The backend is unknown.
    """
    path = Path(path)
    if backend in ("tensorrt", "tensorrt-rtx") or path.suffix in _ENGINE_SUFFIXES:
        got = path.name if path.suffix in _ENGINE_SUFFIXES else f"backend={backend!r}"
        rule = "this version builds TensorRT engines but does not run them"
        remedy = "open the .onnx file that the engine is built from, with backend='onnxruntime'"
        raise BackendUnavailableError(message("open_backend", rule, got, remedy))
    if backend not in _NAMES:
        rule = f"backend must be one of {', '.join(_NAMES)}"
        raise ValueError(message("open_backend", rule, backend, "see fcnkit doctor"))
    if backend == "openvino":
        return OpenVinoBackend(path, threads=threads)
    name = "onnxruntime" if backend == "auto" else backend
    return OnnxRuntimeBackend(path, name=name, threads=threads)
