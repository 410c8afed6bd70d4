"""Which backends can really open a session on this machine, found by trying."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from fcnkit.errors import BackendUnavailableError, FcnkitError, missing_extra, parts
from fcnkit.runtime.artifacts.engine_header import Flavor
from fcnkit.runtime.backends.cuda import open_driver
from fcnkit.runtime.backends.onnxruntime import EXTRAS, PROVIDERS, check_provider, create_session
from fcnkit.runtime.backends.openvino import compile_model, cpu_capabilities
from fcnkit.runtime.backends.tensorrt_library import import_library, library_name
from fcnkit.runtime.backends.tensorrt_tiny import run_tiny_engine

__all__ = ["BackendStatus", "list_backends"]

PROBE_MODEL: Final = base64.b64decode(
    "CAgSBmZjbmtpdDpnCg8KAXgKAXcSAXkiBENvbnYSBXByb2JlKhMIAQgBCAEIARABIgQAAABAQgF3WhsKAXgSFgoUCAES"
    "EAoCCAEKAggBCgIIAgoCCAJiGwoBeRIWChQIARIQCgIIAQoCCAEKAggCCgIIAkIECgAQEg=="
)
"""A whole ONNX model: one 1x1 convolution that doubles a 2x2 picture. A test builds it again."""


_NEEDS_GPU = (
    "use a machine with an NVIDIA GPU and its driver; here open the .onnx file with onnxruntime"
)


class _UnfitMachineError(Exception):
    """All packages are there, and no package will help."""


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
        One status per backend: those of ONNX files, of engines, of checkpoints.
    """
    statuses = [_try(name, _remedy(name), partial(_probe_onnxruntime, name)) for name in PROVIDERS]
    statuses.append(_try("openvino", "pip install 'fcnkit[openvino]'", _probe_openvino))
    flavors: tuple[Flavor, ...] = ("tensorrt", "tensorrt-rtx")
    statuses += [
        _try(flavor, f"pip install 'fcnkit[{flavor}]'", partial(_probe_tensorrt, flavor))
        for flavor in flavors
    ]
    statuses.append(_try("torch", "pip install 'fcnkit[train]'", _probe_torch))
    return statuses


def _remedy(name: str) -> str:
    if name == "onnxruntime":
        return "pip install 'fcnkit[cpu]'"
    return (
        "on a machine with an NVIDIA GPU: pip uninstall onnxruntime, "
        f"then pip install 'fcnkit[{EXTRAS[name]}]' (never both at once)"
    )


def _try(name: str, remedy: str, probe: Callable[[], str]) -> BackendStatus:
    try:
        detail = probe()
    except _UnfitMachineError as error:
        return BackendStatus(name=name, opens=False, detail=str(error), remedy=_NEEDS_GPU)
    except FcnkitError as error:
        return BackendStatus(name=name, opens=False, detail=parts(error).fact, remedy=remedy)
    except Exception as error:  # a library in disrepair fails in its own way: that is the finding
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        return BackendStatus(name=name, opens=False, detail=detail, remedy=remedy)
    return BackendStatus(name=name, opens=True, detail=detail, remedy="")


def _check_doubled(result: object) -> None:
    if not np.array_equal(np.asarray(result), np.full((1, 1, 2, 2), 2, np.float32)):
        raise RuntimeError(f"a wrong answer to a tiny model: {result}")


def _probe_onnxruntime(name: str) -> str:
    if name != "onnxruntime":
        check_provider(name)
        open_driver(extra=EXTRAS[name])
    session = create_session(PROBE_MODEL, name=name, threads=1, where="a tiny model")
    _check_doubled(session.run(["y"], {"x": np.ones((1, 1, 2, 2), np.float32)})[0])
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}, {session.get_providers()[0]}"


def _probe_openvino() -> str:
    compiled = compile_model(PROBE_MODEL, threads=1, compute="f32", where="a tiny model")
    _check_doubled(compiled([np.ones((1, 1, 2, 2), np.float32)])[0])
    import openvino

    able = cpu_capabilities()
    less = [name for name, key in (("bf16", "BF16"), ("f16", "FP16")) if key in able]
    also = f", faster in {' or '.join(less)} with --compute" if less else ""
    return f"openvino {openvino.__version__.split('-', maxsplit=1)[0]}, CPU{also}"


def _probe_tensorrt(flavor: Flavor) -> str:
    """Build an engine of the tiny model and run it."""
    _, trt = import_library(flavor, what="open_backend")
    try:
        driver = open_driver(extra=flavor)
    except BackendUnavailableError as error:
        text = f"{library_name(trt)} is installed, but {parts(error).fact}"
        raise _UnfitMachineError(text) from None
    driver.activate()
    _check_doubled(run_tiny_engine(trt, PROBE_MODEL, driver))
    return f"{library_name(trt)}, cuda:{driver.device} {driver.name}"


def _probe_torch() -> str:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise missing_extra("open_backend", "torch", "train") from None
    ones = torch.ones(1, 1, 2, 2)
    _check_doubled(torch.nn.functional.conv2d(ones, 2 * torch.ones(1, 1, 1, 1)).numpy())
    gpus = torch.cuda.device_count()
    return f"torch {torch.__version__}, CPU{f' and {gpus} GPU(s)' if gpus else ''}"
