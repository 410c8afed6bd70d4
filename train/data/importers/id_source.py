"""Masks of ids whose classes are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train.data.importers.pixels import read_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fcnkit.runtime.artifacts.classmap import OldClass
    from fcnkit.train.data.importers.source import Size

__all__ = ["read_known_ids"]

_NONE = 0xFFFF


def read_known_ids(classes: Sequence[OldClass]) -> Callable[[Path, Size], NDArray[np.uint16]]:
    """Return a function that reads masks of these ids.

    Args:
        classes: The classes by place, each with an id. 255 is void unless it is a class's id, and
            has the place after the last class.

    Returns:
        Reads a mask as places, uint16 (H, W); the size of the image does not matter to it. It
        raises DataError where an id is not a class.
    """
    place_of = np.full(1 << 16, _NONE, np.uint16)
    place_of[VOID] = len(classes)
    for place, old in enumerate(classes):
        place_of[old.id] = place

    def read(mask: Path, _: Size) -> NDArray[np.uint16]:
        ids_hw = read_ids(mask).array
        places: NDArray[np.uint16] = place_of[ids_hw]
        strange = places == _NONE
        if strange.any():
            values, counts = np.unique(ids_hw[strange], return_counts=True)
            shown = [f"{v} ({n} px)" for v, n in zip(values[:5], counts[:5], strict=True)]
            rule = f"ids are those of the {len(classes)} classes or {VOID}"
            remedy = "mend the mask, or read it with --images, --masks and --map"
            raise DataError(message(str(mask), rule, ", ".join(shown), remedy))
        return places

    return read
