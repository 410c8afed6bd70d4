"""One model on one backend at one shape: cold, warm, stage by stage and end to end."""

from __future__ import annotations

import contextlib
import importlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import ModelSpec, Shape
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.backends.registry import BACKENDS
from fcnkit.runtime.bench.budget import Budget, BudgetAnswer, Fitting, call_of, largest_fitting
from fcnkit.runtime.bench.calls import Clock, Effort, Warmup, collect, warm_up
from fcnkit.runtime.bench.environment import gpu_memory
from fcnkit.runtime.bench.stages import (
    STAGES,
    PictureWork,
    compute_shape,
    example_batch,
    example_picture,
    plan_cover,
)
from fcnkit.runtime.bench.statistics import Stability, check_stability
from fcnkit.runtime.machine import LoadMeter, host_memory, reset_peak
from fcnkit.runtime.pixels.tiling import TilePlan
from fcnkit.runtime.predict.covering import Cover
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.staging import Staging

__all__ = ["Case", "FirstCall", "Series", "measure_case", "measure_latency", "open_timed"]


@dataclass(frozen=True, kw_only=True)
class FirstCall:
    """What only the first call pays, in milliseconds."""

    import_ms: float | None
    """Importing the backend's library; None where this process had done so before, or where
    ``auto`` chose the backend, so that it is part of opening."""
    open_ms: float
    """Reading, checking and compiling the model."""
    infer_ms: float
    """The first call at this shape."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """What one loop measured, one column per stage."""

    stages: tuple[str, ...]
    seconds: NDArray[np.float64]
    """(samples, stages); NaN columns hold what this backend cannot tell."""
    warmup: Warmup
    stability: Stability

    def of(self, stage: str) -> NDArray[np.float64] | None:
        """Return the samples of a stage in seconds; None where there are none."""
        times = self.seconds[:, self.stages.index(stage)]
        return None if np.isnan(times).any() else times


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model on one backend at one shape."""

    backend: str
    details: dict[str, str | int]
    """The backend's own: library, provider, threads, compute."""
    spec: ModelSpec
    cover: Cover
    shape: Shape
    """Pictures, their rows and columns."""
    compute_shape: Shape
    """What the backend is given: tiles, grown to legal sides."""
    infer_pictures: float
    """How many pictures that is: fewer than requested where the model takes no larger batch."""
    picture: str
    """Where the pictures come from."""
    first_call: FirstCall
    memory_mb: dict[str, float | None]
    """Host memory before opening and after, its peak while measuring, and the device's."""
    infer: Series
    """The backend alone, called with one prepared batch; one stage, ``infer``."""
    pipeline: Series | None
    """Picture files to label files, in STAGES; None where it was left out."""
    call: Series | None = None
    """Array in, labels out, one frame; one stage, ``array_to_labels``. None without a budget."""
    budget: BudgetAnswer | None = None
    """Whether these calls keep the budget; None without one."""


def open_timed(
    backend: str, load: Callable[[], Segmenter], *, clock: Clock = time.perf_counter
) -> tuple[Segmenter, float | None, float]:
    """Open a model with a clock on it.

    Args:
        backend: The requested name; the library of the backend is imported first.
        load: Opens the model.
        clock: Returns seconds.

    Returns:
        The segmenter, milliseconds of the import (None where it had been imported, or the
        name is ``auto``), and milliseconds of opening.
    """
    row = BACKENDS.get(backend)
    start = clock()
    with contextlib.suppress(ImportError):  # opening it gives the error with the remedy
        if row is not None:
            importlib.import_module(row.module)
    imported = clock()
    segmenter = load()
    took = 1000 * (imported - start)
    return segmenter, took if took > 1 else None, 1000 * (clock() - imported)


def measure_latency(
    backend: Backend, shape: Shape, effort: Effort, *, clock: Clock = time.perf_counter
) -> Series:
    """Time ``backend.infer`` on one prepared batch, call by call.

    Args:
        backend: The opened model.
        shape: (N, H, W) of the batch.
        effort: How much to measure.
        clock: Returns seconds.

    Returns:
        The series, one stage: ``infer``.

    Raises:
        ValueError: The shape is not legal.
    """
    batch = example_batch(backend.spec, shape)

    def call() -> tuple[float, ...]:
        start = clock()
        backend.infer(batch)
        return (clock() - start,)

    return _measure(call, ("infer",), effort, clock=clock)


def measure_case(
    segmenter: Segmenter,
    shape: Shape,
    effort: Effort,
    *,
    opened: tuple[float | None, float],
    memory_before: float | None = None,
    picture: Path | None = None,
    stages: bool = True,
    budget: Budget | None = None,
    clock: Clock = time.perf_counter,
) -> Case:
    """Measure an opened model at one shape.

    Args:
        segmenter: The model, and how it covers pictures.
        shape: Pictures, their rows and columns.
        effort: How much to measure, for the backend alone and again for the whole way.
        opened: Milliseconds of import and opening, from ``open_timed``.
        memory_before: Resident MiB before the model was opened.
        picture: A picture that is scaled to the shape; a made-up one by default.
        stages: Measure the whole way too.
        budget: Also measure single frames, array in and labels out, and answer whether they keep
            it.
        clock: Returns seconds.

    Returns:
        The case.

    Raises:
        ValueError: The model takes no such shape, or a budget is given for several pictures.
        DataError: The picture cannot be read.
    """
    backend = segmenter.backend
    if budget is not None and shape[0] != 1:
        rule, remedy = "a budget is for one frame", "leave --batch out"
        raise BadValueError(message("bench", rule, f"a batch of {shape[0]}", remedy))
    photo = None
    if picture is not None:
        photo = Image.fromarray(
            read_picture(picture, range=backend.spec.range, bands=backend.spec.bands)
        )
    plan = plan_cover(segmenter, shape)
    given = compute_shape(segmenter, plan, shape[0])
    memory_open = host_memory()["resident_mb"]
    reset_peak()
    start = clock()
    backend.infer(example_batch(backend.spec, given))
    first = 1000 * (clock() - start)
    infer = measure_latency(backend, given, effort, clock=clock)
    pipeline = None
    if stages:
        with _pictures(shape, photo) as (files, staging):
            work = PictureWork(segmenter, files, plan, staging, clock=clock)
            pipeline = _measure(work, STAGES, effort, clock=clock)
    call, answer = _answered(segmenter, shape[1:], effort, budget, clock)
    return Case(
        backend=backend.name,
        details=backend.details,
        spec=backend.spec,
        cover=_cover_taken(segmenter, plan),
        shape=shape,
        compute_shape=given,
        infer_pictures=given[0] / len(plan),
        picture="made up" if picture is None else picture.name,
        first_call=FirstCall(import_ms=opened[0], open_ms=opened[1], infer_ms=first),
        memory_mb={
            "host_before": memory_before,
            "host_open": memory_open,
            "host_peak": host_memory()["peak_mb"],
            "device": gpu_memory(),
        },
        infer=infer,
        pipeline=pipeline,
        call=call,
        budget=answer,
    )


def _answered(
    segmenter: Segmenter,
    size: tuple[int, int],
    effort: Effort,
    budget: Budget | None,
    clock: Clock,
) -> tuple[Series | None, BudgetAnswer | None]:
    if budget is None:
        return None, None
    work = call_of(segmenter, size, clock=clock)
    call = _measure(work, ("array_to_labels",), effort, clock=clock)
    times = call.seconds[:, 0]
    seconds = budget.measured(times)
    largest = largest_fitting(segmenter, size, effort, budget, clock=clock)
    asked = Fitting(size=size, seconds=seconds)
    if seconds <= budget.seconds and (largest is None or largest.pixels < asked.pixels):
        largest = asked
    answer = BudgetAnswer(budget=budget, seconds=seconds, samples=len(times), largest=largest)
    return call, answer


def _cover_taken(segmenter: Segmenter, plan: TilePlan) -> Cover:
    """Return what ``auto`` came to for pictures of one size."""
    if segmenter.cover != "auto":
        return segmenter.cover
    return "pad" if len(plan) == 1 else "average"


def _measure(
    call: Callable[[], tuple[float, ...]],
    stages: tuple[str, ...],
    effort: Effort,
    *,
    clock: Clock,
) -> Series:
    warmup = warm_up(call, effort, clock=clock)
    meter = LoadMeter()
    seconds = collect(call, effort, clock=clock)
    stability = check_stability(seconds[:, -1], meter.stop())
    return Series(stages=stages, seconds=seconds, warmup=warmup, stability=stability)


@contextlib.contextmanager
def _pictures(shape: Shape, photo: Image.Image | None) -> Iterator[tuple[Sequence[Path], Staging]]:
    """Write the batch as JPEG files of the requested size, as a camera or a data set has them."""
    count, height, width = shape
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "out"
        out.mkdir()
        files = [folder / f"{number}.jpg" for number in range(count)]
        for number, file in enumerate(files):
            if photo is None:
                image = example_picture(height, width, seed=number)
            else:
                image = photo.resize((width, height))
            image.save(file, quality=90)
        with Staging(out) as staging:
            yield files, staging
