"""CVAT and Datumaro: ``Segmentation mask 1.1`` and other exports in the layout of Pascal VOC.

Unlike fcnkit's own data sets they have sub-folders, lists of any name (``default.txt``), masks in
the colors of ``labelmap.txt`` with its lines in any order, and sometimes no images.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.classmap import VOID_NAME, OldClass
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train.data.importers.pixels import read_labels
from fcnkit.train.data.importers.source import (
    Dropped,
    Item,
    Place,
    Source,
    below,
    picture_index,
    split_name,
)
from fcnkit.train.data.labelmap import read_export_labelmap, read_lines, voc_labelmap
from fcnkit.train.data.voc import IMAGES, LABELMAP, LISTS, MASKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fcnkit.train.data.importers.source import ReadPlaces, Request, Size
    from fcnkit.train.data.labelmap import LabelMap

__all__ = ["is_voc", "labelmap_source", "open_voc_export"]


def is_voc(root: Path) -> bool:
    """Whether a folder is in the layout of Pascal VOC."""
    return (root / MASKS).is_dir()


def open_voc_export(request: Request) -> Source:
    """Read the lists and the label map of an export in VOC layout.

    Args:
        request: Whose root holds ``SegmentationClass``.

    Returns:
        The source.

    Raises:
        DataError: A list or the label map is malformed, a listed name leads out of the folder, is
            in two splits, or has no image or no mask.
        OSError: A file cannot be read.
    """
    root, dropped, notes = request.root, Dropped(), []
    if request.labelmap is not None or (root / LABELMAP).exists():
        labelmap = read_export_labelmap(request.labelmap or root / LABELMAP)
    else:
        labelmap = voc_labelmap()
        notes.append(f"no {LABELMAP}: the 21 classes of Pascal VOC are assumed")
    images_at = request.images or _images(root)
    images = picture_index(images_at)
    masks = picture_index(root / MASKS)
    listed = _listed(root) if (root / LISTS).is_dir() else {}
    if not listed:
        listed = dict.fromkeys(masks, "")
        notes.append(f"no lists in {LISTS}: every mask is taken")
    items = []
    for name, split in listed.items():
        mask = _one(masks, name, f"{root / MASKS}", "a mask")
        image = None if mask is None else _one(images, name, f"{images_at}")
        if mask is None:
            dropped.add("listed names without a mask", name)
        elif image is None:
            _missing(images_at, name, request, dropped)
        else:
            items.append(Item(name, split, image, labeled_reader(mask, labelmap, notes)))
    for kind, index in (("images", images), ("masks", masks)):
        for name in sorted(index.keys() - listed.keys()):
            dropped.add(f"{kind} that no list names", name)
    return labelmap_source("voc", labelmap, tuple(items), dropped, notes)


def labelmap_source(
    format: str, labelmap: LabelMap, items: tuple[Item, ...], dropped: Dropped, notes: list[str]
) -> Source:
    """Return a source whose masks are read by a label map: its classes, and 255 for void."""
    void = [name.casefold() == VOID_NAME for name in labelmap.classes]
    classes = [OldClass(name, label, void[label]) for label, name in enumerate(labelmap.classes)]
    return Source(
        format=format,
        classes=(*classes, OldClass(VOID_NAME, VOID, True)),
        colors=(*labelmap.palette, None),
        items=items,
        dropped=dropped,
        notes=notes,
    )


def labeled_reader(mask: Path, labelmap: LabelMap, notes: list[str]) -> ReadPlaces:
    """Return what reads a mask by a label map, whatever the image's size."""
    return partial(_read, mask, labelmap, notes)


def _read(mask: Path, labelmap: LabelMap, notes: list[str], _: Size) -> NDArray[np.uint16]:
    return read_labels(mask, labelmap, notes)


def _images(root: Path) -> Path:
    folder = root / IMAGES
    if folder.is_dir():
        return folder
    rule, remedy = f"must hold {IMAGES}/", "export with images, or pass --images DIR"
    raise DataError(message(str(root), rule, "no such folder", remedy))


def _listed(root: Path) -> dict[str, str]:
    """Return the split of every listed name; a name of train, val or test needs no other list."""
    found: dict[str, Place] = {}
    for path in sorted((root / LISTS).glob("*.txt")):
        split = split_name(path.stem)
        for number, line in enumerate(read_lines(path), start=1):
            name = line[1:-1] if len(line) > 1 and line[0] == line[-1] == '"' else line
            if not name:
                continue
            where = f"{path}:{number}"
            remedy = f"write the path below {IMAGES}"
            inside = below(root, name, where, remedy).relative_to(root).as_posix()
            other = found.get(inside)
            if other is None or not _is_split(other.split):
                found[inside] = Place(split, where)
            elif _is_split(split) and split != other.split:
                rule, got = "a name is in one of train, val and test", f"{name} in {other.name} too"
                raise DataError(message(where, rule, got, "take it off one list"))
    return {name: place.split for name, place in found.items()}


def _is_split(split: str) -> bool:
    return split in ("train", "val", "test")


def _one(index: dict[str, list[Path]], name: str, what: str, kind: str = "an image") -> Path | None:
    """Return the file of a name, None where there is none."""
    paths = index.get(name, [])
    if len(paths) < 2:
        return paths[0] if paths else None
    got, remedy = ", ".join(path.name for path in paths), "take the others away"
    raise DataError(message(f"{what}/{name}", f"must be {kind} in one file", got, remedy))


def _missing(folder: Path, name: str, request: Request, dropped: Dropped) -> None:
    """Refuse a mask without its image, or count it."""
    if not request.skip_missing:
        rule, remedy = "must hold the image of every mask", "add it, or pass --skip-missing"
        raise DataError(message(str(folder), rule, f"none for {name}", remedy))
    dropped.add("masks without an image", name)
