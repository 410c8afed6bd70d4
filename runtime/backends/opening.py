"""Which backend opens a file: the named one, or the fastest one that opens here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from fcnkit.errors import (
    ArtifactError,
    BackendUnavailableError,
    BadValueError,
    FcnkitError,
    message,
    parts,
    warn_of_model,
    within,
)
from fcnkit.runtime.artifacts.description import ModelKind, kind_of
from fcnkit.runtime.artifacts.engine_file import sidecar_path
from fcnkit.runtime.artifacts.last_layer import (
    LastLayerWeights,
    read_beside_engine,
    read_in_onnx,
)
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.backends.cuda import gpu_count, has_driver
from fcnkit.runtime.backends.registry import BACKENDS, BackendRow, auto_rows, rows_for
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.settings import Compute
from fcnkit.runtime.machine import return_freed_memory
from fcnkit.runtime.pixels.upsampling import Upsampling

__all__ = ["check_device", "open_backend", "open_model", "read_last_layer"]


def open_backend(
    path: str | Path,
    *,
    backend: str = "auto",
    threads: int | None = None,
    compute: Compute = "auto",
    options: Mapping[str, str] | None = None,
    spec: str | Path | None = None,
) -> CheckedBackend:
    """Open a trained or exported model with one library.

    Args:
        path: A checkpoint (.pt, .pth, .safetensors), an engine (.engine, .plan), or an ONNX file.
        backend: One that ``fcnkit doctor`` lists and that runs such files. ``auto`` takes the
            fastest one that opens here, and ``info.chosen_because`` says why.
        threads: CPU threads of one call; every core by default.
        compute: The precision to compute in; ``auto`` is the file's own, never less.
        options: The library's own options, by the library's names. For an ONNX file the backend
            must be named too.
        spec: For an engine without a sidecar: the ONNX file that it was built from.

    Returns:
        The opened backend; close it, or use it in a ``with`` block. Its ``info`` says what really
        runs.

    Raises:
        ArtifactError: The file is missing, broken or without a fitting spec.
        MissingExtraError: The backend's package is not installed.
        BackendUnavailableError: The backend or precision does not run here.
        TypeError: threads is not an int, or options do not map str to str.
        ValueError: The backend, precision or an option is unknown or does not fit the file.
    """
    request = BackendRequest(
        backend=backend,
        threads=threads,
        compute=compute,
        options={} if options is None else options,
        spec_from=spec,
    )
    return open_model(path, request)


def open_model(path: str | Path, request: BackendRequest) -> CheckedBackend:
    """Open a model as a request says; see ``open_backend``."""
    path = Path(path)
    kind = kind_of(path)
    _check_fits(path, kind, request)
    if request.backend != "auto":
        opened = _open(BACKENDS[request.backend], path, request)
    elif kind == "onnx":
        opened = _open_fastest(path, request)
    else:
        # There is one opener for each of the other kinds. An engine says which library built it.
        opened = _open(rows_for(kind)[0], path, request)
    try:
        opened.upsampling = _upsampling(path, opened.spec, request)
    except Exception:
        opened.close()
        raise
    return_freed_memory()
    return opened


def read_last_layer(
    path: Path, spec: ModelSpec, *, spec_from: str | Path | None = None
) -> LastLayerWeights | None:
    """Read the weights of the layer that the runtime computes.

    Args:
        path: An ONNX file or an engine.
        spec: Its spec.
        spec_from: For an engine without a sidecar: the ONNX file that it was built from.

    Returns:
        The weights; None where the model computes all layers.

    Raises:
        ArtifactError: They are missing, or are not those that the spec describes.
    """
    if kind_of(path) == "engine" and sidecar_path(path).is_file():
        remedy = "copy it along, or build the engine again with fcnkit export engine"
        return read_beside_engine(path, spec, remedy=remedy)
    return read_in_onnx(path if spec_from is None else Path(spec_from), spec)


def _upsampling(path: Path, spec: ModelSpec, request: BackendRequest) -> Upsampling | None:
    found = read_last_layer(path, spec, spec_from=request.spec_from)
    if found is None:
        return None
    try:
        return Upsampling(found.weight, found.bias, stride=found.stride, border=found.border)
    except ValueError as error:
        raise ArtifactError(within(str(path), error)) from None


_KINDS: Final[dict[ModelKind, str]] = {
    "onnx": "ONNX files",
    "engine": "engines",
    "checkpoint": "checkpoints",
}
_INSTEAD: Final[dict[tuple[ModelKind, ModelKind], str]] = {
    ("onnx", "engine"): "open the .onnx file it was built from",
    ("onnx", "checkpoint"): "export it to ONNX first",
    ("engine", "onnx"): "build one with fcnkit export engine",
    ("engine", "checkpoint"): "export it to ONNX first, then build one with fcnkit export engine",
    ("checkpoint", "onnx"): "open its best.pt",
    ("checkpoint", "engine"): "open its best.pt",
}
"""What to do, by the kind that a backend runs and the kind of the file."""

_DIFFERS: Final = "when the file was exported, this backend gave other labels than ONNX Runtime"

_OWN_SPEC: Final[dict[ModelKind, str]] = {"onnx": "an ONNX file", "checkpoint": "a checkpoint"}


def _check_fits(path: Path, kind: ModelKind, request: BackendRequest) -> None:
    """Refuse a request that does not fit the kind of the file."""
    what, backend = "open_backend", request.backend
    if backend != "auto" and BACKENDS[backend].runs != kind:
        runs = BACKENDS[backend].runs
        rule = f"backend {backend} runs {_KINDS[runs]}"
        raise BadValueError(message(what, rule, path.name, _INSTEAD[runs, kind]))
    if request.options and backend == "auto" and kind == "onnx":
        rule = "options are a library's own, so the backend must be named"
        raise BadValueError(message(what, rule, "backend='auto'", "name it"))
    if request.spec_from is not None and kind in _OWN_SPEC:
        rule = f"spec= is for engines; {_OWN_SPEC[kind]} holds its own spec"
        raise BadValueError(message(what, rule, str(request.spec_from), "leave it out"))


def check_device(path: str | Path, request: BackendRequest) -> None:
    """Refuse a GPU for a backend that has none, before a process is started for it.

    Args:
        path: The model.
        request: Its ``device`` is a number.

    Raises:
        ArtifactError: The file is missing or broken.
        BackendUnavailableError: There is no such GPU.
        ValueError: The named backend runs on the CPU, or an option of it names a GPU too.
    """
    path = Path(path)
    if request.backend != "auto":
        _on_device(BACKENDS[request.backend], request)
    elif kind_of(path) == "onnx":
        _check_gpu(request)
    else:
        _on_device(rows_for(kind_of(path))[0], request)


def _no_gpu(request: BackendRequest, got: str, remedy: str) -> BackendUnavailableError:
    rule = "a device is the number of an NVIDIA GPU"
    return BackendUnavailableError(message("open_backend", rule, f"{request.device} {got}", remedy))


def _check_gpu(request: BackendRequest) -> None:
    assert request.device is not None  # whoever asks has one
    if not has_driver():
        raise _no_gpu(request, "on a machine without a driver", "see fcnkit doctor")
    count = gpu_count()
    if not count:
        raise _no_gpu(request, "where the driver shows none", "see nvidia-smi")
    if request.device >= count:
        remedy = "pass 0" if count == 1 else f"pass 0 to {count - 1}"
        raise _no_gpu(request, f"where the driver shows {count}", remedy)


def _on_device(row: BackendRow, request: BackendRequest) -> BackendRequest:
    """Return a request whose options choose the device, by the name that the library has for it."""
    if request.device is None:
        return request
    if row.device_option is None:
        rule, remedy = f"backend {row.name} runs on the CPU and takes no device", "leave it out"
        raise BadValueError(message("open_backend", rule, request.device, remedy))
    key, value = row.device_option
    if key in request.options:
        rule, remedy = f"the option {key} is set by the device", "give one of them"
        got = f"device {request.device} and {key}={request.options[key]}"
        raise BadValueError(message("open_backend", rule, got, remedy))
    _check_gpu(request)
    return replace(request, options={**request.options, key: value.format(request.device)})


def _open(row: BackendRow, path: Path, request: BackendRequest) -> CheckedBackend:
    if row.runs == "onnx" and row.name in read_onnx_file(path).differs:
        warn_of_model(message(str(path), _DIFFERS, row.name, "use --backend onnxruntime"))
    opened: CheckedBackend = row.load(row.opener)(path, _on_device(row, request))
    return opened


def _open_fastest(path: Path, request: BackendRequest) -> CheckedBackend:
    """Open an ONNX file with the first backend that opens, and keep why it was taken.

    Only OpenVINO can compute in less than the file declares, so ``compute="bf16"`` passes ONNX
    Runtime over.
    """
    passed: list[str] = []
    last: Exception = AssertionError("there are always candidates")
    file = read_onnx_file(path)
    precision = file.spec(where=str(path)).precision
    rows = auto_rows(precision, gpu=has_driver())
    if request.device is not None:
        _check_gpu(request)
        rows = [row for row in rows if row.needs_gpu]
    for row in rows:
        if row.name in file.differs:
            passed.append(f"no {row.name} (it gave other labels when the file was exported)")
            continue
        try:
            opened = _open(row, path, replace(request, backend=row.name))
        except ArtifactError:  # the file is at fault, and will be with every backend
            raise
        except FcnkitError as error:  # a GPU that another process has for itself, too
            passed.append(f"no {row.name} ({parts(error).fact})")
            last = error
        else:
            first = f"{row.name} is the first choice for {precision} files of those that open here"
            opened.info = replace(opened.info, chosen_because=", ".join([first, *passed]))
            return opened
    raise last
