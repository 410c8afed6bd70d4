"""The formats that can be imported, and which of them a folder is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from fcnkit.errors import BadValueError, DataError, message
from fcnkit.train.data.importers.from_ade20k import is_ade20k, open_ade20k
from fcnkit.train.data.importers.from_cityscapes import is_cityscapes, open_cityscapes
from fcnkit.train.data.importers.from_coco import is_coco, is_coco_file, open_coco
from fcnkit.train.data.importers.from_folders import open_folders
from fcnkit.train.data.importers.from_labelme import is_labelme, open_labelme
from fcnkit.train.data.importers.from_voc import is_voc, open_voc_export
from fcnkit.train.data.importers.json_file import load_json
from fcnkit.train.data.importers.source import Request, Source

__all__ = ["FORMATS", "open_source"]


class _Format(NamedTuple):
    fits: Callable[[Path], bool]
    """Whether a folder looks like it."""
    open: Callable[[Request], Source]
    looks: str
    """How to tell it, for an error."""
    takes: tuple[str, ...] = ()
    """The options that not every format takes."""


FORMATS: Final = {
    "voc": _Format(is_voc, open_voc_export, "SegmentationClass/ (CVAT, Datumaro)", ("--labelmap",)),
    "coco": _Format(is_coco, open_coco, "annotations/*.json", ("--crowd",)),
    "labelme": _Format(is_labelme, open_labelme, "JSON files with shapes"),
    "cityscapes": _Format(is_cityscapes, open_cityscapes, "gtFine/**/*_gtFine_labelIds.png"),
    "ade20k": _Format(
        is_ade20k, open_ade20k, "images/training/ and annotations/training/", ("--labelmap",)
    ),
    "folders": _Format(
        lambda _: False, open_folders, "--images DIR and --masks DIR", ("--masks", "--labelmap")
    ),
}
"""One row per format."""

_DEEPEST = 8


def open_source(request: Request, format: str) -> Source:
    """Open a source with the reader of its format.

    Args:
        request: Where it is. The folder may lie in folders that hold nothing else.
        format: A key of FORMATS, or ``auto``.

    Returns:
        The source.

    Raises:
        MissingExtraError: The format needs a package that is not installed.
        ValueError: An option does not fit the format.
        DataError: The folder fits no format or several, or the reader refuses it.
        OSError: A file cannot be read.
    """
    if format == "auto" and request.masks is not None:
        format = "folders"
    if request.file is not None:
        if format == "auto" and is_coco_file(load_json(request.file)):
            format = "coco"
        if format != "coco":
            rule, remedy = "one file is a zip file, or a JSON file of COCO", "pass the folder"
            raise DataError(message(str(request.file), rule, "another file", remedy))
    elif format != "folders":
        request, format = _detect(request, format)
    _check_options(request, format)
    source = FORMATS[format].open(request)
    if not source.items:
        left_out = "; ".join(source.dropped.lines()) or "nothing"
        rule, remedy = "must hold an image with labels", "check the path"
        raise DataError(message(str(request.root), rule, left_out, remedy))
    return source


def _check_options(request: Request, format: str) -> None:
    """Refuse an option that the format would ignore."""
    given = {
        "--masks": request.masks is not None,
        "--labelmap": request.labelmap is not None,
        "--crowd": request.crowd_is_void,
    }
    for option, is_given in given.items():
        if is_given and option not in FORMATS[format].takes:
            takers = ", ".join(name for name, row in FORMATS.items() if option in row.takes)
            remedy = "drop it, or choose another --format"
            raise BadValueError(message(option, f"is for the formats {takers}", format, remedy))


def _detect(request: Request, format: str) -> tuple[Request, str]:
    """Find the folder that is in a format, and the format."""
    wanted = FORMATS if format == "auto" else {format: FORMATS[format]}
    root = request.root
    for _ in range(_DEEPEST):
        found = [name for name, row in wanted.items() if row.fits(root)]
        if len(found) > 1:
            got, remedy = " and ".join(found), f"choose one with --format {found[0]}"
            raise DataError(message(str(root), "must be in one format", got, remedy))
        if found:
            return replace(request, root=root), found[0]
        visible = [path for path in root.iterdir() if not path.name.startswith(".")]
        if len(visible) != 1 or not visible[0].is_dir():
            break
        root = visible[0]
    if format != "auto":
        got = f"no {FORMATS[format].looks}"
        raise DataError(message(str(root), f"must look like {format}", got, "check the path"))
    looks = "; ".join(f"{name}: {row.looks}" for name, row in FORMATS.items())
    rule, remedy = f"must be in one of these formats ({looks})", "check the path"
    raise DataError(message(str(root), rule, "something else", remedy))
