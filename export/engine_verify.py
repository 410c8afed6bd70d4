"""What a built engine shows on a GPU: the types inside it, and the ONNX file's results."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BackendUnavailableError, VerifyError, message
from fcnkit.export.comparison_images import comparison_pictures, normalized
from fcnkit.export.engine_precision import check_engine
from fcnkit.export.shapes import MAX_PIXELS, comparison_shapes
from fcnkit.runtime.artifacts.engine_file import EngineFile, read_engine_file
from fcnkit.runtime.artifacts.spec import Precision, Shape, format_shape
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.backends.opening import open_backend
from fcnkit.runtime.backends.tensorrt import CACHE, HOST_CODE, open_engine
from fcnkit.runtime.backends.tensorrt_library import logger_of

__all__ = ["EngineCheck", "check_built_engine", "compare"]

AGREEMENT: dict[Precision, float] = {"fp32": 0.999, "fp16": 0.998, "int8": 0.99}
"""Share of labels that must be the ONNX file's over all shapes, by precision."""

PICTURE_AGREEMENT = 0.9
"""The same for each picture: a large one must not outvote one in which all is wrong, and the
smallest ones have so few pixels that some near ties of noise weigh much."""

LOGIT_ERROR: dict[Precision, float] = {"fp32": 0.01, "fp16": 0.05, "int8": 0.5}
"""Largest error of a logit, as a share of the largest logit of the batch. A GPU adds
in another order and may transform convolutions (Winograd)."""


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
            ours = stack.enter_context(open_engine(path, options=options))
            theirs = stack.enter_context(open_backend(model, backend="onnxruntime"))
        except BackendUnavailableError as error:
            return EngineCheck(inspected=inspected, verified=None, reason=str(error))
        verified = compare(ours, theirs, file, name=name)
    return EngineCheck(inspected=inspected, verified=verified, reason=None)


def _shapes(file: EngineFile) -> tuple[Shape, ...]:
    """Return the shapes of every profile, as far as a CPU can follow."""
    spec = file.spec
    shapes, _ = comparison_shapes(
        spec.shapes, file.profiles, heads=[spec.head], max_pixels=MAX_PIXELS
    )
    return shapes


def compare(
    engine: CheckedBackend, reference: CheckedBackend, file: EngineFile, *, name: str
) -> str:
    """Run an engine and its ONNX file on noise, in the shapes of the engine's profiles.

    Args:
        engine: Runs the engine.
        reference: Runs the ONNX file.
        file: The engine's profiles and precision.
        name: What to call the engine in errors.

    Returns:
        One line of what was measured.

    Raises:
        VerifyError: Fewer labels agree than AGREEMENT and PICTURE_AGREEMENT ask for, or a logit is
            off by more than LOGIT_ERROR.
    """
    agreed = pixels = 0
    error, least = 0.0, 1.0
    shapes = _shapes(file)
    batches = (_batch(image, file) for s in shapes for image in comparison_pictures(s))
    for batch in batches:
        ours, theirs = (backend.infer(batch) for backend in (engine, reference))
        if theirs.ndim == 4:
            scale = float(abs(theirs).max()) or 1.0
            error = max(error, float(abs(ours - theirs).max()) / scale)
        same = _labels(ours) == _labels(theirs)
        least = min(least, float(same.mean((1, 2)).min()))
        agreed += int(same.sum())
        pixels += same.size
    share, precision = agreed / pixels, file.spec.precision
    sizes = ", ".join(map(format_shape, shapes))
    summary = f"label agreement {100 * share:.4f} % with ONNX Runtime ({sizes})"
    rules = (
        (share >= AGREEMENT[precision],
         f"must give the labels of the ONNX file on {100 * AGREEMENT[precision]:g} % of all pixels",
         summary),
        (least >= PICTURE_AGREEMENT,
         f"must give the labels of the ONNX file on {100 * PICTURE_AGREEMENT:g} % of every picture",
         f"{100 * least:.2f} % of one"),
        (error <= LOGIT_ERROR[precision],
         f"must give logits within {LOGIT_ERROR[precision]:g} of the largest one",
         f"an error of {error:.1e}"),
    )  # fmt: skip
    for kept, rule, got in rules:
        if not kept:
            remedy = "this is a bug of the exporter or the library, please report it"
            raise VerifyError(message(name, rule, got, remedy))
    return summary


def _batch(image_nhwc: NDArray[np.uint8], file: EngineFile) -> NDArray[Any]:
    """Return pictures as the model's head takes them."""
    uint8 = file.spec.input.dtype == "uint8"
    return image_nhwc if uint8 else normalized(image_nhwc, file.spec.input)


def _labels(result: NDArray[Any]) -> NDArray[Any]:
    return result.argmax(1) if result.ndim == 4 else result
