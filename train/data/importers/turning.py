"""Masks of images that EXIF turns on their side: drawn before the turn, or after it.

fcnkit reads images as a viewer shows them. Some tools label the pixels as the file stores them.
Where height and width differ, the size of the labels tells which it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fcnkit.train.data.masks import ON_ITS_SIDE, orientation_of, size_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fcnkit.train.data.importers.source import Item, Size

__all__ = ["Fitted", "fitted_places", "turned"]


class Fitted(NamedTuple):
    """A mask for the image as a viewer shows it."""

    places_hw: NDArray[np.uint16]
    size: Size
    """The image's height and width as it is shown; the mask may have another size."""
    turned: bool
    """Whether the mask was turned as the image is."""


def fitted_places(item: Item, image: Path) -> Fitted:
    """Read or draw a mask, and turn it if it was made for the image before it is turned.

    Args:
        item: Whose mask is read.
        image: The image in the data set, JPEG or PNG.

    Raises:
        DataError: The mask or the image cannot be read.
    """
    size, orientation = size_of(image), orientation_of(image)
    stored = size[::-1] if orientation >= ON_ITS_SIDE else size
    places_hw = item.places(stored if item.declared == stored else size)
    if places_hw.shape == size or places_hw.shape != stored:
        return Fitted(places_hw, size, False)
    return Fitted(turned(places_hw, orientation), size, True)


def turned(array_hw: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Turn an array as EXIF's orientations 5 to 8 turn an image.

    Args:
        array_hw: (H, W).
        orientation: 5 to 8.

    Returns:
        A copy (W, H).
    """
    if orientation == 5:
        return array_hw.T.copy()
    if orientation == 7:
        return np.rot90(array_hw.T, 2).copy()
    return np.rot90(array_hw, 1 if orientation == 8 else -1).copy()
