"""``fcnkit export engine``: ONNX to a TensorRT engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.following import say_next
from fcnkit.cli.progress import progress_of
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, message, missing_extra
from fcnkit.runtime.artifacts.engine_file import BuilderOptions, HardwareCompatibility
from fcnkit.runtime.artifacts.engine_header import FlavorChoice
from fcnkit.runtime.artifacts.spec import Shape, ShapeRange, format_shape, parse_shape

if TYPE_CHECKING:
    from fcnkit.export.engine import EngineReport
    from fcnkit.export.engine_profiles import ProfileRequest

__all__ = ["engine"]


@documented
def engine(
    model: Annotated[Path, typer.Argument(help="An .onnx file that fcnkit exported.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out")],
    flavor: FlavorChoice = "auto",
    low: Annotated[str | None, typer.Option("--min")] = None,
    opt: Annotated[str | None, typer.Option("--opt")] = None,
    high: Annotated[str | None, typer.Option("--max")] = None,
    profile: list[str] | None = None,
    workspace: int | None = None,
    optimization_level: int | None = None,
    timing_cache: Path | None = None,
    version_compatible: Annotated[bool, typer.Option("--version-compatible")] = False,
    hardware_compatibility: HardwareCompatibility | None = None,
    compute_capability: list[str] | None = None,
) -> None:
    """Build a TensorRT engine: a pure plan, and its spec beside it.

    Options:
        out: The .engine file to write.
        flavor: the library; tensorrt builds for its own GPU.
        low: Smallest NxHxW.
        opt: NxHxW to tune for.
        high: Largest NxHxW.
        profile: MIN,OPT,MAX in place of the three; again for another profile.
        workspace: MiB of GPU memory that a layer may use for itself.
        optimization_level: 0 to 5: how long to look for fast kernels.
        timing_cache: Measured times to start from and add to; tensorrt only.
        version_compatible: Run in later versions; tensorrt only.
        hardware_compatibility: other GPUs; tensorrt only.
        compute_capability: GPU generation such as 8.9, again for more, or current; tensorrt-rtx
            only.
    """
    try:
        from fcnkit.export.engine import build_engine
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit export engine", str(error.name), "export") from error

    options = BuilderOptions(
        workspace_mib=workspace,
        optimization_level=optimization_level,
        version_compatible=version_compatible,
        hardware_compatibility=hardware_compatibility,
        compute_capability=tuple(compute_capability or ()),
    )
    with progress_of() as advance:
        report = build_engine(
            model,
            out,
            flavor=flavor,
            profiles=_profiles(profile or [], low, opt, high),
            options=options,
            timing_cache=timing_cache,
            advance=advance,
        )
    for line in _lines(report, out):
        say(line)
    if report.check.verified is None:
        say_next("verify", model, out, where=" on a machine with its GPU")
    else:
        say_next("bench", "latency", out)


def _profiles(
    texts: list[str], low: str | None, opt: str | None, high: str | None
) -> list[ProfileRequest]:
    from fcnkit.export.engine_profiles import ProfileRequest, parse_profile

    single = {"--min": low, "--opt": opt, "--max": high}
    given = [option for option, text in single.items() if text is not None]
    if texts and given:
        rule = "stands in place of --min, --opt and --max"
        remedy = "write every range as --profile MIN,OPT,MAX"
        raise BadValueError(message("--profile", rule, f"also {' '.join(given)}", remedy))
    if texts:
        return [parse_profile(text) for text in texts]
    smallest, typical, largest = (_shape(text, option) for option, text in single.items())
    return [ProfileRequest(min=smallest, opt=typical, max=largest)]


def _shape(text: str | None, option: str) -> Shape | None:
    return None if text is None else parse_shape(text, option)


def _lines(report: EngineReport, out: Path) -> list[str]:
    """Say what was built, and what is proved of it and what is not."""
    gpus = f", for GPUs of {', '.join(report.compute_capability)}"
    size = f"{report.bytes / 1e6:.1f} MB"
    lines = [f"{out}: {report.library}, {size}{gpus if report.compute_capability else ''}"]
    lines += [f"profile, min opt max: {_range(shapes)}" for shapes in report.profiles]
    lines += [f"the parsed network computes in: {report.precision}"]
    if report.check.inspected is not None:
        lines += [f"the engine's layers hold: {report.check.inspected}"]
    if report.check.verified is not None:
        return [*lines, f"verified: {report.check.verified}"]
    reason = " ".join(str(report.check.reason).split())
    return [*lines, f"the engine was built but not run, so it is not verified: {reason}"]


def _range(shapes: ShapeRange) -> str:
    return " ".join(map(format_shape, (shapes.min, shapes.opt, shapes.max)))
