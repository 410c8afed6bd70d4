"""Labels of many pictures as they come, without files for results."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.passes import BandPass, ImageRows, WholePass, tiles_at_once
from fcnkit.runtime.pictures import read_picture
from fcnkit.runtime.pipeline import Finished, Work, ahead_of, default_workers, most_ahead, run_works

if TYPE_CHECKING:
    from fcnkit.runtime.segmenter import Segmenter

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
    segmenter: Segmenter,
    sources: Iterable[str | Path | NDArray[np.uint8]],
    *,
    batch: int,
    max_pixels: int,
) -> Generator[Labelled, None, None]:
    """Label pictures; see ``Segmenter.map``."""
    behind: deque[Future[Labelled]] = deque()
    workers = default_workers(segmenter.backend)
    limit = most_ahead(workers)
    with ThreadPoolExecutor(workers, thread_name_prefix="fcnkit") as pool:

        def begin(source: str | Path | NDArray[np.uint8]) -> Work[_Item]:
            return _Item(source).begin(segmenter, max_pixels)

        works: Iterator[Work[_Item]] = ahead_of(pool, begin, sources, limit=limit)
        for one in run_works(segmenter.backend, works, batch=batch):
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

    def begin(self, segmenter: Segmenter, max_pixels: int) -> Work[_Item]:
        """Read the picture and cut it into tiles; any thread."""
        from fcnkit.runtime.segmenter import checked_image

        try:
            if isinstance(self._source, str | Path):
                image_hwc = read_picture(self._source, max_pixels=max_pixels)
            else:
                image_hwc = checked_image(self._source)
            plan = segmenter.plan(*image_hwc.shape[:2])
        except (TypeError, ValueError, OSError, MemoryError) as error:
            return Work(self, None, error)
        spec = segmenter.spec
        if len(plan) > tiles_at_once(spec, plan):
            rows, threads = ImageRows(image_hwc), segmenter.threads
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
