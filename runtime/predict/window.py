"""A rectangle of an image that is labeled as if the image were cut there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

from numpy.typing import NDArray

from fcnkit.errors import BadTypeError, BadValueError, DataError, message
from fcnkit.runtime.pixels.tile_plan import MAX_SIDE

__all__ = ["Window"]

_REMEDY = "write 0:1000,500:2000 for rows 0 to 999 and columns 500 to 1999"


@dataclass(frozen=True)
class Window:
    """Rows ``top`` to ``bottom - 1`` and columns ``left`` to ``right - 1`` of an upright image.

    Raises:
        ValueError: It is empty, or a side is out of range.
    """

    top: int
    bottom: int
    left: int
    right: int

    def __post_init__(self) -> None:
        """Check the four numbers."""
        for low, high in ((self.top, self.bottom), (self.left, self.right)):
            if not 0 <= low < high <= MAX_SIDE:
                rule = f"--window must be y0:y1,x0:x1 with 0 <= y0 < y1 <= {MAX_SIDE}, likewise x"
                raise BadValueError(message("predict", rule, str(self), _REMEDY))

    @classmethod
    def parse(cls, text: object) -> Self:
        """Return the window that ``y0:y1,x0:x1`` names.

        Raises:
            TypeError: It is not a str.
            ValueError: It is not four integers, or a range is empty.
        """
        rule = "--window must be y0:y1,x0:x1"
        if not isinstance(text, str):
            raise BadTypeError(message("predict", rule, type(text).__name__, _REMEDY))
        number = r"([0-9]{1,19})"
        found = re.fullmatch(f"{number}:{number},{number}:{number}", text)
        if found is None:
            raise BadValueError(message("predict", rule, repr(text), _REMEDY))
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.top}:{self.bottom},{self.left}:{self.right}"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def check(self, what: str, height: int, width: int) -> None:
        """Refuse an image that does not hold the window.

        Args:
            what: The image file, for the error.
            height: Rows of the image.
            width: Columns of the image.

        Raises:
            DataError: The window reaches beyond the image.
        """
        if self.bottom > height or self.right > width:
            rule = f"an image must hold the window {self}"
            remedy = f"choose a window inside of 0:{height},0:{width}"
            raise DataError(message(what, rule, f"{height}x{width} pixels", remedy))

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the rows and columns of the window, a view.

        Args:
            image: An array (H, W, ...) that holds it.
        """
        return image[self.top : self.bottom, self.left : self.right]
