"""The table of backends: one row each, read by opening, ``fcnkit doctor``, reports and tests.

A row names functions as ``module:function``. They are imported when they are called, so that this
module needs no library, and the runtime can open checkpoints without importing ``fcnkit.train``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Literal

from fcnkit.errors import missing_extra
from fcnkit.runtime.artifacts.description import ModelKind
from fcnkit.runtime.artifacts.precisions import Compute
from fcnkit.runtime.artifacts.spec import Precision

__all__ = ["BACKENDS", "BackendRow", "Device", "auto_rows", "rows_for"]

Device = Literal["cpu", "gpu"]
"""The kinds of device that a model runs on."""


@dataclass(frozen=True, kw_only=True)
class BackendRow:
    """What is known about a backend before its library is imported."""

    name: str
    """The name for ``backend=`` and ``--backend``."""
    runs: ModelKind
    """The kind of files that it opens."""
    devices: tuple[Device, ...]
    """Where it can run them."""
    module: str
    """The import name of the library; ``fcnkit bench`` times its import."""
    packages: tuple[str, ...]
    """The packages on PyPI that it needs; reports list their versions."""
    extra: str
    """The extra of fcnkit that installs them."""
    opener: str
    """``module:function`` that takes the path and a ``BackendRequest`` and opens the file."""
    prober: str
    """``module:function`` that takes the name, runs a tiny model, and returns the versions."""
    auto: bool = False
    """Whether ``backend="auto"`` may take it for ONNX files."""
    best_for: tuple[Precision, ...] = ()
    """Precisions for which ``auto`` tries it before other backends of the same device."""
    computes: tuple[Compute, ...] = ()
    """What it can be told to compute in instead of the file's own precision, where that may be
    faster; ``fcnkit bench matrix`` tries them."""
    device_option: tuple[str, str] | None = None
    """The option that chooses a GPU, and its value with ``{}`` for the number; None on a CPU."""
    uninstall: str = ""
    """A package that must go first, because both have the same import name."""

    @property
    def needs_gpu(self) -> bool:
        """Whether it runs on GPUs only."""
        return self.devices == ("gpu",)

    @property
    def install(self) -> str:
        """The command that installs its packages."""
        command = f"pip install 'fcnkit[{self.extra}]'"
        if not self.uninstall:
            return command
        return (
            f"on a machine with an NVIDIA GPU: pip uninstall {self.uninstall}, "
            f"then {command} (never both at once)"
        )

    def load(self, function: str) -> Callable[..., Any]:
        """Import one of the functions of the row.

        Args:
            function: ``opener`` or ``prober`` of the row.

        Returns:
            The function.

        Raises:
            MissingExtraError: A package that its module imports is not installed.
        """
        home, _, name = function.partition(":")
        try:
            found: Callable[..., Any] = getattr(import_module(home), name)
        except ModuleNotFoundError as error:
            absent = str(error.name)
            if absent.split(".", maxsplit=1)[0] == "fcnkit":
                raise
            raise missing_extra("open_backend", absent, self.extra) from error
        return found


_HERE: Final = "fcnkit.runtime.backends"

_ROWS: Final = (
    BackendRow(
        name="onnxruntime",
        runs="onnx",
        devices=("cpu",),
        module="onnxruntime",
        packages=("onnxruntime",),
        extra="cpu",
        opener=f"{_HERE}.onnxruntime:OnnxRuntimeBackend",
        prober=f"{_HERE}.onnxruntime:probe",
        auto=True,
    ),
    BackendRow(
        name="onnxruntime-cuda",
        runs="onnx",
        devices=("gpu",),
        module="onnxruntime",
        packages=("onnxruntime-gpu", "cuda-bindings"),
        extra="gpu",
        opener=f"{_HERE}.onnxruntime_cuda:open_onnxruntime_cuda",
        prober=f"{_HERE}.onnxruntime_cuda:probe",
        auto=True,
        device_option=("device_id", "{}"),
        # TensorRT multiplies float32 in TensorFloat-32. The CUDA provider is told not to.
        best_for=("fp32",),
        uninstall="onnxruntime",
    ),
    BackendRow(
        name="onnxruntime-tensorrt",
        runs="onnx",
        devices=("gpu",),
        module="onnxruntime",
        packages=("onnxruntime-gpu", "tensorrt-cu13", "cuda-bindings"),
        extra="onnxruntime-tensorrt",
        opener=f"{_HERE}.onnxruntime_cuda:open_onnxruntime_cuda",
        prober=f"{_HERE}.onnxruntime_cuda:probe",
        auto=True,
        device_option=("device_id", "{}"),
        best_for=("fp16", "int8"),
        uninstall="onnxruntime",
    ),
    BackendRow(
        name="openvino",
        runs="onnx",
        devices=("cpu",),
        module="openvino",
        packages=("openvino",),
        extra="openvino",
        opener=f"{_HERE}.openvino:OpenVinoBackend",
        prober=f"{_HERE}.openvino:probe",
        auto=True,
        # benchmarks/backends.py on x86-64: faster in int8. In float32 ONNX Runtime takes 0.8 to
        # 0.95 of its time with the head logits, and the same with labels.
        best_for=("int8",),
        computes=("bf16", "fp16"),
    ),
    BackendRow(
        name="tensorrt",
        runs="engine",
        devices=("gpu",),
        module="tensorrt",
        packages=("tensorrt", "cuda-bindings"),
        extra="tensorrt",
        opener=f"{_HERE}.tensorrt:open_engine",
        prober=f"{_HERE}.tensorrt_tiny:probe",
        device_option=("device_id", "{}"),
    ),
    BackendRow(
        name="tensorrt-rtx",
        runs="engine",
        devices=("gpu",),
        module="tensorrt_rtx",
        packages=("tensorrt-rtx", "cuda-bindings"),
        extra="tensorrt-rtx",
        opener=f"{_HERE}.tensorrt:open_engine",
        prober=f"{_HERE}.tensorrt_tiny:probe",
        device_option=("device_id", "{}"),
    ),
    BackendRow(
        name="torch",
        runs="checkpoint",
        devices=("cpu", "gpu"),
        module="torch",
        packages=("torch", "torchvision"),
        extra="train",
        opener="fcnkit.train.backend:open_checkpoint",
        prober="fcnkit.train.backend:probe",
        # PyTorch takes float16 on a CPU too, many times slower.
        computes=("bf16",),
        device_option=("device", "cuda:{}"),
    ),
)

BACKENDS: Final = {row.name: row for row in _ROWS}
"""Every backend by its name, in the order of ``fcnkit doctor``."""


def rows_for(kind: ModelKind) -> list[BackendRow]:
    """Return the backends that open such files, in the order of the table."""
    return [row for row in _ROWS if row.runs == kind]


def auto_rows(precision: Precision, *, gpu: bool) -> list[BackendRow]:
    """Return the backends that ``auto`` tries for an ONNX file, the fastest first.

    Args:
        precision: The precision of the file.
        gpu: Whether this machine has a GPU.

    Returns:
        GPUs before CPUs, then those that are ``best_for`` the precision, then in the order of the
        table.
    """
    rows = [row for row in rows_for("onnx") if row.auto and (gpu or not row.needs_gpu)]
    return sorted(rows, key=lambda row: (not row.needs_gpu, precision not in row.best_for))
