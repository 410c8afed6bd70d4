"""TensorRT-RTX: builds with narrow profiles, the library's own verdict, speed, and reopening."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.context import Context
from benchmarks.gpu.folders import measure_folder
from benchmarks.gpu.networks import Export, exported, label_exports
from benchmarks.gpu.sessions import measure_all
from fcnkit.export.engine import build_engine
from fcnkit.export.engine_profiles import parse_profile
from fcnkit.runtime import open_backend
from fcnkit.runtime.artifacts.spec import format_shape

__all__ = ["tensorrt_rtx"]

WAYS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"cuda_graph_strategy": "DISABLED"},
    {"dynamic_shapes_kernel_specialization_strategy": "LAZY"},
)
"""Options of the backend; the first are its defaults."""


def tensorrt_rtx(context: Context) -> None:
    """Build, open, compare and time engines in fp16 and fp32."""
    context.attempt("library", _library)
    for export in label_exports(context):
        name = export.name
        model = context.opened(name, partial(exported, context.folder, export))
        if model is None:
            continue
        engine = model.with_suffix(".engine")
        if context.attempt(f"{name}, build", partial(_build, context, model, engine)) is None:
            continue
        if not context.dry:  # a plan needs a GPU to be opened
            _run_engine(context, export, model, engine)


def _run_engine(context: Context, export: Export, model: Path, engine: Path) -> None:
    name, half = export.name, export.precision == "fp16"
    context.attempt(f"{name}, validity", partial(_validity, engine))
    for again in ("first opening", "second opening"):
        context.attempt(f"{name}, {again}", partial(_reopen, context, engine))
    for options in WAYS if half else WAYS[:1]:
        _run_way(context, name, model, engine, options)
    if half:
        measure_folder(context, engine, "tensorrt-rtx", name)


def _library() -> str:
    import tensorrt_rtx as library

    return str(library.__version__)


def _build(context: Context, model: Path, engine: Path) -> dict[str, Any]:
    """Build with one profile per batch, tuned for it; it takes the batches since the last too."""
    profiles, least = [], 1
    for images in context.batches:
        low, high = (format_shape(context.shape(count)) for count in (least, images))
        profiles.append(parse_profile(f"{low},{high},{high}"))
        least = images + 1
    start = time.perf_counter()
    report = build_engine(model, engine, flavor="tensorrt-rtx", profiles=profiles)
    found: dict[str, Any] = json.loads(json.dumps(asdict(report), default=str))
    return {"seconds": time.perf_counter() - start, **found}


def _validity(engine: Path) -> str:
    """What the library says about this plan on this GPU."""
    import tensorrt_rtx as library

    from fcnkit.runtime.artifacts.engine_file import read_engine_file

    runtime = library.Runtime(library.Logger(library.Logger.WARNING))
    verdict, bits = runtime.get_engine_validity(read_engine_file(engine).plan)
    return f"{verdict}, diagnostics {bits}"


def _reopen(context: Context, engine: Path) -> dict[str, Any]:
    """Seconds to open and to get a first result, in a new process; the second finds any cache."""
    shape = format_shape(context.shape(1))
    text = context.python("-m", "benchmarks.gpu.opening", str(engine), shape, seconds=60)
    printed = [line for line in text.splitlines() if line.startswith("{")]  # libraries print too
    found: dict[str, Any] = json.loads(printed[-1])
    beside = [path.name for path in engine.parent.glob(f"{engine.name}.*")]
    return found | {"files_beside": sorted(beside)}


def _run_way(
    context: Context, name: str, model: Path, engine: Path, options: dict[str, str]
) -> None:
    words = [f"{key}={value}" for key, value in options.items()]
    key = " ".join([name, *(words or ["defaults"])])
    backend = context.opened(
        f"{key}, open", lambda: open_backend(engine, backend="tensorrt-rtx", options=options)
    )
    if backend is not None:
        measure_all(context, key, backend, model)
        context.attempt(f"{key}, close", backend.close)
