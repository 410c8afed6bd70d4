"""Labels of many pictures as they come, without files for results."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tile_plan import TilePlan
from fcnkit.runtime.predict.frames import Color
from fcnkit.runtime.predict.levels import SAY_IN_TRAINING, RangeWarner
from fcnkit.runtime.predict.passes import LabelRows, Pass, Rows, Sink
from fcnkit.runtime.predict.pictures import take_image
from fcnkit.runtime.predict.pipeline import (
    Behind,
    Finished,
    Work,
    ahead_of,
    default_workers,
    most_ahead,
    run_works,
)

__all__ = ["Labelled", "map_pictures"]


@dataclass(frozen=True)
class Labelled:
    """What became of one picture."""

    source: str | Path | NDArray[np.uint8]
    """As it was given."""
    labels_hw: NDArray[np.uint8] | None
    """uint8 (H, W), the caller's own; None where the picture failed."""
    error: Exception | None
    """Why it failed: a DataError where it cannot be read, a ValueError where it cannot be covered.
    """
    prediction: Prediction | None = None
    """The labels with confidence and margin, where confidence was wanted."""


class Starter(Protocol):
    """What is needed of a segmenter."""

    @property
    def backend(self) -> Backend:
        """The opened backend."""

    def plan(self, height: int, width: int) -> TilePlan:
        """Say where the tiles of an image lie."""

    def begin(
        self,
        source: NDArray[np.uint8] | Rows,
        plan: TilePlan,
        sink: Sink,
        *,
        sure: bool = False,
        in_worker: bool = False,
    ) -> Pass:
        """Begin an image."""


def map_pictures(
    segmenter: Starter,
    sources: Iterable[str | Path | NDArray[np.uint8]],
    *,
    batch: int,
    max_pixels: int,
    color: Color,
    sure: bool,
) -> Generator[Labelled, None, None]:
    """Label pictures; see ``Segmenter.map``. ``sure`` adds confidence and margin."""
    backend = segmenter.backend
    workers = default_workers(backend)
    limit, warn = most_ahead(workers), RangeWarner(SAY_IN_TRAINING)

    def prepare(source: str | Path | NDArray[np.uint8]) -> Work[_Item]:
        item = _Item(source, sure=sure)
        try:
            image_hwc = take_image(
                source,
                max_pixels=max_pixels,
                range=backend.spec.range,
                bands=backend.spec.bands,
                warn=warn,
                color=color,
            )
            plan = segmenter.plan(*image_hwc.shape[:2])
            one = segmenter.begin(image_hwc, plan, item.rows, sure=sure, in_worker=True)
            return Work(item, one)
        except (TypeError, ValueError, OSError, MemoryError) as error:
            return Work(item, None, error)

    with ThreadPoolExecutor(workers, thread_name_prefix="fcnkit") as pool:
        behind = Behind(pool, _finish, limit=limit)
        # No names for these: an early end must close them before the pool waits for its work.
        yield from behind.results(
            run_works(
                backend.spec,
                backend.stream,
                ahead_of(pool, prepare, sources, limit=limit),
                batch=batch,
            )
        )


class _Item:
    def __init__(self, source: str | Path | NDArray[np.uint8], *, sure: bool) -> None:
        self.source, self.sure, self.rows = source, sure, LabelRows()


def _finish(one: Finished[_Item]) -> Labelled:
    """Put the labels together; any thread."""
    item = one.owner
    if one.picture is None:
        return Labelled(item.source, None, one.error)
    one.picture.finish()
    made = item.rows.joined()
    return Labelled(item.source, made.labels, None, made if item.sure else None)
