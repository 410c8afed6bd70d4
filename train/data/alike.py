"""Finds images of different splits that look alike, such as neighboring frames of one video.

An image's look is a difference hash: shrunk to 9x8 gray pixels, one bit for each of the 64 pairs of
horizontal neighbors that says whether it gets brighter. Scaling, compression and brightness change
few of the bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["NEAR", "look_of", "matches"]

NEAR: Final = 5
"""Two looks are alike if at most this many of their 64 bits differ. Different images differ in 32
on average. Frames of one street, a second apart, differ in 8 or more."""

_SIDE: Final = 8
_LEAST_STEP: Final = 2
"""Gray levels. A smaller difference between neighbors is noise."""
_LEAST_STEPS: Final = 16
"""An image with fewer steps than this is too plain to be told from others."""
_ROWS: Final = 1024
"""Images of the second split that are compared at a time, to bound the memory."""


def look_of(image_hwc: NDArray[np.uint8]) -> bytes:
    """Return the look of an image.

    Args:
        image_hwc: uint8 (H, W, 3), RGB.

    Returns:
        64 bits as 8 bytes; empty for an image that is too plain, such as one of a single color.
    """
    small = Image.fromarray(image_hwc).resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    gray_hw = np.asarray(small.convert("L"), np.int16)
    steps = gray_hw[:, 1:] - gray_hw[:, :-1]
    if np.count_nonzero(np.abs(steps) >= _LEAST_STEP) < _LEAST_STEPS:
        return b""
    return np.packbits(steps > 0).tobytes()


def matches(first: Mapping[str, bytes], second: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Find the images of one split that look like an image of another.

    Every look is compared with every other. That takes a matrix product of 64 columns, far less
    time than reading the images took.

    Args:
        first: The looks of a split by name; empty looks are passed over.
        second: Those of the other.

    Returns:
        For each image of the second split with an image alike: the nearest one of the first, and
        its name.
    """
    known, others = (
        {name: look for name, look in split.items() if look} for split in (first, second)
    )
    if not known or not others:
        return []
    names, signs = list(known), _signs(list(known.values()))
    found: list[tuple[str, str]] = []
    seconds = list(others)
    for start in range(0, len(seconds), _ROWS):
        part = seconds[start : start + _ROWS]
        # Of two vectors of 64 signs, the product is 64 minus twice the number that differ.
        products = _signs([others[name] for name in part]) @ signs.T
        nearest = products.argmax(axis=1)
        for row, (name, place) in enumerate(zip(part, nearest.tolist(), strict=True)):
            if products[row, place] >= _SIDE * _SIDE - 2 * NEAR:
                found.append((names[place], name))
    return found


def _signs(looks: Sequence[bytes]) -> NDArray[np.float32]:
    """Return each look as 64 values of -1 or 1, (N, 64)."""
    bits = np.unpackbits(np.frombuffer(b"".join(looks), np.uint8)).reshape(len(looks), -1)
    signs: NDArray[np.float32] = bits.astype(np.float32) * 2 - 1
    return signs
