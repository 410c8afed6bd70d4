"""The rows of ``fcnkit bench matrix``: which there are, and how one is measured.

A row is one model file on one backend in one precision. It is measured by the functions of
``bench latency``, of ``bench throughput`` and, through the caller's score, of ``fcnkit eval``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from fcnkit.runtime.artifacts.description import kind_of
from fcnkit.runtime.artifacts.engine_file import read_engine_file
from fcnkit.runtime.artifacts.precisions import PRECISIONS, Compute, Precision
from fcnkit.runtime.backends.registry import rows_for
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.bench.calls import Effort
from fcnkit.runtime.bench.latency import Case, measure_case, open_timed
from fcnkit.runtime.bench.report import case_warnings, latency_report, stage_rows
from fcnkit.runtime.bench.throughput import measure_folder
from fcnkit.runtime.bench.variants import device_variants
from fcnkit.runtime.machine import host_memory
from fcnkit.runtime.predict.covering import CoverRequest
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.opening import open_segmenter
from fcnkit.runtime.predict.segmenter import Segmenter

__all__ = ["RowTask", "Score", "Way", "measure_row", "ways_of"]

_MOST_PICTURES: Final = 100
"""Of a folder run; more say the same and take longer."""
_FEWEST_PICTURES: Final = 4
_ROUNDS: Final = 3

Score = Callable[[Segmenter], dict[str, Any]]
"""Returns ``kind`` (``mean_iou`` or ``agreement``), ``value``, ``pictures`` and ``warnings``."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to run a model file."""

    backend: str
    compute: Compute = "auto"
    options: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    """For the name, such as ``cuda_graphs``."""

    @property
    def name(self) -> str:
        """The way as ``--backend`` takes it, and what else tells it from others."""
        name = self.backend if self.compute == "auto" else f"{self.backend}:{self.compute}"
        return " ".join([name, *(f"{k.replace('_', ' ')} {v}" for k, v in self.details.items())])

    def request(self, threads: int | None) -> BackendRequest:
        """Return how a model is opened in this way.

        Args:
            threads: CPU threads of one call; None for every core.
        """
        return BackendRequest(
            backend=self.backend, compute=self.compute, threads=threads, options=self.options
        )


def ways_of(path: Path, precision: Precision) -> list[Way]:
    """Return every way to run a file, whether or not it works on this machine.

    Args:
        path: A checkpoint, an ONNX file or an engine.
        precision: Of the file.

    Returns:
        Each backend for such files as the file says, then in each faster precision that it can be
        told to compute in. A float16 file has none: it is that choice already.

    Raises:
        ArtifactError: The engine or its sidecar is broken.
    """
    kind = kind_of(path)
    if kind == "engine":
        flavor = read_engine_file(path).flavor
        return [
            Way(backend=flavor, options=one.options, details=one.details)
            for one in device_variants(path)
        ]
    faster = PRECISIONS[precision].compute == "fp32"
    return [
        Way(backend=row.name, compute=compute)
        for row in rows_for(kind)
        for compute in ("auto", *(row.computes if faster else ()))
    ]


@dataclass(frozen=True, kw_only=True)
class RowTask:
    """What one row is measured with; it is sent to another process."""

    path: Path
    sha256: str
    way: Way
    size: tuple[int, int]
    """Height and width of the pictures whose latency is measured."""
    pictures: tuple[Path, ...]
    """Files that the score is of; the first of them are labeled for images per second."""
    score: Score
    threads: int | None = None
    cover: CoverRequest = field(default_factory=CoverRequest)
    seconds: float | None = None
    """About how long to measure; None takes 200 samples and 3 rounds."""


def measure_row(task: RowTask, environment: dict[str, Any]) -> dict[str, Any]:
    """Measure a row, in a process that has not opened a model yet.

    Args:
        task: What to measure.
        environment: From ``describe_environment``.

    Returns:
        Plain data: see ``docs/bench-matrix.schema.json``, without ``name`` and ``status``.

    Raises:
        Exception: Whatever opening, running or scoring the model raises.
    """
    start, before = time.perf_counter(), host_memory()["resident_mb"]
    request = task.way.request(task.threads)
    segmenter, imported, opened = open_timed(
        task.way.backend, lambda: open_segmenter(task.path, request, task.cover)
    )
    opening_peak = host_memory()["peak_mb"]
    with segmenter:
        case = measure_case(
            segmenter,
            (1, *task.size),
            _effort(task.seconds),
            opened=(imported, opened),
            memory_before=before,
        )
        passed = time.perf_counter() - start
        folder = measure_folder([segmenter], _jobs(task, case, passed), rounds=_ROUNDS)
        peaks = [opening_peak, host_memory()["peak_mb"]]
        score = task.score(segmenter)
    return _figures(task, case, environment, folder=folder, peaks=peaks, score=score)


def _effort(seconds: float | None) -> Effort:
    """Return how long each of the two loops of ``bench latency`` goes on."""
    if seconds is None:
        return Effort()
    each = min(10.0, max(0.2, seconds / 5))
    return Effort(duration=each, warmup_seconds=(min(0.3, each), each / 2))


def _jobs(task: RowTask, case: Case, passed: float) -> list[Job]:
    """Choose as many pictures for the folder run as the time allows, after that of the score."""
    count = min(_MOST_PICTURES, len(task.pictures))
    if task.seconds is not None and case.pipeline is not None:
        one = float(np.median(case.pipeline.seconds[:, -1]))
        left = task.seconds - passed - one * len(task.pictures)
        fitting = int(left / (one * (_ROUNDS + 1)))
        count = max(min(_FEWEST_PICTURES, count), min(count, fitting))
    return [Job(path, Path(f"{n}.png")) for n, path in enumerate(task.pictures[:count])]


def _figures(
    task: RowTask,
    case: Case,
    environment: dict[str, Any],
    *,
    folder: dict[str, Any],
    peaks: Sequence[float | None],
    score: dict[str, Any],
) -> dict[str, Any]:
    [told] = latency_report([(task.path, task.sha256, case)], environment)["cases"]
    times = {
        name: {key: held[key] for key in ("samples", "p50_ms", "p99_ms", "mean_ms")}
        for name, held in stage_rows(told)
        if held is not None and name in ("infer", "end_to_end")
    }
    known = [peak for peak in peaks if peak is not None]
    first = told["first_call"]
    warned = [*case_warnings(told), *(f"files to files: {line}" for line in folder["warnings"])]
    about = ("architecture", "head", "precision", "details", "cover", "shape", "compute_shape")
    return {
        **{name: told[name] for name in about},
        **times,
        "images_per_second": folder["images_per_second"],
        "pictures": folder["pictures"],
        "peak_mb": max(known) if known else None,
        "first_call": {**first, "total_ms": sum(value or 0 for value in first.values())},
        "score": {key: value for key, value in score.items() if key != "warnings"},
        "warnings": [*warned, *score["warnings"]],
    }
