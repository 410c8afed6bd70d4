"""The masks of COCO's annotations, by COCO's own library: polygons, run lengths, boxes.

Where annotations overlap, the smaller one counts, as a thing in front of a larger one mostly is.
Of two of the same size the later one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from fcnkit.errors import DataError, message, missing_extra
from fcnkit.train.data.importers.json_file import check_outline, number
from fcnkit.train.data.importers.source import check_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fcnkit.train.data.importers.source import Dropped, Size

__all__ = ["Annotation", "draw", "import_library", "run_lengths"]

_MOST: Final = 100_000
_CHAR_ZERO, _MORE, _SIGN, _MOST_SHIFT = 48, 32, 16, 30


class Annotation(NamedTuple):
    """One annotation of an image."""

    place: int
    segmentation: Any
    """Polygons or run lengths as the file has them; None where there is only a box."""
    box: Any
    void: bool
    """Whether its pixels are void where no other annotation counts."""
    where: str


def import_library() -> Any:
    """Return ``pycocotools.mask``.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise missing_extra("--format coco", "pycocotools", "coco") from error
    return mask


def draw(
    annotations: Sequence[Annotation],
    declared: tuple[object, object],
    where: str,
    void: int,
    dropped: Dropped,
    add_overlap: Callable[[int], None],
    size: Size,
) -> NDArray[np.uint16]:
    """Draw the annotations of an image.

    Args:
        annotations: In the order of the file.
        declared: Height and width as the file has them, None where it has none.
        where: The file and image, for errors.
        void: The place of void.
        dropped: Gets what is left out.
        add_overlap: Called with the pixels that annotations of two classes share.
        size: The image's height and width.

    Returns:
        uint16 (H, W): 0 for background, else the annotation's place or void.

    Raises:
        DataError: An annotation is malformed, or the file declares another size.
    """
    check_size(declared, size, where)
    if len(annotations) > _MOST:
        rule = f"an image has at most {_MOST} annotations"
        raise DataError(message(where, rule, len(annotations), "do not use this file"))
    places_hw = np.zeros(size, np.uint16)
    library = import_library()
    masks = []
    for one in annotations:
        if one.segmentation is None:
            _fill_box(places_hw, one, void, dropped)
        elif encoded := _encoded(library, one, size, dropped):
            masks.append((not one.void, -int(library.area(encoded)), one, encoded))
    masks.sort(key=lambda mask: mask[:2])  # stable: of equal areas the later one is drawn last
    drawn = np.zeros(size, bool)
    for _, _, one, encoded in masks:
        mask = library.decode(encoded).astype(bool)
        place = void if one.void else one.place
        add_overlap(int(np.count_nonzero(drawn & mask & (places_hw != place))))
        places_hw[mask] = place
        if not one.void:
            drawn |= mask
    return places_hw


def _fill_box(places_hw: NDArray[np.uint16], one: Annotation, void: int, dropped: Dropped) -> None:
    """Make the box of an annotation without an outline void: something of its class is in it."""
    where = f"{one.where}: bbox"
    if not isinstance(one.box, list) or len(one.box) != 4:
        dropped.add("annotations without segmentation and box", one.where.rpartition(": ")[2])
        return
    height, width = places_hw.shape
    left, top, box_width, box_height = (number(value, where) for value in one.box)
    edges = [(left, width), (top, height), (left + box_width, width), (top + box_height, height)]
    x0, y0, x1, y1 = (int(min(max(value, 0), side)) for value, side in edges)
    places_hw[y0 : y1 + 1, x0 : x1 + 1] = void
    dropped.add(
        "annotations without segmentation, whose boxes are void", f"{one.where.rpartition(': ')[2]}"
    )


def _encoded(library: Any, one: Annotation, size: Size, dropped: Dropped) -> Any:
    """Return an annotation's mask as the library packs it, None where it has no area."""
    if isinstance(one.segmentation, dict):
        counts = run_lengths(one.segmentation, size, f"{one.where}: segmentation")
        packed = {"counts": counts, "size": list(size)}
        return library.frPyObjects(packed, *size)
    polygons = one.segmentation
    if not isinstance(polygons, list) or not all(isinstance(each, list) for each in polygons):
        rule, remedy = "is a list of polygons, or run lengths", "export it again"
        got = "something else"
        raise DataError(message(f"{one.where}: segmentation", rule, got, remedy))
    where = f"{one.where}: segmentation"
    flats = [check_outline(polygon, size, where) for polygon in polygons]
    outlines = [flat for flat in flats if len(flat) >= 6]
    if len(outlines) < len(flats):
        dropped.add("polygons of fewer than 3 points", one.where.rpartition(": ")[2])
    return library.merge(library.frPyObjects(outlines, *size)) if outlines else None


def run_lengths(segmentation: dict[str, Any], size: Size, where: str) -> list[int]:
    """Return the run lengths of a mask, columns first, beginning with what is not in it.

    Args:
        segmentation: ``counts``, a list or packed in a string, and ``size``.
        size: Height and width of the image.
        where: For errors.

    Raises:
        DataError: The size is another, or the runs are not numbers or do not fill the image.
    """
    if segmentation.get("size") != list(size):
        rule, got = f"size must be the image's, {list(size)}", segmentation.get("size")
        raise DataError(message(where, rule, got, "export it again"))
    counts = segmentation.get("counts")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    valid = isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)
    if runs is None or not valid or sum(runs) != size[0] * size[1]:
        rule = f"counts must be run lengths that add up to {size[0] * size[1]} pixels"
        total = sum(runs) if valid and runs is not None else "no run lengths"
        raise DataError(message(where, rule, total, "export it again"))
    return runs


def _unpacked(text: str) -> list[int] | None:
    """Unpack run lengths: 5 bits per character, differences to the run before the last.

    The library does the same, but reads on past the end of a string that is cut short.
    """
    runs: list[int] = []
    value = shift = 0
    for char in text:
        bits = ord(char) - _CHAR_ZERO
        if not 0 <= bits < 2 * _MORE or shift > _MOST_SHIFT:
            return None
        value |= (bits & (_MORE - 1)) << shift
        shift += 5
        if not bits & _MORE:
            if bits & _SIGN:
                value -= 1 << shift
            if len(runs) > 2:
                value += runs[-2]
            runs.append(value)
            value = shift = 0
    return None if shift else runs
