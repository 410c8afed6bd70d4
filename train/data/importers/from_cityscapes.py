"""Cityscapes: ``leftImg8bit`` and ``gtFine`` with ``_gtFine_labelIds.png``."""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.classmap import VOID_NAME, OldClass
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train.data.importers.id_source import read_known_ids
from fcnkit.train.data.importers.source import (
    Dropped,
    Item,
    Source,
    masks_with_images,
    picture_index,
    split_name,
)
from fcnkit.train.data.labelmap import read_lines

if TYPE_CHECKING:
    from pathlib import Path

    from fcnkit.train.data.importers.source import ReadPlaces, Request
    from fcnkit.train.data.labelmap import Color

__all__ = ["is_cityscapes", "open_cityscapes"]

_IMAGES, _MASKS = "leftImg8bit", "gtFine"
_MASK_END: Final = "_gtFine_labelIds"
_IMAGE_END: Final = "_leftImg8bit"
_COLORS: Final = "label_colors.txt"
"""Datumaro writes it: a class per line, its id the number of the line from 0."""

_CLASSES: Final[tuple[tuple[str, Color], ...]] = (
    ("unlabeled", (0, 0, 0)),
    ("ego vehicle", (0, 0, 0)),
    ("rectification border", (0, 0, 0)),
    ("out of roi", (0, 0, 0)),
    ("static", (0, 0, 0)),
    ("dynamic", (111, 74, 0)),
    ("ground", (81, 0, 81)),
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("parking", (250, 170, 160)),
    ("rail track", (230, 150, 140)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("guard rail", (180, 165, 180)),
    ("bridge", (150, 100, 100)),
    ("tunnel", (150, 120, 90)),
    ("pole", (153, 153, 153)),
    ("polegroup", (153, 153, 153)),
    ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)),
    ("vegetation", (107, 142, 35)),
    ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)),
    ("person", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("caravan", (0, 0, 90)),
    ("trailer", (0, 0, 110)),
    ("train", (0, 80, 100)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
)
"""The classes of the data set by id; 255 is the license plate, which has id -1."""

_NOT_SCORED: Final = frozenset((
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground",
    "parking", "rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer",
))  # fmt: skip
"""What the benchmark ignores; the other 19 are its classes."""


def is_cityscapes(root: Path) -> bool:
    """Whether a folder holds ``gtFine`` with masks of ids."""
    masks = root / _MASKS
    return masks.is_dir() and next(masks.rglob(f"*{_MASK_END}.png"), None) is not None


def open_cityscapes(request: Request) -> Source:
    """Find the images of all masks of ids.

    Args:
        request: Whose root holds ``gtFine`` and ``leftImg8bit``.

    Returns:
        The source. The classes are the 19 of the benchmark, the others are void; a
        ``label_colors.txt`` in root names other classes.

    Raises:
        DataError: A mask has no image, or ``label_colors.txt`` is malformed.
        OSError: A folder cannot be read.
    """
    root, dropped, notes = request.root, Dropped(), []
    names = root / _COLORS
    if names.exists():
        classes, colors = _read_colors(names)
        notes.append(f"classes from {_COLORS}")
    else:
        classes = tuple(
            OldClass(name, id, name in _NOT_SCORED) for id, (name, _) in enumerate(_CLASSES)
        )
        colors = tuple(color for _, color in _CLASSES)
    masks = {
        key.removesuffix(_MASK_END): paths[0]
        for key, paths in picture_index(root / _MASKS).items()
        if key.endswith(_MASK_END)
    }
    read = read_known_ids(classes)
    pairs = masks_with_images(masks, request, dropped, folder=_IMAGES, ending=_IMAGE_END)
    items = [_item(name, image, partial(read, mask)) for name, image, mask in pairs]
    void = OldClass(VOID_NAME, VOID, True)
    return Source("cityscapes", (*classes, void), (*colors, None), tuple(items), dropped, notes)


def _item(name: str, image: Path, read: ReadPlaces) -> Item:
    path = PurePosixPath(name)
    split = split_name(path.parts[0]) if len(path.parts) > 1 else ""
    rest = PurePosixPath(*path.parts[1:]) if len(path.parts) > 1 else path
    return Item(rest.as_posix(), split, image, read)


def _read_colors(path: Path) -> tuple[tuple[OldClass, ...], tuple[Color | None, ...]]:
    """Read ``r g b name`` lines, in which the color may be missing."""
    classes: list[OldClass] = []
    colors: list[Color | None] = []
    not_scored = {name.replace(" ", "") for name in _NOT_SCORED} | {VOID_NAME}
    for line in read_lines(path):
        parts = line.split()
        if not parts:
            continue
        color = None
        if len(parts) > 3 and all(part.isdigit() and int(part) <= 255 for part in parts[:3]):
            color = (int(parts[0]), int(parts[1]), int(parts[2]))
            parts = parts[3:]
        name = " ".join(parts)
        void = name.replace(" ", "").casefold() in not_scored
        classes.append(OldClass(name, len(classes), void))
        colors.append(color)
    if not 1 <= len(classes) <= VOID:
        rule, remedy = f"must name 1 to {VOID} classes", "write a class per line"
        raise DataError(message(str(path), rule, len(classes), remedy))
    return tuple(classes), tuple(colors)
