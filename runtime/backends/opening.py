"""Which backend opens a file: the requested one, or the fastest one that opens here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fcnkit.errors import ArtifactError, BadTypeError, BadValueError, FcnkitError, message, parts
from fcnkit.runtime.artifacts.description import ENGINE_SUFFIXES
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import Precision
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.backends.cuda import has_driver
from fcnkit.runtime.backends.onnxruntime import PROVIDERS, OnnxRuntimeBackend
from fcnkit.runtime.backends.onnxruntime_cuda import open_onnxruntime_cuda
from fcnkit.runtime.backends.openvino import OpenVinoBackend
from fcnkit.runtime.backends.settings import Compute, as_options, check_compute
from fcnkit.runtime.backends.tensorrt import open_engine

__all__ = ["open_backend"]

"""By these names an engine is told from an ONNX file."""

_OF_ENGINES: Final = ("tensorrt", "tensorrt-rtx")
_OF_ONNX: Final = (*PROVIDERS, "openvino")
_NAMES: Final = ("auto", *_OF_ONNX, *_OF_ENGINES)


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
        path: An ONNX file or an engine that fcnkit exported.
        backend: For an ONNX file ``onnxruntime``, ``onnxruntime-cuda``, ``onnxruntime-tensorrt``
            or ``openvino``, for an engine ``tensorrt`` or ``tensorrt-rtx``. ``auto`` takes the
            fastest one that opens here, and ``details["auto"]`` says why.
        threads: CPU threads of one call; every core by default.
        compute: The precision to compute in; ``auto`` is what the file says.
        options: The library's own options, by the library's names. For an ONNX file only with a
            backend named; an engine says itself which library runs it.
        spec: For an engine without a sidecar: the ONNX file that it was built from.

    Returns:
        The opened backend; close it, or use it in a ``with`` block. Its ``details`` say what
        really runs.

    Raises:
        ArtifactError: The file is missing, broken or without a fitting spec.
        MissingExtraError: The backend's package is not installed.
        BackendUnavailableError: The backend or precision does not run here.
        TypeError: threads is not an integer, or options do not map str to str.
        ValueError: The backend, precision or an option is unknown or does not fit the file.
    """
    path = Path(path)
    compute = check_compute(compute, what="open_backend")
    options = as_options(options)
    is_engine = path.suffix in ENGINE_SUFFIXES
    _check_name(backend, path, is_engine=is_engine)
    if options and backend == "auto" and not is_engine:
        rule = "options are a library's own, so the backend must be named"
        raise BadValueError(message("open_backend", rule, "backend='auto'", "name it"))
    if is_engine:
        name = None if backend == "auto" else backend
        return open_engine(
            path, name=name, threads=threads, compute=compute, options=options, spec=spec
        )
    if spec is not None:
        rule = "spec= is for engines; an ONNX file holds its own spec"
        raise BadValueError(message("open_backend", rule, str(spec), "leave it out"))
    if backend == "auto":
        return _open_fastest(path, threads=threads, compute=compute)
    return _open_onnx(path, backend, threads=threads, compute=compute, options=options)


def _check_name(backend: object, path: Path, *, is_engine: bool) -> None:
    what = "open_backend"
    if not isinstance(backend, str):
        rule, got = "backend must be a name", type(backend).__name__
        raise BadTypeError(message(what, rule, got, "see fcnkit doctor"))
    if backend == "torch":
        rule = "backend torch runs checkpoints"
        raise BadValueError(message(what, rule, path.name, "open its best.pt with fcnkit.load"))
    if backend not in _NAMES:
        rule = f"backend must be one of {', '.join(_NAMES)}"
        raise BadValueError(message(what, rule, backend, "see fcnkit doctor"))
    if is_engine and backend in _OF_ONNX:
        rule = f"backend {backend} runs ONNX files"
        raise BadValueError(message(what, rule, path.name, "open the .onnx file it was built from"))
    if not is_engine and backend in _OF_ENGINES:
        rule = f"backend {backend} runs engines"
        remedy = "build one with fcnkit export engine"
        raise BadValueError(message(what, rule, path.name, remedy))


def _open_onnx(
    path: Path,
    backend: str,
    *,
    threads: int | None,
    compute: Compute,
    options: Mapping[str, str] | None = None,
) -> CheckedBackend:
    if backend == "openvino":
        return OpenVinoBackend(path, threads=threads, compute=compute, options=options)
    if backend == "onnxruntime":
        return OnnxRuntimeBackend(path, threads=threads, compute=compute, options=options)
    return open_onnxruntime_cuda(
        path, name=backend, threads=threads, compute=compute, options=options
    )


def _open_fastest(path: Path, *, threads: int | None, compute: Compute) -> CheckedBackend:
    """Open with the first of the candidates that opens; what it was and why goes into details."""
    passed: list[str] = []
    last: Exception = AssertionError("there are always candidates")
    precision = read_onnx_file(path).spec(where=str(path)).precision
    for name in _candidates(precision):
        try:
            opened = _open_onnx(path, name, threads=threads, compute=compute)
        except ArtifactError:  # the file is at fault, and will be with every backend
            raise
        except FcnkitError as error:  # a GPU that another process has for itself, too
            passed.append(f"no {name} ({parts(error).fact})")
            last = error
        else:
            first = f"{name} is the first choice for {precision} files of those that open here"
            opened.note("auto", ", ".join([first, *passed]))
            return opened
    raise last


def _candidates(precision: Precision) -> tuple[str, ...]:
    """Return the backends for an ONNX file, the fastest first that computes what the file says.

    GPUs come before CPUs. ONNX Runtime's TensorRT provider multiplies float32 in TensorFloat-32,
    so for such files the CUDA provider, which is told not to, goes first; for others TensorRT.

    On the CPU, benchmarks/backends.py on x86-64: in float32 ONNX Runtime takes 0.8 to 0.95 of
    OpenVINO's time with the head logits and the same within the noise with labels; files in int8
    are faster in OpenVINO. Only OpenVINO can compute at lower precision than the file states, so
    requesting that skips ONNX Runtime.
    """
    gpu: tuple[str, ...] = ()
    if has_driver():
        gpu = ("onnxruntime-tensorrt", "onnxruntime-cuda")
        gpu = gpu[::-1] if precision == "fp32" else gpu
    cpu = ("openvino", "onnxruntime") if precision == "int8" else ("onnxruntime", "openvino")
    return (*gpu, *cpu)
