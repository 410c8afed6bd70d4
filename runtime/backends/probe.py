"""Which backends can really open a session on this machine, found by trying."""

from __future__ import annotations

import base64
import ctypes
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from fcnkit.errors import FcnkitError
from fcnkit.runtime.backends.onnxruntime import PROVIDERS, create_session
from fcnkit.runtime.backends.openvino import compile_model

__all__ = ["BackendStatus", "list_backends"]

PROBE_MODEL: Final = base64.b64decode(
    "CAgSBmZjbmtpdDpnCg8KAXgKAXcSAXkiBENvbnYSBXByb2JlKhMIAQgBCAEIARABIgQAAABAQgF3WhsKAXgSFgoUCAES"
    "EAoCCAEKAggBCgIIAgoCCAJiGwoBeRIWChQIARIQCgIIAQoCCAEKAggCCgIIAkIECgAQEg=="
)
"""A whole ONNX model: one 1x1 convolution that doubles a 2x2 picture. A test builds it again."""


@dataclass(frozen=True, kw_only=True)
class BackendStatus:
    """What came of trying one backend."""

    name: str
    opens: bool
    """Whether ``open_backend`` can run a model with it here."""
    detail: str
    """The library's version where it opens, else what is in the way."""
    remedy: str
    """What makes it open; empty where it does."""


def list_backends() -> list[BackendStatus]:
    """Try every backend on a tiny model.

    Returns:
        One status per backend, best known first.
    """
    statuses = [_try(name, _remedy(name), partial(_probe_onnxruntime, name)) for name in PROVIDERS]
    statuses.append(_try("openvino", "pip install 'fcnkit[openvino]'", _probe_openvino))
    return [*statuses, _tensorrt("tensorrt"), _tensorrt("tensorrt-rtx")]


def _remedy(name: str) -> str:
    if name == "onnxruntime":
        return "pip install 'fcnkit[cpu]'"
    return (
        "on a machine with an NVIDIA GPU: pip uninstall onnxruntime, "
        "then pip install 'fcnkit[gpu]' (never both at once)"
    )


def _try(name: str, remedy: str, probe: Callable[[], str]) -> BackendStatus:
    try:
        detail = probe()
    except FcnkitError as error:
        return BackendStatus(name=name, opens=False, detail=_reason(error), remedy=remedy)
    except Exception as error:  # a library in disrepair fails in its own way: that is the finding
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        return BackendStatus(name=name, opens=False, detail=detail, remedy=remedy)
    return BackendStatus(name=name, opens=True, detail=detail, remedy="")


def _reason(error: FcnkitError) -> str:
    """Take the fact out of an error; the table has its own column for the remedy."""
    return str(error).removeprefix("open_backend: ").split("; ", maxsplit=1)[0]


def _check_doubled(result: object) -> None:
    if not np.array_equal(np.asarray(result), np.full((1, 1, 2, 2), 2, np.float32)):
        raise RuntimeError(f"a wrong answer to a tiny model: {result}")


def _probe_onnxruntime(name: str) -> str:
    session = create_session(PROBE_MODEL, name=name, threads=1, where="a tiny model")
    _check_doubled(session.run(["y"], {"x": np.ones((1, 1, 2, 2), np.float32)})[0])
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}, {session.get_providers()[0]}"


def _probe_openvino() -> str:
    compiled = compile_model(PROBE_MODEL, threads=1, compute="f32", where="a tiny model")
    _check_doubled(compiled([np.ones((1, 1, 2, 2), np.float32)])[0])
    import openvino

    return f"openvino {openvino.__version__.split('-', maxsplit=1)[0]}, CPU"


def _tensorrt(name: str) -> BackendStatus:
    """Look at TensorRT: this version builds with it, and says so, but does not run engines."""
    module = name.replace("-", "_")
    try:
        library = importlib.import_module(module)
        runtime = library.Runtime(library.Logger(library.Logger.ERROR))
    except ImportError:
        detail, remedy = f"no package {module}", f"pip install 'fcnkit[{name}]' to build engines"
    except Exception as error:
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        remedy = f"pip install --force-reinstall 'fcnkit[{name}]'"
    else:
        del runtime
        detail = f"{module} {library.__version__} is installed, {_cuda_driver()}"
        remedy = "this version does not run engines: open the .onnx file with onnxruntime"
    return BackendStatus(name=name, opens=False, detail=detail, remedy=remedy)


def _cuda_driver() -> str:
    """Ask the CUDA driver itself, for a TensorRT Runtime can be created without one."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no CUDA driver"
    code, count = cuda.cuInit(0), ctypes.c_int(0)
    if code == 0:
        code = cuda.cuDeviceGetCount(ctypes.byref(count))
    return f"CUDA driver: {count.value} GPU(s)" if code == 0 else f"CUDA driver error {code}"
