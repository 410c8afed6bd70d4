"""Backends: the libraries that run a model, behind one small protocol.

A backend's library is imported when that backend is opened, never before, and nothing falls back:
an asked-for backend is what runs, or a BackendUnavailableError with the remedy.
"""

from __future__ import annotations

from fcnkit.runtime.backends.base import Backend, CheckedBackend
from fcnkit.runtime.backends.onnxruntime import OnnxRuntimeBackend
from fcnkit.runtime.backends.opening import open_backend
from fcnkit.runtime.backends.openvino import OpenVinoBackend
from fcnkit.runtime.backends.probe import BackendStatus, list_backends
from fcnkit.runtime.backends.settings import Compute

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
