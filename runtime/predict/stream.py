"""Labels of many pictures as they come, without files for results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.pixels.tile_plan import TilePlan
from fcnkit.runtime.predict.levels import SAY_IN_TRAINING, RangeWarner
from fcnkit.runtime.predict.passes import LabelRows, begin
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


def map_pictures(
    backend: Backend,
    sources: Iterable[str | Path | NDArray[np.uint8]],
    plan_of: Callable[[int, int], TilePlan],
    *,
    batch: int,
    max_pixels: int,
    threads: int | None,
) -> Generator[Labelled, None, None]:
    """Label pictures; ``plan_of`` plans the tiles of a height and width. See ``Segmenter.map``."""
    workers = default_workers(backend)
    limit, warn = most_ahead(workers), RangeWarner(SAY_IN_TRAINING)

    def prepare(source: str | Path | NDArray[np.uint8]) -> Work[_Item]:
        item = _Item(source)
        try:
            return item.begin(backend, plan_of, max_pixels, threads, warn)
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
    def __init__(self, source: str | Path | NDArray[np.uint8]) -> None:
        self.source, self.labels = source, LabelRows()

    def begin(
        self,
        backend: Backend,
        plan_of: Callable[[int, int], TilePlan],
        max_pixels: int,
        threads: int | None,
        warn: RangeWarner,
    ) -> Work[_Item]:
        """Read the image and cut it into tiles; any thread."""
        spec = backend.spec
        image_hwc = take_image(
            self.source, max_pixels=max_pixels, range=spec.range, bands=spec.bands, warn=warn
        )
        one = begin(
            image_hwc,
            plan_of(*image_hwc.shape[:2]),
            spec,
            self.labels,
            upsampling=backend.upsampling,
            threads=threads,
            in_worker=True,
        )
        return Work(self, one)


def _finish(one: Finished[_Item]) -> Labelled:
    """Put the labels together; any thread."""
    source, labels = one.owner.source, one.owner.labels
    if one.picture is None:
        return Labelled(source, None, one.error)
    one.picture.finish()
    return Labelled(source, labels.joined(), None)
