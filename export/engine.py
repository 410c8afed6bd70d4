"""ONNX to a TensorRT engine: a pure plan, and a sidecar that says what it is."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from fcnkit.errors import ArtifactError, BadValueError, FcnkitError, message
from fcnkit.export.engine_config import apply_options, check_options, read_timing_cache
from fcnkit.export.engine_monitor import Advance, make_monitor
from fcnkit.export.engine_precision import check_layers, check_tensors, compute_layers
from fcnkit.export.engine_profiles import ProfileRequest, complete_profiles
from fcnkit.export.engine_verify import EngineCheck, check_built_engine
from fcnkit.runtime.artifacts.description import ENGINE_SUFFIXES
from fcnkit.runtime.artifacts.engine_file import (
    SIDECAR_FORMAT,
    BuilderOptions,
    OnnxSource,
    PlanFacts,
    Sidecar,
    sidecar_path,
)
from fcnkit.runtime.artifacts.engine_header import Flavor, FlavorChoice, read_plan_header
from fcnkit.runtime.artifacts.last_layer import last_layer_path, read_in_onnx
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import ModelSpec, Shape, ShapeRange, SourceSpec, hull
from fcnkit.runtime.backends.tensorrt_library import import_library, library_name, logger_of
from fcnkit.runtime.checks import check_choice, check_type
from fcnkit.runtime.files import atomic_path, atomic_write, sha256_of

__all__ = ["EngineReport", "build_engine"]


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """What was built, and what is known of it."""

    flavor: Flavor
    """Which of the two libraries built it."""
    library: str
    """Module and version, such as ``tensorrt_rtx 1.7.1.116``."""
    profiles: tuple[ShapeRange, ...]
    """Ranges of shapes that the engine takes."""
    compute_capability: tuple[str, ...]
    """The GPU generations that it runs on, as far as the builder told."""
    bytes: int
    """Size of the plan."""
    precision: str
    """What the parsed network's layers compute in."""
    check: EngineCheck
    """What the engine itself showed on this machine's GPU, if it has one."""


def build_engine(
    model: Path,
    out: Path,
    *,
    flavor: FlavorChoice = "auto",
    profiles: Sequence[ProfileRequest] = (),
    options: BuilderOptions | None = None,
    timing_cache: Path | None = None,
    advance: Advance | None = None,
) -> EngineReport:
    """Build an engine from an ONNX file that fcnkit exported, and prove its precision.

    Where a GPU is at hand, the engine is inspected and run against the ONNX file before it appears.

    Args:
        model: The .onnx file.
        out: The .engine file; its folder exists. ``out`` + ``.json`` is written beside it, and for
            head ``scores`` ``out`` + ``.last_layer``.
        flavor: The library; auto takes ordinary TensorRT where it is installed, else TensorRT-RTX.
        profiles: Ranges of shapes to build for; one that follows from the spec by default.
        options: What the builder is told.
        timing_cache: A file of measured times that is read where it exists, and written back;
            ordinary TensorRT only.
        advance: Told of the builder's progress.

    Returns:
        What was built.

    Raises:
        ArtifactError: The ONNX file is broken, without a spec, or computes in another precision
            than its spec states, or the library cannot parse it.
        MissingExtraError: The library is not installed.
        TypeError: profiles or options are of another type.
        ValueError: flavor is unknown, or a profile or an option does not fit the model or the
            flavor.
        VerifyError: The engine was run, or inspected, and is not what the ONNX file is.
        FcnkitError: The library does not build; its error is quoted. No file is left.
    """
    check_choice("--flavor", flavor, get_args(FlavorChoice))
    if out.suffix not in ENGINE_SUFFIXES:
        rule = f"must end in {' or '.join(ENGINE_SUFFIXES)}"
        raise BadValueError(message("-o", rule, str(out), "name it model.engine"))
    if out.is_dir():
        raise BadValueError(message("-o", "must be a file", str(out), "name another"))
    if not out.parent.is_dir():
        got = str(out.parent)
        raise BadValueError(message("-o", "its folder must exist", got, "create it first"))
    options = BuilderOptions() if options is None else options
    check_type("build_engine: options", options, BuilderOptions)
    check_type("build_engine: profiles", profiles, Sequence)
    for profile in profiles:
        check_type("build_engine: profiles", profile, ProfileRequest)
    file = read_onnx_file(model)
    spec = file.spec(where=str(model))
    ranges = complete_profiles(spec, profiles)
    flavor, trt = import_library(flavor, what="fcnkit export engine")
    check_options(trt, flavor, options, timing_cache=timing_cache)
    sha256 = sha256_of(model)
    build = _Build(trt, model, spec)
    precision = check_layers(
        compute_layers(trt, build.network), spec, kept=file.kept, where=str(model)
    )
    plan = build.run(ranges, options, timing_cache=timing_cache, advance=advance)
    if sha256_of(model) != sha256:
        rule, got = "must stay as it is while an engine is built from it", "another file"
        raise ArtifactError(message(str(model), rule, got, "run the command again"))
    again = shlex.join(["fcnkit", "export", "engine", str(model), "-o", str(out)])
    header = read_plan_header(plan, where=str(out), rebuild=again)
    source = OnnxSource(name=model.name, sha256=sha256)
    sidecar = Sidecar(
        format=SIDECAR_FORMAT,
        spec=_engine_spec(spec, ranges, source),
        profiles=ranges,
        flavor=flavor,
        library=library_name(trt),
        compute_capability=header.compute_capability,
        builder=options,
        onnx=source,
        plan=PlanFacts(bytes=len(plan), sha256=hashlib.sha256(plan).hexdigest()),
        verified=None,
    )
    check = _write(trt, plan, sidecar, model=model, out=out)
    return EngineReport(
        flavor=flavor,
        library=sidecar.library,
        profiles=ranges,
        compute_capability=header.compute_capability,
        bytes=len(plan),
        precision=precision,
        check=check,
    )


def _engine_spec(spec: ModelSpec, ranges: tuple[ShapeRange, ...], source: OnnxSource) -> ModelSpec:
    """Return the model's spec, its shapes and source those of the engine."""
    # The result of the ONNX file's check says nothing about the engine.
    made_from = SourceSpec(sha256=source.sha256, parity=None)
    return replace(spec, shapes=hull(ranges), source=made_from)


def _write(trt: Any, plan: bytes, sidecar: Sidecar, *, model: Path, out: Path) -> EngineCheck:
    """Check the engine under a temporary name, and give the files their names only then."""
    weights = read_in_onnx(model, sidecar.spec)
    with atomic_path(out) as temporary:
        temporary.write_bytes(plan)
        sidecar_path(temporary).write_text(_dump(sidecar))
        if weights is not None:
            last_layer_path(temporary).write_bytes(weights.to_bytes())
        check = check_built_engine(trt, temporary, model, name=out.name)
        # Write the sidecar first. If we are killed in between, the old engine's hash does not match
        # the new sidecar, and opening it fails with a clear error.
        spec = sidecar.spec.with_parity(check.verified) if check.verified else sidecar.spec
        final = replace(sidecar, spec=spec, verified=check.verified)
        atomic_write(sidecar_path(out), _dump(final).encode())
        if weights is None:
            last_layer_path(out).unlink(missing_ok=True)  # of an engine that was there before
        else:
            atomic_write(last_layer_path(out), weights.to_bytes())
    return check


def _dump(sidecar: Sidecar) -> str:
    return json.dumps(asdict(sidecar), indent=2)


class _Build:
    """A parsed network and the builder that owns it."""

    def __init__(self, trt: Any, model: Path, spec: ModelSpec) -> None:
        self._trt, self._model, self._spec = trt, model, spec
        self._logger = logger_of(trt)
        try:
            self._builder = trt.Builder(self._logger)
        except TypeError as error:  # what pybind11 raises where the library gives a null pointer
            rule, got = f"{library_name(trt)} must start", self._logger.first_error or str(error)
            remedy = "it builds on its GPU only; use --flavor tensorrt-rtx where there is none"
            raise FcnkitError(message("fcnkit export engine", rule, got, remedy)) from error
        # Precision is a property of the graph. TensorRT 10 needs a flag for this; later versions
        # always do it.
        flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        self.network = self._builder.create_network(0 if flag is None else 1 << int(flag))
        # The parser owns weights that the network refers to, so it has to live as long.
        self._parser = trt.OnnxParser(self.network, self._logger)
        if not self._parser.parse_from_file(str(model)):
            errors = [self._parser.get_error(i) for i in range(self._parser.num_errors)]
            got = ", ".join(f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors)
            rule = f"{library_name(trt)} must be able to parse the graph"
            remedy = "use another head, or ONNX Runtime"
            if "zero point" in got:
                remedy = "it takes no zero points, export with --activations int8"
            raise ArtifactError(message(str(model), rule, got, remedy))
        check_tensors(self.network, spec, where=str(model))

    def run(
        self,
        ranges: Sequence[ShapeRange],
        options: BuilderOptions,
        *,
        timing_cache: Path | None,
        advance: Advance | None,
    ) -> bytes:
        """Build the plan; a failure quotes the library's first error."""
        trt, logger = self._trt, self._logger
        config = self._builder.create_builder_config()
        cache = None if timing_cache is None else read_timing_cache(timing_cache)
        apply_options(trt, config, options, cache=cache)
        for shapes in ranges:
            profile = self._builder.create_optimization_profile()
            sizes = [_tensor_shape(s, self._spec) for s in (shapes.min, shapes.opt, shapes.max)]
            profile.set_shape(self._spec.input.name, *sizes)
            config.add_optimization_profile(profile)
        monitor = make_monitor(trt, advance or (lambda *_: None))
        config.progress_monitor = monitor
        logger.first_error = None
        plan = self._builder.build_serialized_network(self.network, config)
        if monitor.raised is not None:
            raise monitor.raised
        if plan is None:
            rule = f"{library_name(trt)} must build an engine"
            remedy = "change the options or the profiles"
            if trt.__name__ == "tensorrt":
                remedy += ", and note that it builds on the GPU it builds for only"
            got = logger.first_error or "no message"
            raise FcnkitError(message(str(self._model), rule, got, remedy))
        if timing_cache is not None:
            atomic_write(timing_cache, bytes(config.get_timing_cache().serialize()))
        return bytes(plan)


def _tensor_shape(shape: Shape, spec: ModelSpec) -> tuple[int, int, int, int]:
    batch, height, width = shape
    if spec.input.layout == "NCHW":
        return batch, 3, height, width
    return batch, height, width, 3
