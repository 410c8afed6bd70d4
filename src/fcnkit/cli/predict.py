"""``fcnkit predict``: label PNGs for files, folders and patterns."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcnkit.cli.common import Backend, Json, Threads, echo_json, open_segmenter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fcnkit.runtime.folder import Record


def predict(
    model: Annotated[str, typer.Argument(help="An ONNX file that fcnkit exported.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Pictures, folders, glob patterns.")
    ],
    *,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder for the results.")],
    format: Annotated[
        str, typer.Option("--format", help="labels (palette PNG), color (RGB) or overlay.")
    ] = "labels",
    cover: Annotated[
        str | None, typer.Option("--cover", help="average or pad; average where the head can.")
    ] = None,
    backend: Backend = "auto",
    threads: Threads = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first picture that fails.")
    ] = False,
    max_pixels: Annotated[
        int | None, typer.Option("--max-pixels", help="Refuse larger pictures; 89478485.")
    ] = None,
    json: Json = False,
) -> None:
    """Label every pixel of pictures and write one PNG each, of the picture's size."""
    from PIL import Image

    from fcnkit.runtime.folder import MANIFEST, find_jobs, predict_files
    from fcnkit.runtime.onnx_file import file_sha256
    from fcnkit.runtime.pictures import MAX_PIXELS

    # This process reads pictures only through read_picture, whose own limit takes the place of
    # Pillow's, which could not be raised.
    Image.MAX_IMAGE_PIXELS = None
    jobs = find_jobs(inputs, out)
    with open_segmenter(model, backend=backend, threads=threads, cover=cover) as segmenter:
        records = predict_files(
            segmenter,
            jobs,
            out,
            model_sha256=file_sha256(model),
            format=format,
            fail_fast=fail_fast,
            max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
        )
        start = time.perf_counter()
        done, failed = _consume(records, len(jobs))
        seconds = time.perf_counter() - start
    summary = {
        "found": len(jobs),
        "done": done,
        "failed": failed,
        "seconds": round(seconds, 3),
        "images_per_second": round(done / seconds, 3),
        "out": out,
        "manifest": f"{out.rstrip('/')}/{MANIFEST}",
        "cover": segmenter.cover,
        "backend": segmenter.backend.name,
        **segmenter.backend.details,
    }
    _report(summary, json=json)
    if done < len(jobs):
        raise typer.Exit(1)


def _consume(records: Iterable[Record], total: int) -> tuple[int, int]:
    """Do the work, showing progress; return how many pictures are done and how many failed."""
    done = failed = 0
    with _progress(total) as (advance, say):
        for record in records:
            if record.status == "done":
                done += 1
            else:
                failed += 1
                say(f"failed: {record.error}")
            advance()
    return done, failed


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[], None], Callable[[str], None]]]:
    """Yield functions to count a picture and to say a line: a bar on a terminal, else lines."""
    if not sys.stderr.isatty():
        yield _line_counter(total), _say
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(TextColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.1f} images/s")

    columns = (BarColumn(), MofNCompleteColumn(), Speed(""), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("predict", total=total)
        yield lambda: bar.advance(task), lambda line: bar.console.print(line, markup=False)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _line_counter(total: int) -> Callable[[], None]:
    """Return a counter that says a line every five seconds."""
    start = last = time.monotonic()
    count = 0

    def advance() -> None:
        nonlocal count, last
        count += 1
        now = time.monotonic()
        if now - last >= 5:
            last = now
            _say(f"{count}/{total} pictures, {count / (now - start):.1f} images/s")

    return advance


def _report(summary: dict[str, Any], *, json: bool) -> None:
    if json:
        echo_json(summary)
        return
    skipped = summary["found"] - summary["done"] - summary["failed"]
    left = f", {skipped} not tried" if skipped else ""
    typer.echo(
        f"{summary['done']} done, {summary['failed']} failed{left} "
        f"in {summary['seconds']:.1f} s ({summary['images_per_second']:.1f} images/s) "
        f"with {summary['library']} {summary['provider']}; see {summary['manifest']}"
    )
