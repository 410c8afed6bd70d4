"""What the verbs of ``fcnkit bench`` share: opening models and measuring them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fcnkit.cli.options import Cover, cover_request
from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.precisions import Compute, full_name
from fcnkit.runtime.checks import check_choice

if TYPE_CHECKING:
    from fcnkit.runtime import BackendRequest, Segmenter
    from fcnkit.runtime.bench.budget import Budget
    from fcnkit.runtime.bench.calls import Effort
    from fcnkit.runtime.bench.latency import Case

__all__ = [
    "budget_of",
    "measure_cases",
    "opener",
    "requested",
    "run_live",
    "run_streams",
    "stream_counts",
    "write_report",
]


def measure_cases(
    name: str,
    open_it: Callable[[], Segmenter],
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int],
    effort: Effort,
    picture: Path | None,
    stages: bool,
    budget: Budget | None = None,
) -> Iterator[Case]:
    """Measure one model on one backend, opened once, at all shapes.

    Args:
        name: Of the backend.
        open_it: Opens the model.
        sizes: Heights and widths; with none, the model's own.
        batches: Images per call.
        effort: How long to measure.
        picture: An image to measure with; None takes a made-up one.
        stages: Also time files to label files.
        budget: Also answer whether a call keeps it.

    Yields:
        A case per size and batch.
    """
    from fcnkit.runtime.bench.latency import measure_case, open_timed
    from fcnkit.runtime.machine import host_memory

    before = host_memory()["resident_mb"]
    segmenter, imported, opened = open_timed(name, open_it)
    with segmenter:
        for height, width in sizes or [segmenter.spec.shapes.opt[1:]]:
            for count in batches:
                yield measure_case(
                    segmenter,
                    (count, height, width),
                    effort,
                    opened=(imported, opened),
                    memory_before=before,
                    picture=picture,
                    stages=stages,
                    budget=budget,
                )


def budget_of(text: str | None, percentile: float | None, batch: list[int] | None) -> Budget | None:
    """Read ``--budget`` and ``--percentile``.

    Args:
        text: Such as ``33ms``; None for no budget.
        percentile: The percentile that decides; None for 99.
        batch: Of ``--batch``.

    Returns:
        The budget; None without one.

    Raises:
        ValueError: One of them cannot be read, or they do not fit together.
    """
    from fcnkit.runtime.bench.budget import Budget, parse_budget

    if text is None:
        if percentile is not None:
            rule, remedy = "needs --budget", "add --budget 33ms"
            raise BadValueError(message("--percentile", rule, percentile, remedy))
        return None
    if batch and max(batch) > 1:
        rule, remedy = "a budget is for one frame", "leave --batch out"
        raise BadValueError(message("--budget", rule, f"--batch {max(batch)}", remedy))
    return Budget(seconds=parse_budget(text), percentile=99.0 if percentile is None else percentile)


def run_live(
    open_it: Callable[[], Segmenter],
    size: tuple[int, int] | None,
    rates: Sequence[float],
    duration: float,
) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Show one model frames at each rate.

    Args:
        open_it: Opens the model.
        size: Height and width; None for the model's own.
        rates: Frames per second.
        duration: Seconds for each.

    Returns:
        The size, and the figures of each rate.
    """
    from fcnkit.runtime.bench.live import measure_live

    with open_it() as segmenter:
        about, used = segmenter.backend, size or segmenter.spec.shapes.opt[1:]
        facts = {
            "title": f"{about.name} {about.info.precision}, {about.info.threads} threads",
            "backend": about.name,
            "details": about.details,
        }
        runs = [
            {**facts, **measure_live(segmenter, used, rate=rate, duration=duration)}
            for rate in rates
        ]
    return used, runs


def requested(name: str, threads: int | None, options: Mapping[str, str]) -> BackendRequest:
    """Read ``NAME[:COMPUTE]``, and add what is the same for every backend.

    Args:
        name: As typed after ``--backend``.
        threads: CPU threads of one call.
        options: The library's own options.

    Returns:
        The request.

    Raises:
        ValueError: The precision or an option is unknown.
    """
    from fcnkit.runtime.backends.request import BackendRequest

    backend, _, compute = name.partition(":")
    precision = check_choice(
        "--backend NAME:COMPUTE", full_name(compute or "auto"), get_args(Compute)
    )
    return BackendRequest(
        backend=backend,
        threads=threads,
        compute=precision,
        options=options,
    )


def opener(path: Path, request: BackendRequest, cover: Cover | None) -> Callable[[], Segmenter]:
    """Return what opens a model.

    Args:
        path: The model.
        request: How to open it.
        cover: How images are covered.

    Returns:
        A function without arguments.
    """
    from fcnkit.runtime.predict.opening import open_segmenter

    return partial(open_segmenter, path, request, cover_request(cover))


def run_streams(
    open_it: Callable[[], Segmenter],
    count: int,
    jobs: Sequence[Any],
    rounds: int,
    sizes: Sequence[tuple[int | None, int | None]],
    offered: Sequence[tuple[float, bool]],
    duration: float,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measure one number of streams: the folder by batch and workers, then each load."""
    from fcnkit.runtime.bench.throughput import measure_folder, measure_load

    with ExitStack() as stack:
        segmenters = [stack.enter_context(open_it()) for _ in range(count)]
        about = segmenters[0].backend
        info = about.info
        title = (
            f"{about.name} {info.precision}, {count} stream{'s' if count > 1 else ''} "
            f"of {info.threads} threads"
        )
        facts = {"title": title, "backend": about.name, "details": about.details}
        runs = []
        for size, workers in sizes:
            words = (f", batch {size}" if size else "") + (
                f", {workers} workers" if workers else ""
            )
            run = measure_folder(segmenters, jobs, rounds=rounds, batch=size, workers=workers)
            runs.append({**facts, "title": title + words, **run})
        fastest = max(run["images_per_second"] for run in runs)
        loads = []
        for number, is_share in offered:
            rate = number * fastest if is_share else number
            found = measure_load(segmenters, jobs, rate=rate, duration=duration)
            loads.append({**facts, **found})
    return runs, loads


def stream_counts(
    streams: Sequence[int], threads: Sequence[int] | None
) -> Iterator[tuple[int, int]]:
    """Pair every number of streams with the threads of each.

    Args:
        streams: Numbers of models side by side.
        threads: Threads of each model, once or per number; None shares all cores.

    Yields:
        Streams, and threads of each.

    Raises:
        ValueError: A number is below 1, or the two lists do not fit together.
    """
    import os

    if min(streams) < 1:
        raise BadValueError(message("--streams", "must be at least 1", min(streams), "give 1 or 2"))
    if threads and len(threads) not in (1, len(streams)):
        got = f"{len(threads)} for {len(streams)}"
        raise BadValueError(
            message("--threads", "is given once or per --streams", got, "match them")
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for number, count in enumerate(streams):
        if threads:
            yield count, threads[number if len(threads) > 1 else 0]
        else:
            yield count, max(1, (cores or 1) // count)


def write_report(
    report: dict[str, Any],
    out: Path,
    *,
    csv: str | None,
    page: Callable[[dict[str, Any]], str] | None,
    plots: Any,
) -> None:
    """Write a report as JSON, CSV, PNGs and a page.

    Args:
        report: In its JSON form.
        out: The folder; it is created.
        csv: The lines of report.csv; None for none.
        page: Writes report.html; None for none.
        plots: Name to plot, for the PNGs.

    Raises:
        OSError: A file cannot be written.
    """
    from fcnkit.runtime.bench.drawing import draw, save_figure
    from fcnkit.runtime.files import atomic_write

    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / "report.json", json.dumps(report).encode())
    if csv is not None:
        atomic_write(out / "report.csv", csv.encode())
    for name, figure in draw(report, plots).items():
        atomic_write(out / f"{name}.png", save_figure(figure, kind="png"))
    if page is not None:
        atomic_write(out / "report.html", page(report).encode())
