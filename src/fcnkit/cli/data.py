"""``fcnkit data``: make, fetch, import, divide, check and show data sets in Pascal VOC layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnkit.cli.data_import import import_data_set
from fcnkit.cli.data_show import show_data_set
from fcnkit.cli.data_split import split_data_set
from fcnkit.cli.following import say_next
from fcnkit.cli.options import PictureBands, ValueRange, VocDir, parse_bands, parse_levels
from fcnkit.cli.say import say

if TYPE_CHECKING:
    from rich.console import Console

    from fcnkit.train.data.check import DeepValues, FolderReport, SplitReport

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make, import, divide, check and show data sets.")
app.command("import")(import_data_set)
app.command("split")(split_data_set)
app.command("show")(show_data_set)

_SHOWN = 20
"""Problems of a split that are printed; --json lists all."""


@app.command()
def shapes(
    out: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    train: Annotated[int, typer.Option(help="Pictures to train on.", min=1)] = 240,
    val: Annotated[int, typer.Option(help="Pictures to validate on.", min=1)] = 48,
    test: Annotated[int, typer.Option(help="Pictures to test on.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Which pictures.", min=0)] = 0,
) -> None:
    """Make a small data set of shapes; the same seed gives the same bytes."""
    from fcnkit.cli.progress import progress_of
    from fcnkit.train.data.shapes import write_shapes

    with progress_of() as advance:
        written = write_shapes(
            out,
            train=train,
            val=val,
            test=test,
            seed=seed,
            progress=lambda done, total: advance("draw", done, total),
        )
    counts = f"{train} train, {val} val" + (f", {test} test" if test else "")
    say(f"{out}: {counts} pictures{'' if written else ', already there'}")
    say_next("train", out, "-o", "run")


@app.command()
def voc2012(out: Annotated[Path, typer.Argument(help="Folder that gets VOCdevkit/.")]) -> None:
    """Download and unpack Pascal VOC 2012 (2 GB); an interrupted download resumes."""
    from fcnkit.cli.progress import progress_of
    from fcnkit.train.data.download import download_voc2012

    with progress_of(in_bytes=True) as advance:
        folder = download_voc2012(out, progress=advance)
    say(str(folder))
    say_next("train", folder, "-o", "run")


@app.command()
def check(
    folder: VocDir,
    value_range: ValueRange = None,
    bands: PictureBands = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 1 on warnings too.")
    ] = False,
) -> None:
    """Read every picture and mask, count the classes, list what is wrong (then exit code 1).

    Warnings name what can be read but would make training meaningless.
    """
    from rich.console import Console

    from fcnkit.cli.progress import progress_of
    from fcnkit.train.data.check import check_folder

    with progress_of() as advance:
        report = check_folder(
            folder,
            range=parse_levels(value_range, "--range"),
            bands=parse_bands(bands),
            progress=lambda done, total: advance("check", done, total),
        )
    if as_json:
        say(json.dumps(report.to_dict(), indent=2))
    else:
        _print_report(report, Console())
    if not report.ok or (strict and report.warnings):
        raise typer.Exit(1)
    if not as_json and {"train", "val"} <= {split.split for split in report.splits}:
        say_next("train", folder, "-o", "run")


def _print_report(report: FolderReport, console: Console) -> None:
    for split in report.splits:
        _say(console, f"{split.split}: {split.pictures} pictures{_sizes(split)}")
        if console.is_terminal:
            _print_table(report, split, console)
        else:
            for name, pixels, share in _rows(report, split):
                _say(console, f"{split.split}: {name} {pixels} pixels {share}".rstrip())
        if split.deep is not None:
            _say(console, f"{split.split}: {_deep_text(split.deep)}")
        for problem in split.problems[:_SHOWN]:
            _say(console, f"{split.split}: {problem.kind}: {problem.text}")
        if len(split.problems) > _SHOWN:
            rest = len(split.problems) - _SHOWN
            _say(console, f"{split.split}: and {rest} more problems; --json lists all")
    if report.leaked:
        shown = ", ".join(report.leaked[:3]) + (", ..." if len(report.leaked) > 3 else "")
        _say(console, f"train and val share {len(report.leaked)} names: {shown}")
    for remark in report.notes:
        _say(console, f"note: {remark.text}")
    for remark in report.warnings:
        _say(console, f"warning: {remark.text}")
    problems = sum(len(split.problems) for split in report.splits) + bool(report.leaked)
    found = {"problems": problems, "warnings": len(report.warnings)}
    _say(console, ", ".join(f"{kind}: {count}" for kind, count in found.items() if count) or "ok")


def _deep_text(deep: DeepValues) -> str:
    """Say which values the pictures of more than 8 bits have."""
    low, high = deep.used
    return (
        f"{deep.pictures} pictures of more than 8 bits, values {deep.low}..{deep.high}, "
        f"read as {low}..{high}, {deep.outside} values outside"
    )


def _say(console: Console, line: str) -> None:
    # File names may hold brackets, which rich would take for markup.
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _sizes(split: SplitReport) -> str:
    if split.smallest is None or split.largest is None:
        return ""
    (low_h, low_w), (high_h, high_w) = split.smallest, split.largest
    return f", heights {low_h}..{high_h}, widths {low_w}..{high_w}"


def _rows(report: FolderReport, split: SplitReport) -> list[tuple[str, str, str]]:
    """Return (name, pixels, share) of every class, then of void and of what is unknown."""
    counted = zip(report.labelmap.classes, split.pixels, split.shares, strict=True)
    rows = [(name, str(pixels), f"{share:.2%}") for name, pixels, share in counted]
    rows.append(("void", str(split.void), ""))
    rows += [(f"unknown {value}", str(pixels), "") for value, pixels in split.unknown.items()]
    return rows


def _print_table(report: FolderReport, split: SplitReport, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("class", "pixels", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, pixels, share in _rows(report, split):
        table.add_row(escape(name), pixels, share)
    console.print(table)
