"""The rows of a large image that one row of tiles after the other covers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["RowBuffer"]


class RowBuffer:
    """A window of rows that moves down an image, in one piece of memory."""

    def __init__(self, read: Callable[[int], NDArray[np.uint8]], most: int, at_once: int) -> None:
        """Begin above the first row.

        Args:
            read: Returns the next rows, uint8 (count, W, C).
            most: Rows that are held at most.
            at_once: Rows that are read together at most.
        """
        self._read, self._most, self._at_once, self._held = read, most, at_once, 0
        self._rows: NDArray[np.uint8] | None = None

    def move(self, step: int, count: int) -> NDArray[np.uint8]:
        """Drop ``step`` rows, and return the ``count`` that follow. They are only lent."""
        kept = max(0, self._held - step)
        for at in range(0, kept, self._at_once):
            stop = min(at + self._at_once, kept)
            assert self._rows is not None
            self._rows[at:stop] = self._rows[at + step : stop + step]
        for at in range(kept, count, self._at_once):
            stop = min(at + self._at_once, count)
            rows = self._read(stop - at)
            if self._rows is None:
                self._rows = np.empty((self._most, *rows.shape[1:]), np.uint8)
            self._rows[at:stop] = rows
        self._held = count
        assert self._rows is not None
        return self._rows[:count]
