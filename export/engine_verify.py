"""What a built engine shows on a GPU: the types inside it, and the ONNX file's results."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from fcnkit.errors import BackendUnavailableError
from fcnkit.export.engine_precision import check_engine
from fcnkit.export.subject import Subject
from fcnkit.export.verification import default_tolerance, require, verify
from fcnkit.runtime.artifacts.engine_file import read_engine_file
from fcnkit.runtime.backends.opening import open_backend, open_model, read_last_layer
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.tensorrt import CACHE, HOST_CODE
from fcnkit.runtime.backends.tensorrt_library import logger_of

__all__ = ["EngineCheck", "check_built_engine", "compare_engine"]

_SAME_GRAPH: Final = 0.99
_SAME_GRAPH_PICTURE: Final = 0.9
"""Labels that an engine and its ONNX file share at least, of all pixels and of each picture."""


@dataclass(frozen=True, kw_only=True)
class EngineCheck:
    """What an engine showed when it was loaded and run."""

    inspected: str | None
    """How many of its layers hold which types; None where it could not be deserialized."""
    verified: str | None
    """What the comparison with the ONNX file measured; None where it could not be run."""
    reason: str | None
    """Why it could not be run; None where it was."""


def check_built_engine(trt: Any, path: Path, model: Path, *, name: str) -> EngineCheck:
    """Deserialize an engine where that is possible, inspect it, and run it against its ONNX file.

    Args:
        trt: The module that built it.
        path: The engine, its sidecar beside it.
        model: The ONNX file.
        name: What to call the engine in errors.

    Returns:
        What it showed, or why it could not be run here.

    Raises:
        MissingExtraError: There is a GPU, and what runs the two files is not installed.
        VerifyError: The engine is inspected or run, and is not what the ONNX file is.
    """
    file = read_engine_file(path)
    logger = logger_of(trt)
    logger.first_error = None
    runtime = trt.Runtime(logger)
    # This process built it a moment ago.
    options = {HOST_CODE: "1"} if file.needs_host_code else {}
    if options:
        runtime.engine_host_code_allowed = True
    if file.flavor == "tensorrt-rtx":
        options[CACHE] = "0"  # beside a temporary name it would be of no use
    engine = runtime.deserialize_cuda_engine(file.plan)
    if engine is None:
        reason = logger.first_error or "the library gave no reason"
        return EngineCheck(inspected=None, verified=None, reason=reason)
    inspector, inspected = engine.create_engine_inspector(), None
    if inspector is not None:  # the lean runtime of a version-compatible engine has none
        report = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        inspected = check_engine(report, file.spec, where=name)
    del inspector, engine, runtime
    with ExitStack() as stack:
        try:
            built = stack.enter_context(open_model(path, BackendRequest(options=options)))
            source = stack.enter_context(open_backend(model, backend="onnxruntime"))
        except BackendUnavailableError as error:
            return EngineCheck(inspected=inspected, verified=None, reason=str(error))
        verified = compare_engine(
            Subject(
                source,
                name=model.name,
                kind="onnx",
                sha256=None,
                last_layer=read_last_layer(model, source.spec),
            ),
            Subject(
                built,
                name=name,
                kind="engine",
                sha256=None,
                profiles=file.profiles,
                last_layer=read_last_layer(path, built.spec),
            ),
        )
    return EngineCheck(inspected=inspected, verified=verified, reason=None)


def compare_engine(model: Subject, engine: Subject) -> str:
    """Run an engine against its ONNX file, on batches of 1 and more within each profile.

    Args:
        model: The ONNX file.
        engine: The engine.

    Returns:
        One line of what was measured.

    Raises:
        VerifyError: The engine is out of tolerance.
    """
    tolerance = default_tolerance(model, engine)
    # Quantizing happened before: both sides hold the same graph, and only its rounding differs.
    stricter = replace(
        tolerance,
        min_agreement=max(tolerance.min_agreement, _SAME_GRAPH),
        min_picture_agreement=max(tolerance.min_picture_agreement, _SAME_GRAPH_PICTURE),
    )
    report = verify(model, engine, tolerance=stricter)
    require(report, remedy="this is a bug of the exporter or the library, please report it")
    return report.summary()
