"""Reading a TensorRT engine file before any library touches it: sidecar, hashes, plan header.

An engine is two files. ``model.engine`` is a pure plan, which every TensorRT tool can read.
``model.engine.json`` beside it is the sidecar: which model the plan is, from which ONNX file, by
which library and for which shapes. With head ``scores`` there is a third, the weights of the last
layer (``last_layer.py``). Reading the sidecar is closed-world, as for a ModelSpec. The backend
checks the rest: whether the engine runs on this GPU and deserializes.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from fcnkit.errors import ArtifactError, message, warn_of_model
from fcnkit.runtime.artifacts.engine_header import (
    Flavor,
    PlanHeader,
    check_length,
    read_plan_header,
)
from fcnkit.runtime.artifacts.last_layer import read_beside_engine
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.plain import SpecKeyError, key_error, read_plain
from fcnkit.runtime.artifacts.spec import (
    ModelSpec,
    Shape,
    ShapeRange,
    format_shape,
)
from fcnkit.runtime.files import sha256_of

__all__ = [
    "LARGEST_PROFILE",
    "SIDECAR_FORMAT",
    "BuilderOptions",
    "EngineFile",
    "Flavor",
    "HardwareCompatibility",
    "OnnxSource",
    "PlanFacts",
    "Sidecar",
    "check_installed",
    "read_engine_file",
    "sidecar_path",
]

SIDECAR_FORMAT: Final = 1
"""Version of the sidecar's JSON form; a reader refuses every other."""

_MOST_SIDECAR: Final = 1 << 20


LARGEST_PROFILE: Final[Shape] = (16, 1024, 1024)
"""An engine reserves memory for its largest shape, so the default stays below what an ONNX file
may take."""


HardwareCompatibility = Literal["ampere+", "same"]
"""Other GPUs that an engine runs on: Ampere and newer, or those of the same compute capability."""


@dataclass(frozen=True, kw_only=True)
class BuilderOptions:
    """What the builder was told; None and empty stand for the library's own default."""

    workspace_mib: int | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility | None = None
    compute_capability: tuple[str, ...] = ()
    """TensorRT-RTX only, such as ``8.9``, or ``current`` for the GPU of the machine."""

    def arguments(self) -> list[str]:
        """Return the options of ``fcnkit export engine`` that say the same."""
        words: list[str] = []
        if self.workspace_mib is not None:
            words += ["--workspace", str(self.workspace_mib)]
        if self.optimization_level is not None:
            words += ["--optimization-level", str(self.optimization_level)]
        if self.version_compatible:
            words += ["--version-compatible"]
        if self.hardware_compatibility is not None:
            words += ["--hardware-compatibility", self.hardware_compatibility]
        for capability in self.compute_capability:
            words += ["--compute-capability", capability]
        return words


@dataclass(frozen=True, kw_only=True)
class OnnxSource:
    """The ONNX file that an engine was built from."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """The plan that a sidecar describes."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What ``model.engine.json`` holds."""

    format: int
    spec: ModelSpec
    """Its shapes reach from the smallest to the largest of all profiles."""
    profiles: tuple[ShapeRange, ...]
    flavor: Flavor
    library: str
    """Module and version, such as ``tensorrt_rtx 1.7.1.116``."""
    compute_capability: tuple[str, ...]
    """The GPU generations that the plan runs on, as far as its builder told."""
    builder: BuilderOptions
    onnx: OnnxSource
    plan: PlanFacts
    verified: str | None
    """What the comparison with the ONNX file measured; None where no GPU could run the engine."""

    def rebuild(self, engine: Path) -> str:
        """Return the command that builds this engine again."""
        beside = engine.parent / self.onnx.name
        model = str(beside) if beside.is_file() else self.onnx.name
        words = ["fcnkit", "export", "engine", model, "-o", str(engine)]
        words += ["--flavor", self.flavor]
        for profile in self.profiles:
            shapes = (profile.min, profile.opt, profile.max)
            words += ["--profile", ",".join(map(format_shape, shapes))]
        return shlex.join([*words, *self.builder.arguments()])


@dataclass(frozen=True, kw_only=True)
class EngineFile:
    """An engine that passed every check that needs no library."""

    path: Path
    plan: bytes = field(repr=False)
    spec: ModelSpec
    flavor: Flavor
    library: str
    """Module and version that built the plan, such as ``tensorrt_rtx 1.7.1.116``."""
    profiles: tuple[ShapeRange, ...]
    """In the plan's order; empty without a sidecar, when only the opened engine can tell."""
    sidecar: dict[str, Any] = field(repr=False)
    """As read from JSON; empty where there is none."""
    rebuild: str
    """The command that builds the engine again; errors quote it."""

    @property
    def needs_host_code(self) -> bool:
        """Whether the plan holds code that runs on the host: a version-compatible one does."""
        return bool(self.sidecar.get("builder", {}).get("version_compatible"))

    def profile_for(self, shape: Shape) -> int:
        """Return the index of the first profile that takes a shape.

        Args:
            shape: (N, H, W).

        Raises:
            ArtifactError: No profile takes it.
        """
        for index, profile in enumerate(self.profiles):
            sides = zip(profile.min, shape, profile.max, strict=True)
            if all(low <= side <= high for low, side, high in sides):
                return index
        ranges = (f"{format_shape(p.min)} to {format_shape(p.max)}" for p in self.profiles)
        rule = f"the engine takes NxHxW of {' or '.join(ranges)}"
        words = ",".join([format_shape(shape)] * 3)
        remedy = f"build one with a profile for it: {self.rebuild} --profile {words}"
        raise ArtifactError(message(str(self.path), rule, format_shape(shape), remedy))


def sidecar_path(engine: Path) -> Path:
    """Return where an engine's sidecar lies: ``model.engine.json`` beside ``model.engine``."""
    return engine.with_name(f"{engine.name}.json")


def read_engine_file(path: str | Path, *, spec_from: str | Path | None = None) -> EngineFile:
    """Read an engine and check whatever can be checked without a library.

    The order is: the sidecar, its hash of the plan, the plan's header, the last layer's weights.

    Args:
        path: The .engine file.
        spec_from: The ONNX file that the engine was built from. Needed where no sidecar lies
            beside the engine; where one does, it must name the same file.

    Returns:
        The engine, ready to be deserialized.

    Raises:
        ArtifactError: Engine or sidecar is missing, broken, truncated or not the other's, or
            ``spec_from`` is not the file that the engine was built from. The message ends in the
            command that builds the engine again.
    """
    path = Path(path)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise ArtifactError(message(str(path), "must be an engine file", got, "check the path"))
    held = sidecar_path(path)
    if held.is_file():
        return _with_sidecar(path, held, spec_from)
    if spec_from is not None:
        return _without_sidecar(path, Path(spec_from))
    rule = f"its sidecar {held.name} must lie beside it"
    remedy = f"copy it along, name the ONNX file with --spec, or {_build_again(_any_rebuild(path))}"
    raise ArtifactError(message(str(path), rule, "no such file", remedy))


def check_installed(engine: EngineFile, library: str) -> None:
    """Refuse an engine that another version of the library built.

    Args:
        engine: The engine.
        library: Module and version that are installed, such as ``tensorrt_rtx 1.7.1.116``.

    Raises:
        ArtifactError: The versions differ and the engine was not built version compatible.
    """
    module, _, version = library.partition(" ")
    wanted, _, built = engine.library.partition(" ")
    fits = (module, _release(version)) == (wanted, _release(built))
    runs_in = "that version only"
    if engine.needs_host_code:
        runs_in = "that version, and later ones of the same major version, only"
    if engine.needs_host_code and module == wanted:
        # From TensorRT 8.6 on such a plan runs in every later minor version of its major one.
        ours, theirs = _numbers(version), _numbers(built)
        fits = ours[0] == theirs[0] and ours >= theirs
    if not fits:
        rule = f"was built by {engine.library} and runs in {runs_in}"
        remedy = f"install that version or {_build_again(engine.rebuild)}"
        raise ArtifactError(message(str(engine.path), rule, library, remedy))


def _build_again(command: str) -> str:
    return f"build it again: {command}"


def _any_rebuild(path: Path) -> str:
    """The command where nothing is known but the engine's name."""
    return shlex.join(["fcnkit", "export", "engine", "MODEL.onnx", "-o", str(path)])


def _release(version: str) -> str:
    """1.7.1 of 1.7.1.116: the libraries compare only this part."""
    return ".".join(version.split(".")[:3])


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()] or [0]


def _with_sidecar(path: Path, held: Path, spec_from: str | Path | None) -> EngineFile:
    data, sidecar = _read_sidecar(held, path)
    rebuild = sidecar.rebuild(path)
    if spec_from is not None and sha256_of(Path(spec_from)) != sidecar.onnx.sha256:
        rule = f"must be built from {spec_from}"
        got = f"one built from another file, {sidecar.onnx.name}"
        raise ArtifactError(message(str(path), rule, got, _build_again(rebuild)))
    size, wanted = path.stat().st_size, sidecar.plan.bytes
    check_length(size, wanted, where=str(path), rebuild=rebuild)
    # Check the size first, so that a long file is not read for nothing.
    plan = path.read_bytes() if size == wanted else b""
    if hashlib.sha256(plan).hexdigest() != sidecar.plan.sha256:
        rule = f"must be the plan that {held.name} describes"
        raise ArtifactError(message(str(path), rule, "another one", _build_again(rebuild)))
    header = read_plan_header(plan, where=str(path), rebuild=rebuild)
    built = _library_of(header)
    if (header.flavor, _release(built)) != (sidecar.flavor, _release(sidecar.library)):
        rule = f"must be a plan of {sidecar.library}, as {held.name} says"
        words = message(str(path), rule, f"one of {built}", _build_again(rebuild))
        if header.flavor == sidecar.flavor == "tensorrt":
            # For ordinary TensorRT the place of the version is known for a few versions only. The
            # hash matched, so the library decides.
            warn_of_model(words)
        else:
            raise ArtifactError(words)
    read_beside_engine(path, sidecar.spec, remedy=f"copy it along, or {_build_again(rebuild)}")
    return EngineFile(
        path=path,
        plan=plan,
        spec=sidecar.spec,
        flavor=sidecar.flavor,
        library=sidecar.library,
        profiles=sidecar.profiles,
        sidecar=data,
        rebuild=rebuild,
    )


def _without_sidecar(path: Path, model: Path) -> EngineFile:
    spec = read_onnx_file(model).spec(where=str(model))
    # The result of the ONNX file's check says nothing about the engine.
    spec = replace(spec, source=replace(spec.source, parity=None))
    plan = path.read_bytes()
    rebuild = shlex.join(["fcnkit", "export", "engine", str(model), "-o", str(path)])
    header = read_plan_header(plan, where=str(path), rebuild=rebuild)
    return EngineFile(
        path=path,
        plan=plan,
        spec=spec,
        flavor=header.flavor,
        library=_library_of(header),
        profiles=(),
        sidecar={},
        rebuild=f"{rebuild} --flavor {header.flavor}",
    )


def _library_of(header: PlanHeader) -> str:
    return f"{header.flavor.replace('-', '_')} {header.version}"


def _read_sidecar(held: Path, engine: Path) -> tuple[dict[str, Any], Sidecar]:
    remedy = _build_again(_any_rebuild(engine))
    size = held.stat().st_size
    if size > _MOST_SIDECAR:
        limit = f"must have at most {_MOST_SIDECAR} bytes"
        raise ArtifactError(message(str(held), limit, f"{size} bytes", remedy))
    try:
        data = json.loads(held.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(message(str(held), "must be JSON", str(error), remedy)) from None
    if not isinstance(data, dict) or data.get("format") != SIDECAR_FORMAT:
        got = data.get("format") if isinstance(data, dict) else data
        rule = f"this fcnkit reads engine sidecars of format {SIDECAR_FORMAT}"
        raise ArtifactError(message(f"{held}: format", rule, got, remedy))
    try:
        sidecar = read_plain(Sidecar, data)
        _check_profiles(sidecar)
    except SpecKeyError as error:
        rule, got = error.rule, error.got
        raise ArtifactError(message(f"{held}: key {error.key}", rule, got, remedy)) from None
    return data, sidecar


def _check_profiles(sidecar: Sidecar) -> None:
    if not sidecar.profiles:
        raise key_error("profiles", "must hold at least one", "none")
    multiple, legal = sidecar.spec.input.multiple, sidecar.spec.shapes
    for index, profile in enumerate(sidecar.profiles):
        key = f"profiles[{index}]"
        shapes = (legal.min, profile.min, profile.opt, profile.max, legal.max)
        got = " ".join(map(format_shape, shapes[1:4]))
        if any(side % multiple for shape in shapes for side in shape[1:]):
            raise key_error(key, f"sides must be multiples of {multiple}", got)
        if any(list(sides) != sorted(sides) for sides in zip(*shapes, strict=True)):
            rule = "must be ordered min <= opt <= max within the spec's shapes"
            raise key_error(key, rule, got)
