"""What the reader of a format returns, and how its files are found.

``places_hw`` is uint16 (H, W): for every pixel the place of its class in ``Source.classes``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.classmap import ClassMap, OldClass
from fcnkit.runtime.predict.tree import Tree

if TYPE_CHECKING:
    from fcnkit.train.data.labelmap import Color

__all__ = [
    "Dropped",
    "Item",
    "Place",
    "ReadPlaces",
    "Request",
    "Size",
    "Source",
    "below",
    "check_size",
    "masks_with_images",
    "picture_index",
    "pictures_below",
    "split_name",
    "split_of",
    "subfolder",
]

Size = tuple[int, int]
"""Height and width in pixels."""

ReadPlaces = Callable[[Size], NDArray[np.uint16]]
"""Reads the mask for an image of a size, or draws it."""

_SPLIT = re.compile(r"(train|val|test)(?:ing|id|idation)?(?:19|20)?(?:\d\d)?", re.IGNORECASE)
_SHOWN = 3


@dataclass(frozen=True)
class Request:
    """What a reader needs to know."""

    root: Path
    """The folder of the source; what its files name lies below it."""
    file: Path | None = None
    """Where SOURCE is one file, that file."""
    images: Path | None = None
    """The folder of ``--images``."""
    masks: Path | None = None
    """The folder of ``--masks``."""
    labelmap: Path | None = None
    class_map: ClassMap = field(default_factory=ClassMap)
    skip_missing: bool = False
    """Leave out what has no image, instead of refusing it."""
    crowd_is_void: bool = False
    work: Path = field(default_factory=Path)
    """A folder for files that a reader unpacks."""


class Item(NamedTuple):
    """One image and what labels it."""

    name: str
    """Its path in the source without the ending, with ``/`` between folders."""
    split: str
    """The name of its list, empty where the source has none."""
    image: Path
    places: ReadPlaces
    declared: tuple[object, object] = (None, None)
    """The image's height and width as the source has them; None where it has none."""


@dataclass
class Dropped:
    """What is left out, by reason, with a few names; filled while a source is read."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Count one thing that is left out."""
        self.counts[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < _SHOWN and name not in shown:
            shown.append(name)

    def lines(self) -> list[str]:
        """Return a line per reason: ``3 images without a mask (a, b, c)``."""
        return [
            f"{count} {reason} ({', '.join(self.examples[reason])}"
            f"{', ...' if count > len(self.examples[reason]) else ''})"
            for reason, count in self.counts.items()
        ]


@dataclass(frozen=True)
class Source:
    """A data set in another layout, its classes known and its masks not read yet."""

    format: str
    classes: tuple[OldClass, ...]
    colors: tuple[Color | None, ...]
    """A color per class, None where the source has none."""
    items: tuple[Item, ...]
    dropped: Dropped
    notes: list[str] = field(default_factory=list)
    """What was assumed."""
    open_ids: bool = False
    """Whether the classes are only those ids that occur, so that a rule may name others."""


class Place(NamedTuple):
    """Where a file lies in the source."""

    split: str
    name: str
    """Path without the ending and without the folder that names the split."""


def split_of(path: PurePosixPath) -> Place:
    """Take a folder that names a split out of a path: ``training/cam1/0`` is ``cam1/0`` of train.

    Args:
        path: A relative path without its ending.

    Returns:
        The split, empty where no folder names one, and the rest of the path.
    """
    for place, part in enumerate(path.parts[:-1]):
        if match := _SPLIT.fullmatch(part):
            rest = path.parts[:place] + path.parts[place + 1 :]
            return Place(match[1].lower(), "/".join(rest))
    return Place("", path.as_posix())


def split_name(text: str) -> str:
    """Return train, val or test for a name such as ``Validation`` or ``train2017``, else the name.

    ``default`` and ``all`` are the names that tools give where there are no splits: they become
    the empty name.
    """
    match = _SPLIT.fullmatch(text)
    if match:
        return match[1].lower()
    return "" if text.lower() in ("default", "all") else text


def below(root: Path, name: str, what: str, remedy: str, *, folder: str = "") -> Path:
    """Return the path that a file of the source names, and refuse one that leads out of it.

    Args:
        root: The folder of the source.
        name: As the file names it, with ``/`` or the backslashes of Windows.
        what: The file and key, for the error.
        remedy: What to do where it is refused.
        folder: The folder, relative to root, that the name is relative to.

    Raises:
        DataError: The name is absolute or leads out of root.
    """
    text = name.replace("\\", "/")
    parts: list[str] = []
    climbs = text.startswith("/") or "\0" in text or re.match(r"[A-Za-z]:", text) is not None
    for part in f"{folder}/{text}".split("/"):
        if part == "..":
            climbs |= not parts
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    if climbs or not parts:
        rule = "names must be relative paths that stay inside the source"
        raise DataError(message(what, rule, repr(name), remedy))
    return root.joinpath(*parts)


def check_size(declared: tuple[object, object], size: Size, where: str) -> None:
    """Refuse labels that were drawn on an image of another size.

    Args:
        declared: Height and width as the labels' file has them, None where it has none.
        size: The image's.
        where: The file, for the error.

    Raises:
        DataError: The sizes differ.
    """
    if all(side in (None, real) for side, real in zip(declared, size, strict=True)):
        return
    rule, got = f"must have the image's size, {size[0]}x{size[1]}", f"{declared[0]}x{declared[1]}"
    raise DataError(message(where, rule, got, "put the image there that was labeled"))


def pictures_below(folder: Path, out: Path | None = None) -> list[Path]:
    """Return the image files below a folder, in order of name; hidden ones are skipped.

    Args:
        folder: The folder.
        out: A folder whose content does not count.

    Raises:
        OSError: A folder cannot be listed.
    """
    nowhere = folder / "\0"  # no folder has this name
    found = Tree(folder, out or nowhere, Counter()).pictures()
    return sorted(inner / name for inner, names in found for name in names)


def picture_index(folder: Path) -> dict[str, list[Path]]:
    """Return the image files below a folder by their relative path without the ending.

    Raises:
        DataError: There is no such folder.
        OSError: A folder cannot be listed.
    """
    if not folder.is_dir():
        rule, remedy = "must be a folder of images", "add it, or pass --images DIR"
        raise DataError(message(str(folder), rule, "no such folder", remedy))
    found: dict[str, list[Path]] = {}
    for path in pictures_below(folder):
        key = path.relative_to(folder).with_suffix("").as_posix()
        found.setdefault(key, []).append(path)
    return found


def masks_with_images(
    masks: Mapping[str, Path], request: Request, dropped: Dropped, *, folder: str, ending: str = ""
) -> Iterator[tuple[str, Path, Path]]:
    """Give each mask the image with its key.

    Args:
        masks: The masks by key.
        request: Where the images are, and whether a mask without one is left out.
        dropped: Counts what is left out.
        folder: Of the images below the root, where the request names none.
        ending: What the keys of the images have at the end and those of the masks have not.

    Yields:
        Key, image and mask.

    Raises:
        DataError: A mask has no image, or there is no folder of images.
        OSError: A folder cannot be listed.
    """
    images_at = request.images or request.root / folder
    images = {key.removesuffix(ending): paths[0] for key, paths in picture_index(images_at).items()}
    for key, mask in masks.items():
        image = images.pop(key, None)
        if image is not None:
            yield key, image, mask
        elif request.skip_missing:
            dropped.add("masks without an image", key)
        else:
            rule, remedy = "must hold the image of every mask", "add it, or pass --skip-missing"
            raise DataError(message(str(images_at), rule, f"none for {mask}", remedy))
    for key in images:
        dropped.add("images without a mask", key)


def subfolder(root: Path, given: Path | None, option: str) -> Path | None:
    """Return the folder of an option: below the source, or as it was given.

    Raises:
        DataError: There is no such folder, or there are two.
    """
    if given is None:
        return None
    found = [path for path in (root / given, given) if path.is_dir()]
    if not found:
        rule, remedy = "must be a folder", "check the path"
        raise DataError(message(option, rule, f"{given}, no such folder", remedy))
    if len(found) == 2 and found[0].resolve() != found[1].resolve():
        got = f"{found[0]} and {found[1]}"
        raise DataError(message(option, "must be one folder", got, "pass the full path"))
    return found[0]
