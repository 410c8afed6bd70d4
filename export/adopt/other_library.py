"""Whether the library that ``--backend auto`` prefers gives the labels that were verified."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fcnkit.errors import message, warn_of_model
from fcnkit.export.subject import open_subject
from fcnkit.export.verification import verify
from fcnkit.runtime.backends.request import BackendRequest

__all__ = ["warn_of_openvino"]


def warn_of_openvino(model: Path) -> None:
    """Warn where OpenVINO does not compute what ONNX Runtime computes with a quantized file.

    The comparison with the source runs in ONNX Runtime. For int8, ``auto`` prefers OpenVINO, which
    gave a quarter of the labels for some graphs that TorchScript had traced.

    Args:
        model: The ONNX file.
    """
    if find_spec("openvino") is None:
        return
    with (
        open_subject(model, BackendRequest(backend="onnxruntime")) as verified,
        open_subject(model, BackendRequest(backend="openvino")) as other,
    ):
        report = verify(verified, other, max_pixels=2**16)
    if report.failures:
        rule = "OpenVINO must give the labels that ONNX Runtime gives"
        got = f"{100 * report.label_agreement:.1f} % of them"
        remedy = "run it with --backend onnxruntime, or use fp16"
        warn_of_model(message(str(model), rule, got, remedy))
