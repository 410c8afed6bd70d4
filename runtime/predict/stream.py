"""Labels of many pictures as they come, without files for results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.frames import Color
from fcnkit.runtime.predict.levels import SAY_IN_TRAINING, RangeWarner
from fcnkit.runtime.predict.passes import LabelRows, Pass, Sink
from fcnkit.runtime.predict.pictures import Reading, take_image
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


def map_pictures(
    backend: Backend,
    begin: Callable[[NDArray[np.uint8], Sink], Pass],
    sources: Iterable[str | Path | NDArray[np.uint8]],
    *,
    batch: int,
    max_pixels: int,
    color: Color,
    sure: bool,
) -> Generator[Labelled, None, None]:
    """Label pictures; see ``Segmenter.map``.

    Args:
        backend: The opened model.
        begin: Cuts an image into tiles, on any thread; its labels go into the sink.
        sources: As for ``Segmenter.map``.
        batch: As for ``Segmenter.map``.
        max_pixels: As for ``Segmenter.map``.
        color: As for ``Segmenter.map``.
        sure: Whether the sink gets confidence and margin too.

    Yields:
        As ``Segmenter.map``.
    """
    workers = default_workers(backend)
    limit, warn = most_ahead(workers), RangeWarner(SAY_IN_TRAINING)
    spec = backend.spec
    how = Reading(max_pixels=max_pixels, range=spec.range, bands=spec.bands)

    def prepare(source: str | Path | NDArray[np.uint8]) -> Work[_Item]:
        item = _Item(source, sure=sure)
        try:
            image_hwc = take_image(source, how, warn, color=color)
            return Work(item, begin(image_hwc, item.rows))
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
