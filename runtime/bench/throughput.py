"""Picture files to label files over a whole folder: at full speed, and under a given load."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from fcnkit.errors import BadValueError, DataError, message
from fcnkit.runtime.bench.calls import Clock
from fcnkit.runtime.bench.load import in_threads, poisson_arrivals, run_load
from fcnkit.runtime.bench.report import Overview, report_head, unique_rows
from fcnkit.runtime.bench.stages import write_labels
from fcnkit.runtime.bench.statistics import check_stability, summarize
from fcnkit.runtime.machine import LoadMeter
from fcnkit.runtime.predict.folder import predict_files
from fcnkit.runtime.predict.inputs import Job
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.staging import Staging

__all__ = [
    "THROUGHPUT_FORMAT",
    "label_all",
    "loads_overview",
    "measure_folder",
    "measure_load",
    "runs_overview",
    "throughput_report",
]

THROUGHPUT_FORMAT: Final = "fcnkit-bench-throughput-1"


def measure_folder(
    segmenters: Sequence[Segmenter],
    jobs: Sequence[Job],
    *,
    rounds: int = 3,
    batch: int | None = None,
    workers: int | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """Label a folder again and again, as ``fcnkit predict`` does, and time each round.

    Args:
        segmenters: One per stream; each labels its share of the folder in its own thread.
        jobs: What ``find_jobs`` found.
        rounds: Counted rounds, after one that warms up.
        batch: Tiles that share a batch, as for ``predict_files``.
        workers: Threads that decode and write, as for ``predict_files``.
        clock: Returns seconds.

    Returns:
        ``streams``, ``batch``, ``workers``, ``pictures``, ``seconds`` (one per round),
        ``images_per_second`` (of the median round), ``other_cores`` and ``warnings``.

    Raises:
        ValueError: rounds is below 1.
        DataError: A picture could not be labeled: what was measured would not be the task.
    """
    if rounds < 1:
        remedy = "leave it out for 3"
        raise BadValueError(
            message("bench throughput", "rounds must be at least 1", rounds, remedy)
        )
    label = partial(label_all, segmenters, jobs, batch=batch, workers=workers)
    label()
    meter = LoadMeter()
    seconds = []
    for _ in range(rounds):
        start = clock()
        label()
        seconds.append(clock() - start)
    stability = check_stability(seconds, meter.stop(), drift=False)
    apart = max(seconds) / min(seconds) - 1
    warnings = list(stability.warnings)
    if apart > 0.1:
        warnings.append(f"the rounds lie {100 * apart:.0f} % apart")
    return {
        "streams": len(segmenters),
        "batch": batch,
        "workers": workers,
        "pictures": len(jobs),
        "seconds": seconds,
        "images_per_second": len(jobs) / statistics.median(seconds),
        "other_cores": stability.other_cores,
        "warnings": warnings,
    }


def label_all(
    segmenters: Sequence[Segmenter],
    jobs: Sequence[Job],
    *,
    batch: int | None,
    workers: int | None,
) -> None:
    """Label a folder once, into a folder that is removed at the end.

    The arguments are those of ``measure_folder``.

    Raises:
        DataError: A picture could not be labeled.
    """
    with tempfile.TemporaryDirectory() as name:
        shares = [jobs[i :: len(segmenters)] for i in range(len(segmenters))]

        def label(number: int) -> None:
            # One folder per stream: each run writes a manifest.
            out = Path(name) / str(number)
            run = predict_files(
                segmenters[number],
                shares[number],
                out,
                model_sha256="",
                batch=batch,
                workers=workers,
            )
            # Closed before the folder goes: what is in flight is still written into it.
            with closing(run):
                for record in run:
                    if record.status != "done":
                        rule = "every picture must be labeled to be timed"
                        got, remedy = str(record.error), "take the broken picture out of the folder"
                        raise DataError(message("bench throughput", rule, got, remedy))

        in_threads([partial(label, number) for number in range(len(segmenters))])


def measure_load(
    segmenters: Sequence[Segmenter],
    jobs: Sequence[Job],
    *,
    rate: float,
    duration: float,
    seed: int = 0,
) -> dict[str, Any]:
    """Label pictures that arrive at random moments, and say how long each took from its arrival.

    A request is one picture file read, labeled, encoded and written.

    Args:
        segmenters: One per server.
        jobs: The pictures, taken in turn.
        rate: Requests per second, as a Poisson process.
        duration: Seconds of arrivals.
        seed: Of the arrivals.

    Returns:
        ``rate``, ``streams``, ``requests``, ``latency`` and ``waited`` (figures over all
        requests), ``finished_per_second``, ``busy``, ``keeps_up``, ``warnings``, ``latency_ms``.

    Raises:
        ValueError: rate or duration is not positive.
        DataError: A picture could not be read.
    """
    arrivals = poisson_arrivals(rate, duration, seed=seed)
    with tempfile.TemporaryDirectory() as name, Staging(Path(name)) as staging:

        def server(segmenter: Segmenter) -> Callable[[int], object]:
            def serve(number: int) -> None:
                job = jobs[number % len(jobs)]
                image_hwc = read_picture(
                    job.file, range=segmenter.spec.range, bands=segmenter.spec.bands
                )
                labels_hw = segmenter(image_hwc)
                write_labels(staging, image_hwc, labels_hw, job.output, segmenter.spec)

            return serve

        for segmenter in segmenters:  # a folder may have warmed another copy of the model
            segmenter(
                read_picture(jobs[0].file, range=segmenter.spec.range, bands=segmenter.spec.bands)
            )
        result = run_load([server(one) for one in segmenters], arrivals, rate=rate)
    warnings = list(result.stability.warnings)
    if not result.keeps_up:
        warnings.insert(0, "the queue grew to the end: the machine does not keep up with this rate")
    return {
        "rate": rate,
        "streams": len(segmenters),
        "requests": len(arrivals),
        "latency": asdict(summarize(result.latency)),
        "waited": asdict(summarize(result.waited)),
        "finished_per_second": result.finished_rate,
        "busy": result.busy,
        "keeps_up": result.keeps_up,
        "warnings": warnings,
        "latency_ms": [round(1000 * float(value), 4) for value in result.latency],
    }


def throughput_report(
    model: Path,
    sha256: str,
    *,
    data: str,
    runs: list[dict[str, Any]],
    loads: list[dict[str, Any]],
    host: dict[str, Any],
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Put what was measured into the report's form.

    Args:
        model: The model file.
        sha256: Its hash.
        data: What the user gave as the pictures.
        runs: From ``measure_folder``, each with ``title``, ``backend`` and ``details`` added.
        loads: From ``measure_load``, with the same added.
        host: From ``measure_host``.
        environment: From ``describe_environment``.

    Returns:
        Plain data for JSON.
    """
    return {
        **report_head(THROUGHPUT_FORMAT, environment),
        "model": model.name,
        "model_sha256": sha256,
        "data": data,
        "runs": unique_rows(runs, key="streams"),
        "loads": unique_rows(loads, key="rate"),
        "host": host,
    }


def runs_overview(report: dict[str, Any]) -> Overview:
    """Put the folder runs of a report into a table, the fastest first.

    Args:
        report: From ``throughput_report``.

    Returns:
        A row per run; ``speed`` compares it with the first one that was measured.
    """
    runs = report["runs"]
    ranked = sorted(runs, key=lambda run: -float(run["images_per_second"]))
    rows = []
    for run in ranked:
        rate = run["images_per_second"]
        pace = sorted(run["pictures"] / seconds for seconds in run["seconds"])
        figures = [f"{value:.2f}" for value in (rate, pace[-1], pace[0])]
        speed = rate / runs[0]["images_per_second"]
        rows.append((run["title"], str(run["pictures"]), f"{speed:.2f}x", *figures))
    head = ("way", "pictures", "speed", "images/s", "fastest round", "slowest")
    return Overview(head=head, rows=rows, warnings=[run["warnings"] for run in ranked])


def loads_overview(report: dict[str, Any]) -> Overview:
    """Put the loads of a report into a table, in the order of measuring.

    Args:
        report: From ``throughput_report``.

    Returns:
        A row per way and rate.
    """
    names = ("p50", "p90", "p95", "p99", "p99_9", "max")
    rows = []
    for row in report["loads"]:
        times = [f"{row['latency'][f'{name}_ms']:.2f}" for name in names]
        about = (row["title"], f"{row['rate']:.2f}", str(row["requests"]))
        fits = "yes" if row["keeps_up"] else "no"
        rows.append((*about, f"{100 * row['busy']:.0f} %", *times, fits))
    figures = (f"{name.replace('_', '.')} ms" for name in names)
    head = ("way", "requests/s", "requests", "busy", *figures, "keeps up")
    return Overview(head=head, rows=rows, warnings=[row["warnings"] for row in report["loads"]])
