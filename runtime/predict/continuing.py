"""A large image some of whose bands an earlier run has labeled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tile_plan import TilePlan
from fcnkit.runtime.predict.band_store import BandStore
from fcnkit.runtime.predict.beside import RowsAhead
from fcnkit.runtime.predict.passes import ROWS_AT_ONCE, Pass, Sink

__all__ = ["ContinuedPass", "continued"]

Begin = Callable[[RowsAhead, TilePlan, Sink], Pass]
"""Begins an image, as ``Segmenter.begin`` does."""


def continued(rows: RowsAhead, plan: TilePlan, store: BandStore, sink: Sink, begin: Begin) -> Pass:
    """Begin an image where an earlier run stopped.

    Args:
        rows: Of the image, from its first row.
        plan: Where its tiles lie.
        store: Its bands that are labeled.
        sink: Gets all bands, those of the store first.
        begin: Begins the rest of the image.

    Returns:
        The pass.
    """
    return ContinuedPass(rows, plan, store, sink, begin) if len(store) else begin(rows, plan, sink)


class ContinuedPass:
    """Hands out the bands of a store, and labels those that follow.

    The image is read from its first row again, because most files cannot be read otherwise. The
    model gets the rows of tiles that the store lacks, and those that share rows with them: one,
    if the overlap is at most half a tile.
    """

    def __init__(
        self, rows: RowsAhead, plan: TilePlan, store: BandStore, sink: Sink, begin: Begin
    ) -> None:
        self._rows, self._plan, self._store, self._sink = rows, plan, store, sink
        self._rest: Pass | None = None
        if len(store) < len(plan.tops):
            first = _first_needed(plan, len(store))
            self._again = sum(_heights(plan)[first : len(store)])
            """Rows that are labeled again, because their tiles reach into the next band."""
            left = _Rest(sink, self._again)
            self._rest = begin(rows, _from_row(plan, first), left)
        else:
            self._again = 0

    @property
    def goes_on(self) -> bool:
        """See ``Pass``."""
        return self._rest is not None and self._rest.goes_on

    def batches(self) -> Iterator[NDArray[Any]]:
        """Hand out the bands of the store, then yield the tiles of the rest."""
        kept: list[NDArray[np.uint8]] = []
        shared = self._store.rows - self._again
        at = 0
        for band in self._store.bands():
            for top in range(0, len(band.labels), ROWS_AT_ONCE):
                part = band.rows(top, top + ROWS_AT_ONCE)
                image = self._rows.read(len(part.labels))
                self._sink(image[..., :3], part)
                at += len(image)
                if at > shared:
                    kept.append(image[max(0, len(image) - (at - shared)) :])
        if kept:
            self._rows.unread(np.concatenate(kept))
        if self._rest is not None:
            yield from self._rest.batches()

    def take(self, outputs: NDArray[Any]) -> None:
        """Hand on the outputs."""
        assert self._rest is not None
        self._rest.take(outputs)

    def finish(self) -> None:
        """Finish the rest."""
        if self._rest is not None:
            self._rest.finish()


class _Rest:
    """A sink that gets no rows before the first one that is missing."""

    def __init__(self, sink: Sink, rows: int) -> None:
        self._sink, self._rows = sink, rows

    def __call__(self, image_hwc: NDArray[np.uint8], made: Prediction) -> None:
        """Drop a band that is known, or hand it on. Bands are known as a whole."""
        if self._rows:
            self._rows -= len(made.labels)
            return
        self._sink(image_hwc, made)


def _heights(plan: TilePlan) -> list[int]:
    """Return the rows of each band: those from one row of tiles to the next."""
    return [end - top for top, end in zip(plan.tops, (*plan.tops[1:], plan.height), strict=True)]


def _first_needed(plan: TilePlan, band: int) -> int:
    """Return the first row of tiles that reaches into a band."""
    top = plan.tops[band]
    return next(i for i in range(band + 1) if plan.tops[i] + plan.tile_height > top)


def _from_row(plan: TilePlan, row: int) -> TilePlan:
    """Return the plan of the image from a row of tiles on."""
    top = plan.tops[row]
    return replace(plan, height=plan.height - top, tops=tuple(y - top for y in plan.tops[row:]))
