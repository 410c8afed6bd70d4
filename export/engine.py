"""ONNX to a TensorRT engine: a pure plan, and a sidecar that says what it is.

The Python modules ``tensorrt`` and ``tensorrt_rtx`` are near twins, so one builder serves both.
TensorRT-RTX builds ahead of time on machines without a GPU; ordinary TensorRT needs the GPU it
builds for.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from fcnkit.errors import ArtifactError, FcnkitError, message, missing_extra
from fcnkit.runtime.engine_file import (
    SIDECAR_FORMAT,
    BuilderOptions,
    OnnxSource,
    PlanFacts,
    Sidecar,
    sidecar_path,
)
from fcnkit.runtime.files import atomic_path, atomic_write, sha256_of
from fcnkit.runtime.onnx_file import read_onnx_file
from fcnkit.runtime.plan_header import Flavor, read_plan_header
from fcnkit.runtime.spec import ModelSpec, Shape, ShapeRange, SourceSpec, format_shape

__all__ = ["EngineReport", "build_engine"]

_MODULES: Final[dict[Flavor, str]] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_DEFAULT_MAX: Final[Shape] = (16, 1024, 1024)
"""An engine reserves memory for its largest shape, so the default stays below what an ONNX file
may take."""

_log = logging.getLogger("fcnkit.tensorrt")


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """What was built."""

    flavor: Flavor
    library: str
    shapes: ShapeRange
    bytes: int
    verified: bool
    """Whether the engine was run against the ONNX file; this version never runs engines."""


def build_engine(
    model: Path,
    out: Path,
    *,
    flavor: Flavor | Literal["auto"] = "auto",
    min_shape: Shape | None = None,
    opt_shape: Shape | None = None,
    max_shape: Shape | None = None,
) -> EngineReport:
    """Build an engine with one optimisation profile from an ONNX file that fcnkit exported.

    Args:
        model: The .onnx file.
        out: The .engine file; its folder exists. ``out`` + ``.json`` is written beside it.
        flavor: The library; auto takes ordinary TensorRT where it is installed, else TensorRT-RTX.
        min_shape: Smallest (N, H, W); the spec's by default.
        opt_shape: The (N, H, W) to tune for; the spec's by default.
        max_shape: Largest (N, H, W); the spec's, at most 16x1024x1024, by default.

    Returns:
        What was built.

    Raises:
        ArtifactError: The ONNX file is broken, without a spec, or the library cannot parse it.
        MissingExtraError: The library is not installed.
        ValueError: A shape is no multiple, out of the spec's range, or min <= opt <= max fails.
        FcnkitError: The library does not build; its last message is quoted. No file is left.
    """
    if not out.parent.is_dir():
        got = str(out.parent)
        raise ValueError(message("-o", "its folder must exist", got, "create it first"))
    spec = read_onnx_file(model).spec(where=str(model))
    shapes = _shape_range(spec, min_shape, opt_shape, max_shape)
    flavor, trt = _import(flavor)
    plan = _build_plan(trt, model, spec, shapes)
    spec = replace(
        spec, shapes=shapes, source=SourceSpec(sha256=sha256_of(model), parity=spec.source.parity)
    )
    header = read_plan_header(plan, where=str(out), rebuild="")
    sidecar = Sidecar(
        format=SIDECAR_FORMAT,
        spec=spec,
        profiles=(shapes,),
        flavor=flavor,
        library=f"{trt.__name__} {trt.__version__}",
        compute_capability=header.compute_capability,
        builder=BuilderOptions(),
        onnx=OnnxSource(name=model.name, sha256=sha256_of(model)),
        plan=PlanFacts(bytes=len(plan), sha256=hashlib.sha256(plan).hexdigest()),
        verified=None,
    )
    with atomic_path(out) as temporary:
        temporary.write_bytes(plan)
        # First the sidecar: an engine without one would be opened by nobody, the other way round
        # an old engine would lie beside a sidecar whose hash tells that it is another's.
        atomic_write(sidecar_path(out), json.dumps(asdict(sidecar), indent=2).encode())
    return EngineReport(
        flavor=flavor,
        library=sidecar.library,
        shapes=shapes,
        bytes=len(plan),
        verified=False,
    )


def _shape_range(
    spec: ModelSpec, low: Shape | None, opt: Shape | None, high: Shape | None
) -> ShapeRange:
    """Complete and check the profile."""
    legal = spec.shapes
    default_high = tuple(min(a, b) for a, b in zip(legal.max, _DEFAULT_MAX, strict=True))
    high = high or (default_high[0], default_high[1], default_high[2])
    low = low or legal.min
    opt = opt or _middle(low, legal.opt, high)
    multiple = spec.input.multiple
    for option, shape in (("--min", low), ("--opt", opt), ("--max", high)):
        batch, height, width = shape
        if height % multiple or width % multiple:
            fit = format_shape((batch, _up(height, multiple), _up(width, multiple)))
            rule = f"sides must be multiples of {multiple}"
            raise ValueError(message(option, rule, format_shape(shape), f"use {fit}"))
        if not _ordered(legal.min, shape, legal.max):
            rule = f"must lie within {format_shape(legal.min)} to {format_shape(legal.max)}"
            remedy = "the ONNX file takes no other shapes"
            raise ValueError(message(option, rule, format_shape(shape), remedy))
    if not _ordered(low, opt, high):
        got = " ".join(map(format_shape, (low, opt, high)))
        rule = "must be ordered min <= opt <= max in every dimension"
        raise ValueError(message("--min --opt --max", rule, got, "reorder them"))
    return ShapeRange(min=low, opt=opt, max=high)


def _up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _ordered(low: Shape, middle: Shape, high: Shape) -> bool:
    return all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))


def _middle(low: Shape, wanted: Shape, high: Shape) -> Shape:
    """Return the wanted shape, moved into the range."""
    batch, height, width = (
        min(max(side, a), b) for a, side, b in zip(low, wanted, high, strict=True)
    )
    return batch, height, width


def _import(flavor: Flavor | Literal["auto"]) -> tuple[Flavor, Any]:
    if flavor == "auto":
        try:
            return "tensorrt", importlib.import_module("tensorrt")
        except ImportError:
            flavor = "tensorrt-rtx"
    try:
        return flavor, importlib.import_module(_MODULES[flavor])
    except ImportError as error:
        raise missing_extra("fcnkit export engine", _MODULES[flavor], flavor) from error


def _make_logger(trt: Any) -> Any:
    """Return a logger of the library that hands its lines to Python logging and keeps the last."""
    levels = {
        trt.ILogger.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.WARNING,
        trt.ILogger.INFO: logging.INFO,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.last_error = "no message"

        def log(self, severity: Any, text: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level == logging.ERROR:
                self.last_error = text
            _log.log(level, text)

    return Logger()


def _build_plan(trt: Any, model: Path, spec: ModelSpec, shapes: ShapeRange) -> bytes:
    logger = _make_logger(trt)
    builder = trt.Builder(logger)
    # Precision is a property of the graph. TensorRT 10 has to be told so, later ones know no other.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        got = ", ".join(f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors)
        rule = f"{trt.__name__} {trt.__version__} must be able to parse the graph"
        raise ArtifactError(message(str(model), rule, got, "use another head, or ONNX Runtime"))
    profile = builder.create_optimization_profile()
    sizes = [_tensor_shape(shape, spec) for shape in (shapes.min, shapes.opt, shapes.max)]
    profile.set_shape(spec.input.name, *sizes)
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        rule = f"{trt.__name__} {trt.__version__} must build an engine"
        remedy = "ordinary TensorRT builds on the GPU it builds for only; see fcnkit doctor"
        raise FcnkitError(message(str(model), rule, logger.last_error, remedy))
    return bytes(plan)


def _tensor_shape(shape: Shape, spec: ModelSpec) -> tuple[int, int, int, int]:
    batch, height, width = shape
    if spec.input.layout == "NCHW":
        return batch, 3, height, width
    return batch, height, width, 3
