"""Builder options: checked against the flavor, then set on the builder's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.engine_file import BuilderOptions, HardwareCompatibility
from fcnkit.runtime.artifacts.engine_header import Flavor
from fcnkit.runtime.checks import check_choice

__all__ = [
    "HARDWARE_LEVELS",
    "apply_options",
    "check_options",
    "read_timing_cache",
    "set_capabilities",
]

HARDWARE_LEVELS: Final[dict[HardwareCompatibility, str]] = {
    "ampere+": "AMPERE_PLUS",
    "same": "SAME_COMPUTE_CAPABILITY",
}
"""The library's names."""

_LAST_LEVEL: Final = 5
_CURRENT: Final = "current"
"""``--compute-capability`` of the GPU of the machine that builds."""


def check_options(
    trt: Any, flavor: Flavor, options: BuilderOptions, *, timing_cache: Path | None
) -> None:
    """Refuse options that the flavor would ignore or fail on.

    Args:
        trt: The module.
        flavor: Its flavor.
        options: The builder's options.
        timing_cache: The file of ``--timing-cache``, if any.

    Raises:
        ValueError: An option does not exist in this flavor, or its value is out of range.
    """
    _check_values(options)
    if timing_cache is not None and (timing_cache.is_dir() or not timing_cache.parent.is_dir()):
        rule = "must be a file, or a new one in a folder that exists"
        raise BadValueError(message("--timing-cache", rule, str(timing_cache), "check the path"))
    if flavor == "tensorrt":
        if options.compute_capability:
            got = ", ".join(options.compute_capability)
            remedy = "ordinary TensorRT builds for the GPU it runs on; see --hardware-compatibility"
            raise _not_here("--compute-capability", "tensorrt-rtx", got, remedy)
        return
    if timing_cache is not None:
        remedy = "leave it out, it would change nothing there and make the build need a GPU"
        raise _not_here("--timing-cache", "tensorrt", str(timing_cache), remedy)
    if options.version_compatible:
        remedy = "leave it out, a TensorRT-RTX engine runs in the version that built it only"
        raise _not_here("--version-compatible", "tensorrt", "the option", remedy)
    if options.hardware_compatibility is not None:
        remedy = "name the GPU generations with --compute-capability"
        got = options.hardware_compatibility
        raise _not_here("--hardware-compatibility", "tensorrt", got, remedy)
    known = _capabilities(trt)
    for name in options.compute_capability:
        if name not in known:
            rule = f"{trt.__name__} {trt.__version__} builds for {', '.join(known)}"
            raise BadValueError(message("--compute-capability", rule, name, "choose among these"))
    if _CURRENT in options.compute_capability and len(options.compute_capability) > 1:
        rule, got = f"{_CURRENT} must stand alone", " ".join(options.compute_capability)
        remedy = "name the generations, or that one only"
        raise BadValueError(message("--compute-capability", rule, got, remedy))


def _not_here(option: str, flavor: Flavor, got: str, remedy: str) -> ValueError:
    return BadValueError(message(option, f"is for --flavor {flavor} only", got, remedy))


def _check_values(options: BuilderOptions) -> None:
    if options.workspace_mib is not None and options.workspace_mib < 1:
        rule = "must be at least 1 MiB"
        raise BadValueError(message("--workspace", rule, options.workspace_mib, "leave it out"))
    level = options.optimization_level
    if level is not None and not 0 <= level <= _LAST_LEVEL:
        rule = f"must be 0 to {_LAST_LEVEL}"
        raise BadValueError(message("--optimization-level", rule, level, "the default is 3"))
    wanted = options.hardware_compatibility
    if wanted is not None:
        check_choice("--hardware-compatibility", wanted, tuple(HARDWARE_LEVELS))


def _capabilities(trt: Any) -> dict[str, Any]:
    """Return the library's members SM75 and so on by ``7.5``, and CURRENT by ``current``."""
    members = trt.ComputeCapability.__members__
    generations = {
        f"{name[2:-1]}.{name[-1]}": member
        for name, member in members.items()
        if name.startswith("SM")
    }
    return generations | {_CURRENT: members["CURRENT"]}


def read_timing_cache(path: Path) -> bytes:
    """Return a timing cache's content; empty where there is no such file yet."""
    return path.read_bytes() if path.is_file() else b""


def apply_options(trt: Any, config: Any, options: BuilderOptions, *, cache: bytes | None) -> None:
    """Set checked options on a builder's configuration.

    Args:
        trt: The module.
        config: The configuration.
        options: The builder's options.
        cache: Content of the timing cache; None for none.

    Raises:
        ValueError: The timing cache is another GPU's or version's, or the library refuses a
            compute capability.
    """
    # The inspector reports tensor types only for engines built like this.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatibility is not None:
        name = HARDWARE_LEVELS[options.hardware_compatibility]
        level = getattr(trt.HardwareCompatibilityLevel, name, None)
        if level is None:
            rule, got = "must be known to the library", f"{trt.__name__} {trt.__version__}"
            raise BadValueError(message("--hardware-compatibility", rule, got, "leave it out"))
        config.hardware_compatibility_level = level
    set_capabilities(trt, config, options)
    # TF32 is on by default. It is not the float32 that the graph states.
    config.clear_flag(trt.BuilderFlag.TF32)
    if cache is not None:
        held = config.create_timing_cache(cache)
        if held is None or not config.set_timing_cache(held, ignore_mismatch=False):
            rule = f"must hold times of this GPU and of {trt.__name__} {trt.__version__}"
            raise BadValueError(message("--timing-cache", rule, "others", "name a new file"))


def set_capabilities(trt: Any, config: Any, options: BuilderOptions) -> None:
    """Set the GPU generations to build for, if any were given.

    Args:
        trt: The module.
        config: The configuration.
        options: The builder's options.

    Raises:
        ValueError: The library refuses one.
    """
    if not options.compute_capability:
        return
    known = _capabilities(trt)
    config.num_compute_capabilities = len(options.compute_capability)
    for index, name in enumerate(options.compute_capability):
        if not config.set_compute_capability(known[name], index):
            rule, remedy = "the library must take it", "choose another, or leave it out"
            raise BadValueError(message("--compute-capability", rule, name, remedy))
