"""The values of pictures of more than 8 bits: how they become 0..255, and which of them occur."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadTypeError, BadValueError, PictureWarning, message
from fcnkit.runtime.checks import check_int

__all__ = [
    "DEEPEST",
    "SAY_IN_TRAINING",
    "Levels",
    "LevelsSeen",
    "Range",
    "RangeWarner",
    "WarnOfRange",
    "check_range",
]

Range = tuple[int, int]
"""(low, high): the stored values that become 0 and 255."""

SAY_IN_TRAINING: Final = "if {0} means white, train with --range 0..{0}"
"""What to do where a model labels pictures: it has to be trained on the same scale."""

DEEPEST: Final = 65535
"""Largest value of a sample of 16 bits."""


def check_range(what: str, range: object) -> Range | None:
    """Return a range as two integers, or say what is wrong with it.

    Args:
        what: The option or argument, for the error.
        range: What a caller gave: (low, high), or None for none.

    Returns:
        The range.

    Raises:
        TypeError: It is not a pair of integers.
        ValueError: It is not 0 <= low < high <= 65535.
    """
    if range is None:
        return None
    if not isinstance(range, (tuple, list)) or len(range) != 2:
        rule = "must be a pair (low, high)"
        raise BadTypeError(message(what, rule, repr(range), "pass (0, 4095) for 12 bits"))
    low, high = (check_int(what, value, 0, DEEPEST) for value in range)
    if low >= high:
        rule, got = "low must be below high", f"{low}..{high}"
        raise BadValueError(message(what, rule, got, "write 0..4095 for 12 bits"))
    return low, high


@dataclass(frozen=True, kw_only=True)
class LevelsSeen:
    """Which values the samples of a picture of more than 8 bits have, transparency left out."""

    low: int
    """Smallest value that occurs."""
    high: int
    """Largest value that occurs."""
    outside: int
    """Samples below or above the range; they became 0 or 255."""
    used: Range
    """The range that was used."""
    given: bool
    """Whether a caller gave that range; otherwise it is all that the file can hold."""

    @property
    def doubtful(self) -> bool:
        """Whether the range was assumed and the picture keeps to the lowest quarter of it."""
        return not self.given and 0 < self.high <= self.used[1] // 4

    def doubt(self, what: str, remedy: str) -> str:
        """Word the warning about an assumed range.

        Args:
            what: The file.
            remedy: How another range is said, with ``{}`` where its largest value stands.

        Returns:
            The warning, naming the range that was used.
        """
        rule = f"values of more than 8 bits are read as {self.used[0]}..{self.used[1]}"
        most = (1 << max(self.high.bit_length(), 9)) - 1
        return message(what, rule, f"none above {self.high}", remedy.format(most))


class Levels:
    """Scales the samples of one picture to 0..255, and remembers which values there were."""

    def __init__(
        self,
        range: Range | None,
        *,
        most: int = DEEPEST,
        table: NDArray[np.uint8] | None = None,
    ) -> None:
        """Choose the scale.

        Args:
            range: The values that become 0 and 255; None for all that the file can hold.
            most: Largest value that the file can hold.
            table: What each value becomes without a range, uint8 (65536,); by default its upper
                8 bits.
        """
        self._range, self._most = range, most
        values = np.arange(DEEPEST + 1)
        if range is not None:
            low, high = range
            scaled = np.rint((values - low) * 255 / (high - low)).clip(0, 255)
            self._table = scaled.astype(np.uint8)
        else:
            self._table = (values >> 8).astype(np.uint8) if table is None else table
        self._low, self._high, self._outside, self._any = DEEPEST, 0, 0, False

    def scale(self, values: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Return the values as 0..255.

        Args:
            values: uint16 samples of any shape.

        Returns:
            uint8 of the same shape.
        """
        if values.size:
            self._any = True
            self._low = min(self._low, int(values.min()))
            self._high = max(self._high, int(values.max()))
        if self._range is not None:
            low, high = self._range
            self._outside += int(np.count_nonzero((values < low) | (values > high)))
        scaled: NDArray[np.uint8] = self._table[values]
        return scaled

    @property
    def seen(self) -> LevelsSeen | None:
        """What there was so far; None where nothing was scaled, as in a picture of 8 bits."""
        if not self._any:
            return None
        return LevelsSeen(
            low=self._low,
            high=self._high,
            outside=self._outside,
            used=(0, self._most) if self._range is None else self._range,
            given=self._range is not None,
        )


WarnOfRange = Callable[[str, LevelsSeen | None], None]
"""Gets each file and what values it has; see ``RangeWarner``."""


class RangeWarner:
    """Warns of an assumed range, of the first doubtful picture of a run; any thread."""

    def __init__(self, remedy: str) -> None:
        """Choose the words.

        Args:
            remedy: As for ``LevelsSeen.doubt``.
        """
        self._remedy, self._lock, self._warned = remedy, threading.Lock(), False

    def __call__(self, what: str, seen: LevelsSeen | None) -> None:
        """Warn if the picture's range is in doubt and no other's was.

        Args:
            what: The file.
            seen: Its values.
        """
        if seen is None or not seen.doubtful:
            return
        with self._lock:
            first, self._warned = not self._warned, True
        if first:
            warnings.warn(seen.doubt(what, self._remedy), PictureWarning, stacklevel=4)
