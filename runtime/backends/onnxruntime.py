"""ONNX Runtime: the embedded default on the CPU, and its CUDA and TensorRT providers."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import ArtifactError, BackendUnavailableError, message, missing_extra
from fcnkit.runtime.artifacts.onnx_file import TensorInfo, read_onnx_file
from fcnkit.runtime.artifacts.signature import check_signature
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import BackendInfo, CheckedBackend
from fcnkit.runtime.backends.inflight import keep_in_flight
from fcnkit.runtime.backends.onnxruntime_nvinfer import check_nvinfer
from fcnkit.runtime.backends.onnxruntime_options import PROVIDER_OPTIONS, apply_options
from fcnkit.runtime.backends.registry import BACKENDS
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.settings import Compute, refuse_compute
from fcnkit.runtime.backends.tiny import TINY_MODEL, check_doubled, ones

__all__ = [
    "PROVIDERS",
    "RECORD_ASSIGNMENT",
    "OnnxRuntimeBackend",
    "calls_at_a_time",
    "check_graph_compute",
    "check_provider",
    "check_session",
    "create_session",
    "import_onnxruntime",
    "probe",
]

PROVIDERS: Final = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
"""Backend name to ONNX Runtime's execution provider."""

RECORD_ASSIGNMENT: Final = "session.record_ep_graph_assignment_info"
"""The config entry that lets one ask a session which provider runs which operator."""

_CALLS: Final = 4
"""Calls at a time in a stream, at most: each holds the activations of its batch."""

_LARGE: Final = 768 * 768
"""Pixels of an image or tile from which on one call at a time runs on all threads. Its activations
take hundreds of megabytes, and on two cores it takes 3 % longer."""


def _gpu_remedy(name: str) -> str:
    return (
        f"pip uninstall onnxruntime, then pip install 'fcnkit[{BACKENDS[name].extra}]' (never "
        "both at once) on a machine with an NVIDIA GPU, or use backend='onnxruntime'"
    )


class OnnxRuntimeBackend(CheckedBackend):
    """An ONNX file opened in ONNX Runtime on the CPU."""

    def __init__(self, path: str | Path, request: BackendRequest) -> None:
        """Open a file.

        Args:
            path: An ONNX file that fcnkit exported.
            request: ``compute`` is ``auto`` or the precision of the graph, for ONNX Runtime
                computes in no other. ``options`` are session options and session config entries.

        Raises:
            ArtifactError: The file is missing, broken or without a fitting spec.
            MissingExtraError: onnxruntime is not installed.
            BackendUnavailableError: The provider does not run here, or not in this precision.
            ValueError: An option is unknown.
        """
        name = "onnxruntime"
        spec = read_onnx_file(path).spec(where=str(path))
        threads, options = request.cpu_threads, request.options
        precision = check_graph_compute(request.compute, spec, name=name)
        create = partial(create_session, str(path), name=name, where=str(path), options=options)
        session = create(threads=threads)
        check_session(session, spec, where=str(path))
        info = BackendInfo(
            library="onnxruntime",
            version=_version(),
            device="cpu",
            device_name=session.get_providers()[0],
            threads=threads,
            precision=precision,
        )
        super().__init__(spec, name=name, info=info)
        # A stream runs several batches at a time, each on fewer threads. Every session holds the
        # weights, so a model that is only streamed has no session beside them.
        self._calls = calls_at_a_time(threads)
        self._create = create
        self._sessions: dict[int, Any] = {threads: session}
        """By their threads."""
        self._alone = False
        """Whether a call ran on all threads."""
        self._pools: dict[int, ThreadPoolExecutor] = {}
        """By the calls that they run at a time."""

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        self._alone = True
        return self._call(self._session(self.info.threads), batch)

    def _session(self, threads: int) -> Any:
        if threads not in self._sessions:
            self._sessions[threads] = self._create(threads=threads)
        return self._sessions[threads]

    def _call(self, session: Any, batch: NDArray[Any]) -> NDArray[Any]:
        spec = self._spec
        outputs = session.run([one.name for one in spec.outputs], {spec.input.name: batch})
        return np.asarray(outputs[0]) if len(outputs) == 1 else np.stack(outputs)

    def _stream(self, batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Run several calls at a time, each on fewer threads: less waiting at every layer."""
        # One more than run, so that the next one starts while the caller looks at a result.
        yield from keep_in_flight(
            batches, submit=self._submit, collect=_result, depth=self._calls + 1
        )

    def _submit(self, batch: NDArray[Any]) -> Future[NDArray[Any]]:
        sides = batch.shape[2:] if self._spec.input.layout == "NCHW" else batch.shape[1:3]
        calls = 1 if math.prod(sides) >= _LARGE else self._calls
        if calls == 1:
            self._alone = True
        elif not self._alone:
            self._sessions.pop(self.info.threads, None)
        session = self._session(self.info.threads // calls)
        if calls not in self._pools:
            self._pools[calls] = ThreadPoolExecutor(calls, "fcnkit-onnxruntime")
        return self._pools[calls].submit(self._call, session, batch)

    def _free(self) -> None:
        for pool in self._pools.values():
            pool.shutdown()
        self._pools, self._sessions = {}, {}


def probe(name: str) -> str:
    """Run the tiny model.

    Args:
        name: A key of PROVIDERS.

    Returns:
        The library's version and the provider.

    Raises:
        BackendUnavailableError: The provider does not run here.
        MissingExtraError: onnxruntime is not installed.
    """
    session = create_session(TINY_MODEL, name=name, threads=1, where="a tiny model")
    check_doubled(session.run(["y"], {"x": ones()})[0])
    return f"onnxruntime {_version()}, {session.get_providers()[0]}"


def _result(future: Future[NDArray[Any]]) -> NDArray[Any]:
    return future.result()


def calls_at_a_time(threads: int) -> int:
    """Return into how many calls of equal threads a stream splits: no thread more, none unused."""
    return max(calls for calls in range(1, _CALLS + 1) if threads % calls == 0)


def create_session(
    model: str | bytes,
    *,
    name: str,
    threads: int,
    where: str,
    options: Mapping[str, str] | None = None,
    provider_options: Mapping[str, str] | None = None,
    cuda_options: Mapping[str, str] | None = None,
) -> Any:
    """Create a session that runs on exactly the requested provider.

    Args:
        model: A path, or the bytes of an ONNX model.
        name: A key of PROVIDERS.
        threads: Threads of one call.
        where: The file, for the error.
        options: The user's options of the session and its provider.
        provider_options: What else the providers on the GPU are told.
        cuda_options: What else the CUDA provider is told.

    Returns:
        The onnxruntime.InferenceSession.

    Raises:
        ArtifactError: ONNX Runtime cannot load the model.
        MissingExtraError: onnxruntime is not installed.
        BackendUnavailableError: The provider does not run here.
        TypeError: An option is not a str.
        ValueError: An option is unknown, or its value is wrong.
    """
    onnxruntime = import_onnxruntime()
    provider = PROVIDERS[name]
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads
    session_options.inter_op_num_threads = 1
    # ONNX Runtime plans a memory pattern after the first run of a shape, and keeps the memory of
    # that run without using it.
    session_options.enable_mem_pattern = False
    session_options.log_severity_level = 3  # errors; warnings would go to the user's stderr
    # On x86 processors without VNNI, ONNX Runtime's int8 kernels add two products in 16 bits, which
    # overflow. This takes slower kernels there that do not, and changes nothing elsewhere.
    session_options.add_session_config_entry("session.x64quantprecision", "1")
    if name != "onnxruntime":
        session_options.add_session_config_entry(RECORD_ASSIGNMENT, "1")
    chosen = apply_options(onnxruntime, session_options, options or {}, name=name)
    if name != "onnxruntime":
        _load_gpu_libraries(onnxruntime)
    check_provider(name)
    if name == "onnxruntime-tensorrt":
        check_nvinfer(onnxruntime)
    given, cuda = dict(provider_options or {}), "onnxruntime-cuda"
    of_cuda = PROVIDER_OPTIONS[cuda] | dict(cuda_options or {})
    if name == cuda:
        given |= of_cuda
    providers = [(provider, PROVIDER_OPTIONS[name] | given | chosen)]
    if name == "onnxruntime-tensorrt":
        # What TensorRT does not take stays on the GPU, and on the same stream.
        shared = {key: value for key, value in given.items() if not key.startswith("trt_")}
        providers.append((PROVIDERS[cuda], of_cuda | shared))
    try:
        session = _quiet_session(model, session_options, providers)
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        if name != "onnxruntime":  # mostly the GPU's libraries, not the model
            rule = f"backend {name} must be able to open a session"
            raise BackendUnavailableError(
                message("open_backend", rule, str(error), _gpu_remedy(name))
            ) from error
        rule = "onnxruntime must be able to load the model"
        remedy = "export it again with fcnkit export onnx, or try another backend"
        raise ArtifactError(message(where, rule, str(error), remedy)) from error
    # The CPU provider is always added behind the requested one; only the first place counts.
    if session.get_providers()[0] != provider:
        raise _no_provider(name, f"a session on {session.get_providers()[0]}")
    return session


def import_onnxruntime() -> Any:
    """Import onnxruntime and silence its telemetry.

    Returns:
        The module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a GPU provider that finds no libraries yet
            import onnxruntime
    except ImportError:
        raise missing_extra("open_backend", "onnxruntime", "cpu") from None
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _load_gpu_libraries(onnxruntime: Any) -> None:
    """Load CUDA and cuDNN from their packages, where ONNX Runtime looks for no file."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(onnxruntime, "preload_dlls"):  # it prints what it cannot load
            onnxruntime.preload_dlls(msvc=False)


def check_provider(name: str) -> None:
    """Refuse a provider that the installed ONNX Runtime was built without.

    Args:
        name: A key of PROVIDERS.

    Raises:
        BackendUnavailableError: It is not there.
        MissingExtraError: onnxruntime is not installed.
    """
    if PROVIDERS[name] not in import_onnxruntime().get_available_providers():
        raise _no_provider(name, "an onnxruntime without it")


def check_graph_compute(compute: Compute, spec: ModelSpec, *, name: str) -> str:
    """Return the precision of the graph, or refuse another: ONNX Runtime computes what it states.

    Args:
        compute: The requested precision.
        spec: The model's promises.
        name: The backend, for the error.

    Returns:
        Such as ``fp32``.

    Raises:
        BackendUnavailableError: Another one was requested.
    """
    if compute not in ("auto", spec.precision):
        raise refuse_compute(
            compute,
            name=name,
            computes=f"a graph in {spec.precision}",
            remedy="export with another --precision, or leave compute out",
        )
    return spec.precision


def check_session(session: Any, spec: ModelSpec, *, where: str) -> None:
    """Refuse a session whose tensors are not the ones its spec promises.

    Args:
        session: The onnxruntime.InferenceSession.
        spec: The model's promises.
        where: The file, for the error.

    Raises:
        ArtifactError: A tensor differs.
    """
    inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
    check_signature(inputs, outputs, spec, where=where)


def _quiet_session(
    model: str | bytes, options: Any, providers: list[tuple[str, dict[str, str]]]
) -> Any:
    """Create the session; a provider that does not load must not print by itself."""
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        # Fallback means that a GPU which fails is answered by the CPU, with a printed line.
        return onnxruntime.InferenceSession(
            model, sess_options=options, providers=providers, enable_fallback=0
        )


def _no_provider(name: str, got: str) -> BackendUnavailableError:
    rule = f"backend {name} needs {PROVIDERS[name]}"
    return BackendUnavailableError(message("open_backend", rule, got, _gpu_remedy(name)))


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
