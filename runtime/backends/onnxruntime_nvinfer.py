"""What ONNX Runtime's TensorRT provider needs: one version of TensorRT, profiles, and a cache.

The provider is linked against one major version of libnvinfer. Where that is missing, ONNX Runtime
says that its own file cannot be loaded. Without profiles it builds an engine again, for minutes,
at every shape outside of those it has seen, and without a cache in every process.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import mmap
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fcnkit.errors import BackendUnavailableError, message
from fcnkit.runtime.artifacts.engine_file import LARGEST_PROFILE
from fcnkit.runtime.artifacts.spec import ModelSpec, Shape, ShapeRange, format_shape

__all__ = ["check_nvinfer", "tensorrt_options"]

_log = logging.getLogger("fcnkit.tensorrt")

_PROVIDER: Final = "libonnxruntime_providers_tensorrt.so"
_DEFAULT: Final = 10
"""What onnxruntime-gpu 1.24 to 1.31 need."""


def check_nvinfer(onnxruntime: Any) -> None:
    """Refuse to go on where the TensorRT that the provider needs cannot be loaded.

    Args:
        onnxruntime: The module, built with the TensorRT provider.

    Raises:
        BackendUnavailableError: TensorRT is missing, or is of another major version.
    """
    major = _needed(Path(onnxruntime.__file__).parent / "capi" / _PROVIDER)
    found = "no tensorrt package"
    try:
        found = f"tensorrt {importlib.import_module('tensorrt').__version__}"
    except Exception as error:  # libraries that are missing raise OSError and others
        if not isinstance(error, ImportError):
            found = f"a tensorrt package that does not load ({error})"
    library = f"nvinfer_{major}.dll" if sys.platform == "win32" else f"libnvinfer.so.{major}"
    try:
        ctypes.CDLL(library)
    except OSError:
        rule = f"backend onnxruntime-tensorrt needs TensorRT {major} ({library})"
        remedy = (
            "pip uninstall tensorrt, then pip install 'fcnkit[onnxruntime-tensorrt]', "
            "or use backend='onnxruntime-cuda'"
        )
        raise BackendUnavailableError(message("open_backend", rule, found, remedy)) from None


def _needed(provider: Path) -> int:
    """Return the major version of TensorRT that stands in the provider's file."""
    if not provider.is_file():
        return _DEFAULT
    with provider.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        named = re.search(rb"libnvinfer\.so\.(\d+)", held)
        return int(named.group(1)) if named else _DEFAULT


def tensorrt_options(
    path: Path, spec: ModelSpec, options: Mapping[str, str]
) -> tuple[ModelSpec, dict[str, str]]:
    """Return the provider's profile and cache, and the spec with the shapes of that profile.

    Args:
        path: The ONNX file; engines are kept in a folder beside it.
        spec: The model's promises.
        options: The user's options; whoever sets a profile or the cache sets all of it.

    Returns:
        The spec and the provider's options.
    """
    found: dict[str, str] = {}
    if not any(key.startswith("trt_profile_") for key in options):
        legal = spec.shapes
        high = _least(_most(LARGEST_PROFILE, legal.min), legal.max)
        shapes = ShapeRange(min=legal.min, opt=_least(legal.opt, high), max=high)
        for key, shape in (("min", shapes.min), ("opt", shapes.opt), ("max", shapes.max)):
            sides = format_shape(shape).split("x")
            place = 1 if spec.input.layout == "NCHW" else 3
            dims = "x".join([*sides[:place], "3", *sides[place:]])
            found[f"trt_profile_{key}_shapes"] = f"{spec.input.name}:{dims}"
        if shapes.max != legal.max:
            _log.info("%s: up to %s, as its profile", path, format_shape(shapes.max))
        spec = replace(spec, shapes=shapes)
    if not any(key.startswith(("trt_engine_cache_", "trt_timing_cache_")) for key in options):
        folder = path.with_name(f"{path.name}.tensorrt")
        if os.access(path.parent, os.W_OK):
            for kind in ("engine", "timing"):
                found |= {f"trt_{kind}_cache_enable": "1", f"trt_{kind}_cache_path": str(folder)}
        else:
            _log.warning(
                "%s: its engine is built at every start, because %s is not writable",
                path,
                path.parent,
            )
    return spec, found


def _least(one: Shape, other: Shape) -> Shape:
    return min(one[0], other[0]), min(one[1], other[1]), min(one[2], other[2])


def _most(one: Shape, other: Shape) -> Shape:
    return max(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2])
