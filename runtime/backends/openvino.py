"""OpenVINO on the CPU.

Left to itself OpenVINO computes in bfloat16 on CPUs that have it: fast, and not what the file
says. Here float32 is the default and anything else is asked for and recorded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import ArtifactError, BackendUnavailableError, message, missing_extra
from fcnkit.runtime.backends.base import CheckedBackend, check_signature, check_threads
from fcnkit.runtime.onnx_file import read_onnx_file

__all__ = ["Compute", "OpenVinoBackend", "compile_model"]

Compute = Literal["auto", "f32", "bf16", "f16"]
"""The precision OpenVINO computes in; auto is its own choice."""


class OpenVinoBackend(CheckedBackend):
    """An ONNX file opened in OpenVINO on the CPU."""

    def __init__(
        self, path: str | Path, *, threads: int | None = None, compute: Compute = "f32"
    ) -> None:
        """Open a file.

        Args:
            path: An ONNX file that fcnkit exported.
            threads: Threads of one call; every core by default.
            compute: The precision to compute in; ``auto`` leaves it to OpenVINO, and
                ``details["compute"]`` says what it took.

        Raises:
            ArtifactError: The file is missing, broken or without a fitting spec.
            MissingExtraError: openvino is not installed.
            BackendUnavailableError: The CPU does not compute in this precision.
            ValueError: compute is none of the four.
        """
        if compute not in get_args(Compute):
            rule = f"compute must be one of {', '.join(get_args(Compute))}"
            raise ValueError(message("OpenVinoBackend", rule, compute, "leave it out for f32"))
        # The file's own declarations: OpenVINO forgets the names of symbolic dimensions.
        file = read_onnx_file(path)
        spec = file.spec(where=str(path))
        check_signature(file.inputs, file.outputs, spec, where=str(path))
        threads = check_threads(threads, what="open_backend")
        compiled = compile_model(str(path), threads=threads, compute=compute, where=str(path))
        details: dict[str, str | int] = {
            "library": f"openvino {_version()}",
            "provider": " ".join(compiled.get_property("EXECUTION_DEVICES")),
            "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
            "compute": _precision(compiled),
        }
        super().__init__(spec, name="openvino", details=details)
        self._request: Any = compiled.create_infer_request()

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        # Inputs are read in place; outputs are copied, for the request writes into them again.
        results = self._request.infer({0: batch}, share_inputs=True, share_outputs=False)
        return np.asarray(results[0])

    def _free(self) -> None:
        self._request = None


def compile_model(model: str | bytes, *, threads: int, compute: Compute, where: str) -> Any:
    """Compile a model for the CPU in exactly the precision asked for.

    Args:
        model: A path, or the bytes of an ONNX model.
        threads: Threads of one call.
        compute: The precision.
        where: The file, for the error.

    Returns:
        The openvino.CompiledModel.

    Raises:
        ArtifactError: OpenVINO cannot load the model.
        MissingExtraError: openvino is not installed.
        BackendUnavailableError: The CPU does not compute in this precision.
    """
    try:
        import openvino
    except ImportError:
        raise missing_extra("open_backend", "openvino", "openvino") from None
    config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if compute != "auto":
        config["INFERENCE_PRECISION_HINT"] = compute
    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(model), "CPU", config)
    except RuntimeError as error:
        rule = "openvino must be able to load the model"
        remedy = "export it again with fcnkit export onnx, or try another backend"
        raise ArtifactError(message(where, rule, str(error), remedy)) from error
    if compute != "auto" and _precision(compiled) != compute:
        rule = f"openvino must compute in {compute}"
        remedy = "use compute='f32' or compute='auto'"
        got = f"a CPU where it takes {_precision(compiled)}"
        raise BackendUnavailableError(message("open_backend", rule, got, remedy))
    return compiled


def _precision(compiled: Any) -> str:
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def _version() -> str:
    import openvino

    return str(openvino.__version__).split("-", maxsplit=1)[0]
