"""What a built engine shows on a GPU: the types inside it, and the ONNX file's results."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BackendUnavailableError, MissingExtraError, VerifyError, message
from fcnkit.export.engine_precision import check_engine
from fcnkit.runtime.backends import CheckedBackend, open_backend
from fcnkit.runtime.engine_file import EngineFile, read_engine_file
from fcnkit.runtime.spec import Precision, Shape, format_shape
from fcnkit.runtime.tensorrt_library import logger_of

__all__ = ["EngineCheck", "check_built_engine", "compare"]

AGREEMENT: dict[Precision, float] = {"fp32": 0.999, "fp16": 0.998, "int8": 0.99}
"""Share of labels that must be the ONNX file's, by precision. A GPU multiplies float32 in TF32 by
default, so even there near ties fall otherwise."""

_LARGEST = 1024 * 1024
"""Pixels of a batch to compare at most: the CPU, too, has to run it."""


@dataclass(frozen=True, kw_only=True)
class EngineCheck:
    """What an engine showed when it was loaded and run."""

    inspected: str | None
    """How many of its layers hold which types; None where it could not be deserialised."""
    verified: str | None
    """What the comparison with the ONNX file measured; None where it could not be run."""
    reason: str | None
    """Why it could not be run; None where it was."""


def check_built_engine(trt: Any, path: Path, model: Path, *, name: str) -> EngineCheck:
    """Deserialise an engine where that is possible, inspect it, and run it against its ONNX file.

    Args:
        trt: The module that built it.
        path: The engine, its sidecar beside it.
        model: The ONNX file.
        name: What to call the engine in errors.

    Returns:
        What it showed, or why it could not be run here.

    Raises:
        VerifyError: The engine is inspected or run, and is not what the ONNX file is.
    """
    file = read_engine_file(path)
    logger = logger_of(trt)
    logger.first_error = None
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(file.plan)
    if engine is None:
        reason = logger.first_error or "the library gave no reason"
        return EngineCheck(inspected=None, verified=None, reason=reason)
    inspector = engine.create_engine_inspector()
    report = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    inspected = check_engine(report, file.spec, where=name)
    del inspector, engine, runtime
    with ExitStack() as stack:
        try:
            ours = stack.enter_context(open_backend(path, backend=file.flavor))
            theirs = stack.enter_context(open_backend(model, backend="onnxruntime"))
        except (BackendUnavailableError, MissingExtraError) as error:
            return EngineCheck(inspected=inspected, verified=None, reason=str(error))
        verified = compare(ours, theirs, file, name=name)
    return EngineCheck(inspected=inspected, verified=verified, reason=None)


def _shapes(file: EngineFile) -> list[Shape]:
    """Return every profile's shapes as far as a CPU can follow, and each once."""
    shapes = (shape for p in file.profiles for shape in (p.min, p.opt, p.max))
    small = [shape for shape in shapes if int(np.prod(shape)) <= _LARGEST]
    return list(dict.fromkeys(small)) or [file.profiles[0].min]


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
        VerifyError: Fewer labels agree than AGREEMENT asks for.
    """
    agreed = pixels = 0
    shapes = _shapes(file)
    for shape in shapes:
        batch = _noise(shape, file)
        ours, theirs = (_labels(backend.infer(batch)) for backend in (engine, reference))
        agreed += int((ours == theirs).sum())
        pixels += theirs.size
    share = agreed / pixels
    sizes = ", ".join(map(format_shape, shapes))
    summary = f"label agreement {100 * share:.4f} % with ONNX Runtime ({sizes})"
    wanted = AGREEMENT[file.spec.precision]
    if share < wanted:
        rule = f"must give the labels of the ONNX file on {100 * wanted:g} % of all pixels"
        remedy = "this is a bug of the exporter or the library, please report it"
        raise VerifyError(message(name, rule, summary, remedy))
    return summary


def _noise(shape: Shape, file: EngineFile) -> NDArray[Any]:
    """Return pictures of coarse and fine structure as the model's head takes them."""
    batch, height, width = shape
    random = np.random.default_rng(height * 4099 + width)
    coarse = random.integers(0, 256, (batch, -(-height // 16), -(-width // 16), 3))
    coarse = coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    fine = random.integers(-40, 41, (batch, height, width, 3))
    image_nhwc = (coarse + fine).clip(0, 255).astype(np.uint8)
    if file.spec.input.dtype == "uint8":
        return image_nhwc
    scaled = (image_nhwc / 255 - np.array(file.spec.input.mean)) / np.array(file.spec.input.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def _labels(result: NDArray[Any]) -> NDArray[Any]:
    return result.argmax(1) if result.ndim == 4 else result
