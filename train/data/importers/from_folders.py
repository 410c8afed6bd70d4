"""Two folders, one of images and one of masks, of any nesting."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.classmap import VOID_NAME, OldClass
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train.data.importers.from_voc import labeled_reader, labelmap_source
from fcnkit.train.data.importers.pixels import read_ids, say_transparent
from fcnkit.train.data.importers.source import Dropped, Item, Source, picture_index, split_of
from fcnkit.train.data.labelmap import read_export_labelmap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fcnkit.runtime.artifacts.classmap import ClassMap
    from fcnkit.train.data.importers.source import ReadPlaces, Request, Size

__all__ = ["open_folders"]

_SEPARATORS = "_-. "


class _Pair(NamedTuple):
    name: str
    image: Path
    mask: Path


class _Ids(NamedTuple):
    """What a first look at all masks finds."""

    counts: NDArray[np.int64]
    """Masks by id that occurs in them, (65536,)."""
    one_bit: bool
    """Whether all have 1 bit."""
    two_valued: list[str]
    """Names of those that hold 0 and 255 alone."""
    others: bool
    """Whether some hold other values and never 255."""
    both: bool
    """Whether some hold other values and 255."""


def open_folders(request: Request) -> Source:
    """Match images and masks by their names, and find out which classes there are.

    Args:
        request: With ``images`` and ``masks``.

    Returns:
        The source: by the label map where there is one, else by the ids in the masks.

    Raises:
        DataError: Nothing matches, a mask has no image, or a mask cannot be read.
        OSError: A folder cannot be read.
    """
    images, masks = request.images, request.masks
    if images is None or masks is None:
        got = f"only {'--images' if images else '--masks'}" if images or masks else "neither"
        rule, remedy = "needs --images DIR and --masks DIR", "add the other option"
        raise DataError(message("--format folders", rule, got, remedy))
    dropped = Dropped()
    notes: list[str] = []
    pairs = list(_pairs(images, masks, request.skip_missing, dropped, notes))
    if request.labelmap is not None:
        labelmap = read_export_labelmap(request.labelmap)
        items = [_item(pair, labeled_reader(pair.mask, labelmap, notes)) for pair in pairs]
        return labelmap_source("folders", labelmap, tuple(items), dropped, notes)
    ids = _look(pairs, notes)
    classes = _classes(ids, masks, request.class_map, notes)
    place_of = np.zeros(1 << 16, np.uint16)
    for place, old in enumerate(classes):
        place_of[old.id] = place
    items = [_item(pair, partial(_read, pair.mask, place_of)) for pair in pairs]
    nothing = (None,) * len(classes)
    return Source("folders", classes, nothing, tuple(items), dropped, notes, open_ids=True)


def _item(pair: _Pair, read: ReadPlaces) -> Item:
    split, name = split_of(PurePosixPath(pair.name))
    return Item(name, split, pair.image, read)


def _read(mask: Path, place_of: NDArray[np.uint16], _: Size) -> NDArray[np.uint16]:
    found: NDArray[np.uint16] = place_of[read_ids(mask).array]
    return found


def _pairs(
    images: Path, masks: Path, skip_missing: bool, dropped: Dropped, notes: list[str]
) -> Iterator[_Pair]:
    """Yield images with their masks, by the way of matching that finds the most."""
    image_of, mask_of, how = _matched(_index(images), _index(masks))
    if not image_of.keys() & mask_of.keys():
        rule = "masks must be named like the images"
        got = f"{_first(mask_of)} and {_first(image_of)}, none of which match"
        raise DataError(message(f"{images}, {masks}", rule, got, "rename the files"))
    if how:
        notes.append(how)
    for key, mask in mask_of.items():
        if key in image_of:
            yield _Pair(_name(image_of[key], images), image_of[key], mask)
        elif skip_missing:
            dropped.add("masks without an image", mask.name)
        else:
            rule, remedy = "must hold the image of every mask", "add it, or pass --skip-missing"
            raise DataError(message(str(images), rule, f"none for {mask}", remedy))
    for key, image in image_of.items():
        if key not in mask_of:
            dropped.add("images without a mask", image.name)


def _name(image: Path, images: Path) -> str:
    return image.relative_to(images).with_suffix("").as_posix()


def _first(files: Mapping[str, Path]) -> str:
    return next(iter(files.values())).name if files else "no file"


def _index(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their relative path without the ending."""
    found = {}
    for key, paths in picture_index(folder).items():
        if len(paths) > 1:
            got, remedy = ", ".join(path.name for path in paths), "take the others away"
            raise DataError(message(str(folder / key), "must be one file", got, remedy))
        found[key] = paths[0]
    return found


def _matched(
    images: dict[str, Path], masks: dict[str, Path]
) -> tuple[dict[str, Path], dict[str, Path], str]:
    """Return both sides under names that match, and how they were made to."""
    cut_images, cut_masks = _without_ending(images), _without_ending(masks)
    ways = (
        (images, masks, ""),
        (cut_images, cut_masks, _endings(images, masks)),
        (images, cut_masks, _endings({}, masks)),
        (cut_images, masks, _endings(images, {})),
        (_bare(images), _bare(masks), "matched by file name alone, whatever the folder"),
        (_bare(cut_images), _bare(cut_masks), f"{_endings(images, masks)}, whatever the folder"),
        (_bare(images), _bare(cut_masks), f"{_endings({}, masks)}, whatever the folder"),
    )
    # Each side keeps all of its files, or the way does not count.
    whole = [way for way in ways if len(way[0]) == len(images) and len(way[1]) == len(masks)]
    return max(whole, key=lambda way: len(way[0].keys() & way[1].keys()))


def _endings(images: Mapping[str, Path], masks: Mapping[str, Path]) -> str:
    endings = [ending for ending in (_common_ending(images), _common_ending(masks)) if ending]
    return f"matched by name without {' and '.join(endings)}"


def _common_ending(files: Mapping[str, Path]) -> str:
    """Return what all names end with from a separator on, such as ``_mask``."""
    reversed_names = [PurePosixPath(key).name[::-1] for key in files]
    if len(reversed_names) < 2:
        return ""
    first, last = min(reversed_names), max(reversed_names)  # these two differ the most
    same = [a == b for a, b in zip(first, last, strict=False)]
    ending = first[: (*same, False).index(False)][::-1]
    starts = [place for place, char in enumerate(ending) if char in _SEPARATORS]
    return ending[starts[0] :] if starts else ""


def _without_ending(files: dict[str, Path]) -> dict[str, Path]:
    ending = _common_ending(files)
    return {key.removesuffix(ending): path for key, path in files.items()}


def _bare(files: dict[str, Path]) -> dict[str, Path]:
    return {PurePosixPath(key).name: path for key, path in files.items()}


def _look(pairs: Sequence[_Pair], notes: list[str]) -> _Ids:
    """Read all masks once to see which ids occur."""
    counts = np.zeros(1 << 16, np.int64)
    kinds: Counter[str] = Counter()
    two_valued = []
    one_bit = True
    for pair in pairs:
        pixels = read_ids(pair.mask)
        say_transparent(pair.mask, pixels, notes)
        values = np.flatnonzero(np.bincount(pixels.array.ravel(), minlength=1 << 16))
        counts[values] += 1
        one_bit &= pixels.one_bit
        found = set(values.tolist())
        if found == {0, VOID}:
            two_valued.append(pair.mask.name)
        elif found - {0, VOID}:
            kinds["both" if VOID in found else "others"] += 1
    return _Ids(counts, one_bit, two_valued, kinds["others"] > 0, kinds["both"] > 0)


def _classes(ids: _Ids, masks: Path, class_map: ClassMap, notes: list[str]) -> tuple[OldClass, ...]:
    """Name the ids of masks that come without a label map."""
    occurring = [int(id) for id in np.flatnonzero(ids.counts)]
    named = class_map.names_id(VOID)
    if set(occurring) <= {0, 1} and ids.one_bit:
        notes.append("masks of 1 bit: 0 is background, 1 is foreground")
        return (OldClass("background", 0), OldClass("foreground", 1))
    if occurring == [0, VOID]:
        notes.append("masks of 0 and 255 alone: 0 is background, 255 is foreground")
        return (OldClass("background", 0), OldClass("foreground", VOID))
    if ids.two_valued and ids.others and not ids.both and not named:
        rule = f"{VOID} must mean the same in every mask"
        got = f"masks of 0 and {VOID} alone ({ids.two_valued[0]}) beside masks of other values"
        remedy = f"say what it means with --map {VOID}=NAME or {VOID}=void"
        raise DataError(message(str(masks), rule, got, remedy))
    classes = [OldClass(None, id) for id in occurring if named or id != VOID]
    if len(classes) > VOID and not class_map.rules:
        rule, got = f"masks have at most {VOID} ids", f"{len(classes)} ids"
        remedy = "name the ids that are classes with --map 7=road,*=void"
        raise DataError(message(str(masks), rule, got, remedy))
    if not class_map.rules:
        notes.append("the masks hold ids without names; name them with --map 0=NAME,1=NAME,...")
    if VOID in occurring and not named:
        notes.append(f"{VOID} in the masks is void")
        classes.append(OldClass(VOID_NAME, VOID, True))
    return tuple(classes)
