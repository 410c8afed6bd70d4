"""Whether the library that ``--backend auto`` prefers gives the labels that were verified."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

from fcnkit.errors import ModelWarning, message, warn_of_model
from fcnkit.export.subject import open_subject
from fcnkit.export.verification import verify
from fcnkit.runtime.artifacts.precisions import PRECISIONS
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.request import BackendRequest

__all__ = ["differing_backends"]

_MAX_PIXELS = 2**16


def differing_backends(model: Path, spec: ModelSpec, *, name: str) -> tuple[str, ...]:
    """Compare OpenVINO with ONNX Runtime, in which a quantized file was verified.

    OpenVINO 2026.4 gave a quarter of the labels for some graphs that TorchScript had traced. It
    goes wrong where the size of a quantized tensor is read, as for an upsampling to that size.

    Args:
        model: The ONNX file.
        spec: Its spec.
        name: What a warning calls it.

    Returns:
        The backends that differ; none for files that are not quantized, and where OpenVINO is not
        installed.
    """
    if not PRECISIONS[spec.precision].quantized or find_spec("openvino") is None:
        return ()
    with warnings.catch_warnings():
        # OpenVINO may overflow on this processor; the comparison shows whether it does.
        warnings.simplefilter("ignore", ModelWarning)
        with (
            open_subject(model, BackendRequest(backend="onnxruntime")) as verified,
            open_subject(model, BackendRequest(backend="openvino")) as other,
        ):
            report = verify(verified, other, max_pixels=_MAX_PIXELS)
    if not report.failures:
        return ()
    rule = "OpenVINO must give the labels that ONNX Runtime gives"
    got = f"{100 * report.label_agreement:.1f} % of them"
    warn_of_model(
        message(name, rule, got, "it is noted in the file: --backend auto passes it over")
    )
    return ("openvino",)
