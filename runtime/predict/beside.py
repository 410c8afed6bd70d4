"""Reading and writing the rows of a large image beside the model, on two more threads.

Both are bounded: what was read and not used, and what was labeled and not written. A thread ends
with the object that uses it, also where that is given up half-way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.passes import ROWS_AT_ONCE, Rows, Sink

__all__ = ["RowsAhead", "SinkBehind"]

_BYTES_AHEAD: Final = 1 << 24
"""Of rows that are read before they are needed, unless ROWS_AT_ONCE rows are more."""


class RowsAhead:
    """Rows that are read before they are needed."""

    def __init__(self, rows: Rows) -> None:
        """Take over the rows. Reading begins with the first call of ``read``.

        Args:
            rows: Not to be read by anybody else from now on.
        """
        self.height, self.width = rows.height, rows.width
        self._rows, self._wanted = rows, _counts(rows.height)
        self._most = max(1, _BYTES_AHEAD // (3 * ROWS_AT_ONCE * rows.width))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fcnkit-read")
        self._ahead: deque[Future[NDArray[np.uint8]]] = deque()
        self._left = np.empty((0, rows.width, 3), np.uint8)

    def read(self, count: int) -> NDArray[np.uint8]:
        """Return the next rows, uint8 (count, width, 3).

        Raises:
            Exception: What reading them raised.
        """
        parts = []
        while count:
            if not len(self._left):
                self._fill()
                self._left = self._ahead.popleft().result()
                self._fill()
            parts.append(self._left[:count])
            self._left = self._left[count:]
            count -= len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def unread(self, rows_hwc: NDArray[np.uint8]) -> None:
        """Put back the last rows that were read: the next call of ``read`` returns them again.

        Args:
            rows_hwc: As ``read`` returned them.
        """
        self._left = np.concatenate([rows_hwc, self._left]) if len(self._left) else rows_hwc

    def _fill(self) -> None:
        while len(self._ahead) < self._most:
            count = next(self._wanted, None)
            if count is None:
                return
            self._ahead.append(self._pool.submit(self._rows.read, count))


def _counts(height: int) -> Iterator[int]:
    for at in range(0, height, ROWS_AT_ONCE):
        yield min(ROWS_AT_ONCE, height - at)


class SinkBehind:
    """A sink whose work is done by another thread, in order, one call behind."""

    def __init__(self, write: Sink) -> None:
        """Take over a sink.

        Args:
            write: Called on the other thread only. The rows that it is lent must stay unchanged
                until it returns.
        """
        self._write: Callable[[NDArray[np.uint8], Prediction], None] = write
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fcnkit-write")
        self._last: Future[None] | None = None

    def __call__(self, image_hwc: NDArray[np.uint8], made: Prediction) -> None:
        """Wait for what is being written, and hand over the next rows.

        Raises:
            Exception: What writing the rows before raised.
        """
        self.wait()
        self._last = self._pool.submit(self._write, image_hwc, made)

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            Exception: What writing raised.
        """
        last, self._last = self._last, None
        if last is not None:
            last.result()
