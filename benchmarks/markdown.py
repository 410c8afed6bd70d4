"""Tables of the documentation: as Markdown in a page, or as CSV beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Place", "checked_runs", "csv_text", "put_between", "table", "write_rows"]


class Place(NamedTuple):
    """Where a page has a summary, and which file beside it has the rows."""

    csv_name: str
    begin: str
    """The line before the summary."""
    end: str
    """The line after it."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def csv_text(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows with the same keys as CSV, with the keys as its first line."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def put_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what a page holds between two of its lines."""
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(f"{begin}\n")
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise SystemExit(f"{page} must hold the lines {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def checked_runs(folder: Path, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the finished runs of a folder, of which there must be some."""
    if not runs:
        raise SystemExit(f"{folder} must hold finished runs, got none; leave --table out")
    return runs


def write_rows(
    rows: Sequence[Mapping[str, str]],
    summary: str,
    page: Path | None,
    place: Place,
) -> None:
    """Write rows as CSV beside a page and their summary into it; without a page, print both."""
    text = csv_text(rows)
    if page is None:
        print(text)
        print(summary)
        return
    page.with_name(place.csv_name).write_text(text, encoding="utf-8")
    put_between(page, place.begin, place.end, summary)
