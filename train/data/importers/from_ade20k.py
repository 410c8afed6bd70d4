"""ADE20K's scene parsing set and what is laid out like it: index masks that count from 1."""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.classmap import OldClass
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train.data.importers.id_source import read_known_ids
from fcnkit.train.data.importers.source import (
    Dropped,
    Item,
    Source,
    masks_with_images,
    picture_index,
    split_of,
)
from fcnkit.train.data.labelmap import read_export_labelmap, read_lines

if TYPE_CHECKING:
    from pathlib import Path

    from fcnkit.train.data.importers.source import Request
    from fcnkit.train.data.labelmap import Color

__all__ = ["is_ade20k", "open_ade20k"]

_IMAGES: Final = "images"
_MASKS: Final = "annotations"
_NAMES: Final = "objectInfo150.txt"


def is_ade20k(root: Path) -> bool:
    """Whether a folder holds images and annotations for training, as ADE20K does."""
    return (root / _IMAGES / "training").is_dir() and (root / _MASKS / "training").is_dir()


def open_ade20k(request: Request) -> Source:
    """Find the images of all masks. In them 0 is void and the classes count from 1.

    Args:
        request: Whose root holds ``images`` and ``annotations``.

    Returns:
        The source, with the names of ``objectInfo150.txt`` or of the lines of a label map.

    Raises:
        DataError: There are no names, or a mask has no image.
        OSError: A folder cannot be read.
    """
    root, dropped = request.root, Dropped()
    names, colors = _names(request)
    classes = (OldClass("other", 0, True), *(OldClass(name, n + 1) for n, name in enumerate(names)))
    read = read_known_ids(classes)
    masks = {key: paths[0] for key, paths in picture_index(root / _MASKS).items()}
    items = []
    for key, image, mask in masks_with_images(masks, request, dropped, folder=_IMAGES):
        split, name = split_of(PurePosixPath(key))
        items.append(Item(name, split, image, partial(read, mask)))
    notes = ["0 in the masks is void, the classes count from 1"]
    void = OldClass("void", VOID, True)
    return Source("ade20k", (*classes, void), (None, *colors, None), tuple(items), dropped, notes)


def _names(request: Request) -> tuple[list[str], list[Color | None]]:
    """Return the names of the classes from 1 on, and their colors where a label map has them."""
    if request.labelmap is not None:
        labelmap = read_export_labelmap(request.labelmap)
        return list(labelmap.classes), list(labelmap.palette)
    path = request.root / _NAMES
    if not path.is_file():
        rule, remedy = f"must hold {_NAMES}", "add it, or name the classes in a file for --labelmap"
        raise DataError(message(str(request.root), rule, "no such file", remedy))
    full: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split("\t")
        if not fields[0].strip().isdigit():  # the heading, or a blank line
            continue
        if len(fields) < 2 or int(fields[0]) != len(full) + 1:
            rule, remedy = "a line is INDEX<tab>...<tab>NAME, counting from 1", "mend the line"
            raise DataError(message(f"{path}:{number}", rule, repr(line), remedy))
        full.append(fields[-1].strip())
    # "wall" instead of "building, edifice", where that tells them apart
    short = [name.replace(";", ",").split(",")[0].strip() for name in full]
    names = short if len(set(short)) == len(short) else full
    if not 1 <= len(names) < VOID:
        rule, remedy = f"must name 1 to {VOID - 1} classes", "write a class per line"
        raise DataError(message(str(path), rule, len(names), remedy))
    return names, [None] * len(names)
