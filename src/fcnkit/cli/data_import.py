"""``fcnkit data import``: what other tools export, as a data set in VOC layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.following import say_next
from fcnkit.cli.options import Json
from fcnkit.cli.say import say
from fcnkit.errors import printable

if TYPE_CHECKING:
    from fcnkit.train.data.importers.importing import ImportReport

__all__ = ["import_data_set"]

_SHOWN = 8
"""Old classes that are named per new class; --json names all."""


@documented
def import_data_set(
    source: Annotated[
        Path | None,
        typer.Argument(help="A folder, a zip file, or a JSON file of COCO.", show_default=False),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("-o", "--out")],
    format: str = "auto",
    images: Path | None = None,
    masks: Path | None = None,
    labelmap: Path | None = None,
    class_map: Annotated[str | None, typer.Option("--map", metavar="OLD=NEW,...")] = None,
    keep: Annotated[str | None, typer.Option(metavar="A,B")] = None,
    copy: Annotated[bool, typer.Option("--copy")] = False,
    skip_missing: Annotated[bool, typer.Option("--skip-missing")] = False,
    crowd: str = "class",
    as_json: Json = False,
) -> None:
    """Make a data set in VOC layout of what an annotation tool exports.

    Reads CVAT, Datumaro, COCO, LabelMe, Cityscapes, ADE20K, or a folder of images and one of masks.

    Options:
        out: Folder to write, new or empty.
        format: voc (CVAT, Datumaro), coco, labelme, cityscapes, ade20k, folders, or auto: what
            SOURCE looks like.
        images: Folder of the images, where SOURCE has no usual one.
        masks: Folder of the masks, named like the images.
        labelmap: A labelmap.txt with names and colors of the classes.
        class_map: Which class becomes which. OLD is an id, a class or * for the rest, NEW a class
            or void. @FILE reads the rules from a file.
        keep: Keep these classes; the others become void.
        copy: Copy images instead of linking.
        skip_missing: Leave out what has labels and no image.
        crowd: What COCO's crowds become: class or void.
    """
    from fcnkit.cli.progress import progress_of
    from fcnkit.runtime.artifacts.classmap import parse_class_map
    from fcnkit.train.data.importers.importing import import_data

    rules = parse_class_map(class_map, keep)
    with progress_of() as advance:
        report = import_data(
            source,
            out,
            format=format,
            images=images,
            masks=masks,
            labelmap=labelmap,
            class_map=rules,
            copy=copy,
            skip_missing=skip_missing,
            crowd=crowd,
            progress=advance,
        )
    if as_json:
        say(json.dumps(report.to_dict(), indent=2))
        return
    for line in _lines(report):
        say(printable(line))
    say_next("data", "check", out)


def _lines(report: ImportReport) -> Iterator[str]:
    """Yield the summary."""
    splits = ", ".join(f"{count} {split}" for split, count in report.splits.items())
    yield f"{report.root}: {splits} images, read as {report.format}"
    yield f"images: {', '.join(f'{count} {how}' for how, count in report.placed.items())}"
    for name, olds in report.classes.items():
        pixels = sum(old.pixels for old in olds)
        names = list(dict.fromkeys(map(str, olds)))
        shown = ", ".join(names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        same = names in ([], [name])
        yield f"{name}: {pixels} pixels{'' if same else f' of {shown}{more}'}"
    for line in report.left_out:
        yield f"left out: {line}"
    for note in report.notes:
        yield f"note: {note}"
