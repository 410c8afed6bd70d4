"""Labels of many pictures as they come, without files for results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.pixels.tile_plan import TilePlan
from fcnkit.runtime.predict.levels import SAY_IN_TRAINING, RangeWarner
from fcnkit.runtime.predict.passes import BandPass, ImageRows, WholePass, tiles_at_once
from fcnkit.runtime.predict.pictures import checked_image, read_levels
from fcnkit.runtime.predict.pipeline import (
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
    behind: deque[Future[Labelled]] = deque()
    workers = default_workers(backend)
    limit, warn = most_ahead(workers), RangeWarner(SAY_IN_TRAINING)
    with ThreadPoolExecutor(workers, thread_name_prefix="fcnkit") as pool:

        def begin(source: str | Path | NDArray[np.uint8]) -> Work[_Item]:
            return _Item(source).begin(backend.spec, plan_of, max_pixels, threads, warn)

        works: Iterator[Work[_Item]] = ahead_of(pool, begin, sources, limit=limit)
        for one in run_works(backend, works, batch=batch):
            behind.append(pool.submit(one.owner.finish, one))
            while len(behind) > limit or (behind and behind[0].done()):
                yield behind.popleft().result()
        while behind:
            yield behind.popleft().result()


class _Item:
    def __init__(self, source: str | Path | NDArray[np.uint8]) -> None:
        self._source = source
        self._whole: WholePass | None = None
        self._bands: list[NDArray[np.uint8]] = []

    def begin(
        self,
        spec: ModelSpec,
        plan_of: Callable[[int, int], TilePlan],
        max_pixels: int,
        threads: int | None,
        warn: RangeWarner,
    ) -> Work[_Item]:
        """Read the picture and cut it into tiles; any thread."""
        try:
            if isinstance(self._source, str | Path):
                image_hwc, seen = read_levels(self._source, max_pixels=max_pixels, range=spec.range)
                warn(str(self._source), seen)
            else:
                image_hwc = checked_image(self._source)
            plan = plan_of(*image_hwc.shape[:2])
        except (TypeError, ValueError, OSError, MemoryError) as error:
            return Work(self, None, error)
        if len(plan) > tiles_at_once(spec, plan):
            rows = ImageRows(image_hwc)
            return Work(self, BandPass(rows, plan, spec, self._take, threads=threads))
        self._whole = WholePass(image_hwc, plan, spec, threads=1)
        return Work(self, self._whole)

    def _take(self, _: NDArray[np.uint8], labels_hw: NDArray[np.uint8]) -> None:
        self._bands.append(labels_hw)

    def finish(self, one: Finished[_Item]) -> Labelled:
        """Put the labels together; any thread."""
        if one.error is not None:
            return Labelled(self._source, None, one.error)
        if self._whole is not None:
            return Labelled(self._source, self._whole.labels(), None)
        return Labelled(self._source, np.concatenate(self._bands), None)
