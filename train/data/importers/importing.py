"""Writes a source of any format as a data set in VOC layout."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadValueError, DataError, message
from fcnkit.runtime.artifacts.classmap import VOID_NAME, ClassMap, Mapped, OldClass
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.checks import check_choice
from fcnkit.train.data.beside import new_folder
from fcnkit.train.data.importers.archive import unpack_zip
from fcnkit.train.data.importers.formats import FORMATS, open_source
from fcnkit.train.data.importers.links import Placer
from fcnkit.train.data.importers.naming import flat_names
from fcnkit.train.data.importers.source import Item, Request, Source, subfolder
from fcnkit.train.data.importers.turning import fitted_places
from fcnkit.train.data.labelmap import (
    LabelMap,
    choose_colors,
    is_class_name,
    write_labelmap,
)
from fcnkit.train.data.masks import mask_picture
from fcnkit.train.data.split import write_lists
from fcnkit.train.data.stratify import RATIOS, Ratios, deal
from fcnkit.train.data.voc import IMAGES, LABELMAP, MASKS

__all__ = ["RECORD", "ImportReport", "OldPixels", "import_data"]

RECORD: Final = "fcnkit-import.json"
"""Says in a data set what it was made from."""
_FORMAT: Final = 1
_REST: Final = "other"
"""The list of images that a source with lists puts on none."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class OldPixels:
    """A class of the source and how much of it there is."""

    name: str | None
    id: int | None
    pixels: int

    def __str__(self) -> str:
        return self.name if self.name is not None else str(self.id)


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote and what it left out."""

    root: Path
    format: str
    splits: dict[str, int]
    """Number of images by list."""
    classes: dict[str, tuple[OldPixels, ...]]
    """By new class the old ones it was made from; the last entry is void."""
    placed: dict[str, int]
    """Number of images by how they came into the data set: hard links, copies and so on."""
    left_out: tuple[str, ...]
    """A line per reason."""
    notes: tuple[str, ...]
    """What was assumed."""
    images: dict[str, str] = field(repr=False)
    """The source of every image, by its name in the data set."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON data, without the images."""
        return {
            "root": str(self.root),
            "format": self.format,
            "splits": self.splits,
            "classes": {name: [vars(old) for old in olds] for name, olds in self.classes.items()},
            "placed": self.placed,
            "left_out": list(self.left_out),
            "notes": list(self.notes),
        }


def import_data(
    source: Path | None,
    out: Path,
    *,
    format: str = "auto",
    images: Path | None = None,
    masks: Path | None = None,
    labelmap: Path | None = None,
    class_map: ClassMap | None = None,
    copy: bool = False,
    skip_missing: bool = False,
    crowd: str = "class",
    progress: Progress | None = None,
) -> ImportReport:
    """Make a data set in VOC layout of an export of another tool.

    Images are linked where the system allows it, masks are written anew. Where the source has no
    lists for training and validation, the images are divided 70/10/20 as ``split_folder`` does.
    The folder appears when all of it is written.

    Args:
        source: A folder, a zip file, or a JSON file of COCO; may be None where images and masks
            are given.
        out: The folder to write, new or empty.
        format: ``voc`` (CVAT, Datumaro), ``coco``, ``labelme``, ``cityscapes``, ``ade20k``,
            ``folders``, or ``auto`` to find out.
        images: The folder of the images, where it is not the usual one; below source or not.
        masks: The folder of the masks, for ``folders``.
        labelmap: A ``labelmap.txt`` with the names and colors of the classes.
        class_map: Which class becomes which.
        copy: Copy images, and do not link them.
        skip_missing: Leave out what has no image, instead of refusing the source.
        crowd: What COCO's crowds become: their ``class`` or ``void``.
        progress: Called with "unpack" or "import", what is done and the number of all.

    Returns:
        What was written.

    Raises:
        MissingExtraError: The format needs a package that is not installed.
        ValueError: An argument is wrong, or class_map does not fit the classes.
        DataError: The source is malformed, incomplete or of no known format, or out holds
            something.
        OSError: A file cannot be read or written.
    """
    check_choice("--format", format, ("auto", *FORMATS))
    check_choice("--crowd", crowd, ("class", "void"))
    class_map = class_map or ClassMap()
    report = progress or _silent
    with new_folder(out) as partial:
        work = partial / "work"
        work.mkdir()
        root, file = _root(source, images, masks, work / "zip", report)
        request = Request(
            root=root,
            file=file,
            images=subfolder(root, images, "--images"),
            masks=subfolder(root, masks, "--masks"),
            labelmap=labelmap,
            class_map=class_map,
            skip_missing=skip_missing,
            crowd_is_void=crowd == "void",
            work=work,
        )
        opened = open_source(request, format)
        made = _Writer(partial, root, opened, class_map, copy=copy).run(report)
        found = made.report(out)
        shutil.rmtree(work)
        _write_record(partial / RECORD, found, source or root)
    return found


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def _root(
    source: Path | None, images: Path | None, masks: Path | None, unpacked: Path, report: Progress
) -> tuple[Path, Path | None]:
    """Return the folder of a source, and its file where it is one that is not unpacked."""
    if source is None:
        if images is None or masks is None:
            rule, remedy = "must be given", "pass a folder or file, or --images and --masks"
            raise BadValueError(message("SOURCE", rule, "nothing", remedy))
        return Path(), None
    if source.is_dir():
        return source, None
    if not source.is_file():
        got = "no regular file" if source.exists() else "no such file or folder"
        rule, remedy = "must be a folder, a zip file or a JSON file", "check the path"
        raise DataError(message(str(source), rule, got, remedy))
    if zipfile.is_zipfile(source):
        unpacked.mkdir()
        unpack_zip(source, unpacked, report)
        return unpacked, None
    if source.suffix.lower() != ".json":
        rule, remedy = "must be a folder, a zip file or a JSON file", "export it again"
        raise DataError(message(str(source), rule, "another file", remedy))
    folder = source.parent
    return (folder.parent if folder.name == "annotations" else folder), source


class _Writer:
    """Writes one data set."""

    def __init__(
        self, folder: Path, root: Path, source: Source, class_map: ClassMap, *, copy: bool
    ) -> None:
        self._folder, self._root, self._source = folder, root, source
        self._mapped = class_map.resolve(source.classes, open_ids=source.open_ids)
        self._labelmap = _new_labelmap(source, self._mapped)
        self._table = np.array(self._mapped.labels, np.uint8)
        self._pixels = np.zeros(len(source.classes), np.int64)
        self._placed: Counter[str] = Counter()
        self._placer = Placer(folder / IMAGES, copy=copy, unpacked=(folder / "work").resolve())
        self._kept: list[tuple[str, Item, frozenset[int]]] = []
        self._notes: list[str] = []
        self._turned = 0
        self._splits: dict[str, list[str]] = {}

    def run(self, report: Progress) -> _Writer:
        """Write the images, masks, lists and the label map."""
        items = self._source.items
        _check_once(items)
        (self._folder / IMAGES).mkdir()
        (self._folder / MASKS).mkdir()
        for number, (item, name) in enumerate(zip(items, flat_names(items), strict=True), start=1):
            self._add(item, name)
            report("import", number, len(items))
        if not self._kept:
            rule, remedy = "some image must have a labeled pixel", "keep or map other classes"
            raise DataError(message("import", rule, "none", remedy))
        write_labelmap(self._folder / LABELMAP, self._labelmap)
        self._splits = self._lists()
        write_lists(self._folder, self._splits)
        return self

    def _add(self, item: Item, name: str) -> None:
        """Write one image and its mask, unless nothing in it is labeled."""
        placed, how = self._placer.place(item.image, name)
        places_hw, size, turned = fitted_places(item, placed)
        if places_hw.shape != size:
            rule = f"a mask has the size of its image, {size[0]}x{size[1]}"
            got = f"{places_hw.shape[0]}x{places_hw.shape[1]}"
            raise DataError(message(str(item.image), rule, got, "make the mask again"))
        counts = np.bincount(places_hw.ravel(), minlength=len(self._pixels))
        labels_hw: NDArray[np.uint8] = self._table[places_hw]
        labels = frozenset(np.unique(self._table[np.flatnonzero(counts)]).tolist()) - {VOID}
        if not labels:
            placed.unlink()
            self._source.dropped.add("images without a labeled pixel", item.name)
            return
        self._turned += turned
        self._pixels += counts
        self._placed[how] += 1
        mask_picture(labels_hw, self._labelmap).save(self._folder / MASKS / f"{name}.png")
        self._kept.append((name, item, labels))

    def _lists(self) -> dict[str, list[str]]:
        """Return the names by list: the source's, or new ones where it has not train and val."""
        splits = [item.split for _, item, _ in self._kept]
        if {"train", "val"} <= set(splits):
            chosen = [split or _REST for split in splits]
            if rest := splits.count(""):
                self._notes.append(f"{rest} images are on no list of the source: {_REST}.txt")
        else:
            chosen = self._deal(splits)
        lists: dict[str, list[str]] = {}
        for (name, _, _), split in zip(self._kept, chosen, strict=True):
            lists.setdefault(split, []).append(name)
        order = ("train", "val", "test")
        ordered = sorted(lists, key=lambda s: (order.index(s) if s in order else 3, s))
        return {split: lists[split] for split in ordered}

    def _deal(self, splits: Sequence[str]) -> list[str]:
        """Divide all images but those for testing, if there are any."""
        tested = "test" in splits and set(splits) != {"test"}
        ratios = Ratios(70, 10, 0) if tested else RATIOS
        free = [n for n, split in enumerate(splits) if not (tested and split == "test")]
        presence = [self._kept[n][2] for n in free]
        chosen = list(splits)
        for n, split in zip(free, deal(presence, free, ratios, 0), strict=True):
            chosen[n] = split
        shares = "/".join(f"{share:g}" for share in ratios if share)
        self._notes.append(
            f"no lists train and val in the source: images were divided {shares}; if they are "
            "frames of videos, keep each together with fcnkit data split --force --group REGEX"
        )
        if "val" not in chosen:
            self._notes.append("too few images for val.txt, which training needs")
        return chosen

    def _origin(self, image: Path) -> str:
        """Return an image's path in the source, or its full path where it lies elsewhere."""
        inside = image.is_relative_to(self._root)
        return image.relative_to(self._root).as_posix() if inside else str(image)

    def report(self, out: Path) -> ImportReport:
        """Say what was written."""
        olds = [
            OldPixels(old.name, old.id, int(pixels))
            for old, pixels in zip(self._source.classes, self._pixels, strict=True)
        ]
        made = {
            name: tuple(
                old for old, to in zip(olds, self._mapped.labels, strict=True) if to == label
            )
            for label, name in enumerate(self._mapped.classes)
        }
        made[VOID_NAME] = tuple(
            old for old, to in zip(olds, self._mapped.labels, strict=True) if to == VOID
        )
        unused = [f"id {id} does not occur" for id in self._mapped.unused]
        renamed = sum(name != item.name for name, item, _ in self._kept)
        names = [f"{renamed} names changed: see {RECORD}"] if renamed else []
        if self._turned:
            text = "masks were turned as EXIF turns their images: they had the size before"
            names.append(f"{self._turned} {text}")
        return ImportReport(
            root=out,
            format=self._source.format,
            splits={split: len(listed) for split, listed in self._splits.items()},
            classes=made,
            placed=dict(self._placed),
            left_out=tuple(self._source.dropped.lines()),
            notes=(*self._source.notes, *unused, *names, *self._notes),
            images={name: self._origin(item.image) for name, item, _ in self._kept},
        )


def _check_once(items: Sequence[Item]) -> None:
    """Refuse a source that labels one image twice."""
    seen: dict[Path, str] = {}
    for item in items:
        real = item.image.resolve()
        if real in seen:
            rule, got = "an image is labeled once", f"{item.name} twice"
            if seen[real] != item.split:
                got = f"{item.name} in {seen[real] or 'no list'} and {item.split or 'no list'}"
            raise DataError(message(str(item.image), rule, got, "take it off one list"))
        seen[real] = item.split


def _new_labelmap(source: Source, mapped: Mapped) -> LabelMap:
    """Return the names and colors of the new classes."""
    for name in mapped.classes:
        if not is_class_name(name):
            rule = "a class of labelmap.txt has no colon, no # in front and no blanks around it"
            remedy = f"give it another name with --map '\"{name}\"=NAME'"
            raise DataError(message("class", rule, repr(name), remedy))
    wanted = [_color(source, mapped, label) for label in range(len(mapped.classes))]
    if mapped.classes[0].casefold() == "background" and wanted[0] is None:
        wanted[0] = (0, 0, 0)
    colors = choose_colors(wanted)
    return LabelMap(mapped.classes, colors.palette, colors.void_color)


def _color(source: Source, mapped: Mapped, label: int) -> tuple[int, int, int] | None:
    """Return the color of the old class of the same name, else of the first that became it."""
    olds: list[tuple[OldClass, tuple[int, int, int] | None]] = [
        (old, color)
        for old, color, to in zip(source.classes, source.colors, mapped.labels, strict=True)
        if to == label
    ]
    olds.sort(key=lambda pair: pair[0].name != mapped.classes[label])
    return olds[0][1]


def _write_record(path: Path, report: ImportReport, source: Path) -> None:
    record = {"format_version": _FORMAT, "source": str(source), **report.to_dict()}
    del record["root"]
    record["images"] = report.images
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
