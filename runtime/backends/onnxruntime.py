"""ONNX Runtime: the embedded default on the CPU, and its CUDA and TensorRT providers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import ArtifactError, BackendUnavailableError, message, missing_extra
from fcnkit.runtime.backends.base import CheckedBackend, check_signature
from fcnkit.runtime.backends.onnxruntime_options import PROVIDER_OPTIONS, apply_options
from fcnkit.runtime.backends.settings import Compute, check_threads, refuse_compute
from fcnkit.runtime.onnx_file import TensorInfo, read_onnx_file
from fcnkit.runtime.spec import Precision

__all__ = ["PROVIDERS", "OnnxRuntimeBackend", "create_session"]

PROVIDERS: Final = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
"""Backend name to ONNX Runtime's execution provider."""

# ONNX Runtime computes in the types that stand in the graph.
_COMPUTE: Final[dict[Precision, str]] = {"fp32": "f32", "fp16": "f16", "int8": "int8"}

_GPU_REMEDY = (
    "pip uninstall onnxruntime, then pip install 'fcnkit[gpu]' (never both at once) on a machine "
    "with an NVIDIA GPU, or use backend='onnxruntime'"
)


class OnnxRuntimeBackend(CheckedBackend):
    """An ONNX file opened in ONNX Runtime."""

    def __init__(
        self,
        path: str | Path,
        *,
        name: str = "onnxruntime",
        threads: int | None = None,
        compute: Compute = "auto",
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Open a file.

        Args:
            path: An ONNX file that fcnkit exported.
            name: A key of PROVIDERS.
            threads: Threads of one call; every core by default.
            compute: ``auto`` or the precision of the graph; ONNX Runtime computes in no other.
            options: Session options, session config entries and provider options of ONNX Runtime.

        Raises:
            ArtifactError: The file is missing, broken or without a fitting spec.
            MissingExtraError: onnxruntime is not installed.
            BackendUnavailableError: The provider does not run here, or not in this precision.
            ValueError: An option is unknown.
        """
        spec = read_onnx_file(path).spec(where=str(path))
        threads = check_threads(threads, what="open_backend")
        if compute not in ("auto", _COMPUTE[spec.precision]):
            raise refuse_compute(
                compute,
                name=name,
                computes=f"a graph in {_COMPUTE[spec.precision]}",
                remedy="export with another --precision, or leave compute out",
            )
        session = create_session(
            str(path), name=name, threads=threads, where=str(path), options=options
        )
        check_signature(
            _tensors(session.get_inputs()),
            _tensors(session.get_outputs()),
            spec,
            where=str(path),
        )
        details: dict[str, str | int] = {
            "library": f"onnxruntime {_version()}",
            "provider": PROVIDERS[name],
            "threads": threads,
            "compute": _COMPUTE[spec.precision],
        }
        super().__init__(spec, name=name, details=details)
        self._session: Any = session

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        result = self._session.run([self._spec.output.name], {self._spec.input.name: batch})[0]
        return np.asarray(result)

    def _free(self) -> None:
        self._session = None


def create_session(
    model: str | bytes,
    *,
    name: str,
    threads: int,
    where: str,
    options: Mapping[str, str] | None = None,
) -> Any:
    """Create a session that runs on exactly the provider asked for.

    Args:
        model: A path, or the bytes of an ONNX model.
        name: A key of PROVIDERS.
        threads: Threads of one call.
        where: The file, for the error.
        options: Options of the session and its provider.

    Returns:
        The onnxruntime.InferenceSession.

    Raises:
        ArtifactError: ONNX Runtime cannot load the model.
        MissingExtraError: onnxruntime is not installed.
        BackendUnavailableError: The provider does not run here.
        TypeError: An option is no text.
        ValueError: An option is unknown, or its value is none.
    """
    try:
        import onnxruntime
    except ImportError:
        raise missing_extra("open_backend", "onnxruntime", "cpu") from None
    onnxruntime.disable_telemetry_events()
    provider = PROVIDERS[name]
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 3  # errors; warnings would go to the user's stderr
    chosen = apply_options(onnxruntime, session_options, options or {}, name=name)
    if provider not in onnxruntime.get_available_providers():
        raise _no_provider(name, "an onnxruntime without it")
    providers = [(provider, PROVIDER_OPTIONS[name] | chosen)]
    if name == "onnxruntime-tensorrt":
        # What TensorRT does not take stays on the GPU.
        providers.append((PROVIDERS["onnxruntime-cuda"], PROVIDER_OPTIONS["onnxruntime-cuda"]))
    try:
        session = _quiet_session(model, session_options, providers)
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        rule = "onnxruntime must be able to load the model"
        remedy = "export it again with fcnkit export onnx, or try another backend"
        raise ArtifactError(message(where, rule, str(error), remedy)) from error
    # The CPU provider is always added behind the asked-for one; only the first place counts.
    if session.get_providers()[0] != provider:
        raise _no_provider(name, f"a session on {session.get_providers()[0]}")
    return session


def _quiet_session(
    model: str | bytes, options: Any, providers: list[tuple[str, dict[str, str]]]
) -> Any:
    """Create the session; a provider that does not load must not speak on its own."""
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        # Fallback means that a GPU which fails is answered by the CPU, with a printed line.
        return onnxruntime.InferenceSession(
            model, sess_options=options, providers=providers, enable_fallback=0
        )


def _no_provider(name: str, got: str) -> BackendUnavailableError:
    rule = f"backend {name} needs {PROVIDERS[name]}"
    return BackendUnavailableError(message("open_backend", rule, got, _GPU_REMEDY))


def _version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _tensors(declared: Any) -> list[TensorInfo]:
    """Translate onnxruntime's NodeArgs, whose types read ``tensor(float)``."""
    names = {"tensor(float)": "float32"}
    return [
        TensorInfo(
            name=node.name,
            dtype=names.get(node.type, node.type.removeprefix("tensor(").removesuffix(")")),
            dims=tuple("?" if dim is None else dim for dim in node.shape),
        )
        for node in declared
    ]
