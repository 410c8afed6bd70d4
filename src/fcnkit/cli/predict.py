"""``fcnkit predict``: label PNGs for files, folders and patterns."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fcnkit.cli.options import Backend, Json, Threads

if TYPE_CHECKING:
    from fcnkit.runtime import Cover
    from fcnkit.runtime.folder import Record
    from fcnkit.runtime.pictures import Format

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(help="best.pt, or a model that was exported.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Pictures, folders, glob patterns.")
    ],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    format: Annotated[
        str, typer.Option(help="labels (palette PNG), color (RGB) or overlay.")
    ] = "labels",
    cover: Annotated[
        str | None, typer.Option(help="average or pad; by default average where the head can.")
    ] = None,
    backend: Backend = "auto",
    threads: Threads = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first picture that fails.")
    ] = False,
    max_pixels: Annotated[
        int | None, typer.Option(help="Refuse larger pictures; 89478485 by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Label every pixel of pictures and write one PNG each, of the picture's size."""
    from PIL import Image

    import fcnkit
    from fcnkit.runtime.files import sha256_of
    from fcnkit.runtime.folder import MANIFEST, find_jobs, predict_files
    from fcnkit.runtime.pictures import MAX_PIXELS

    # This process reads pictures only through read_picture, whose own limit takes the place of
    # Pillow's, which no option could raise.
    Image.MAX_IMAGE_PIXELS = None
    jobs = find_jobs(inputs, out)
    opened = fcnkit.load(model, backend=backend, threads=threads, cover=cast("Cover | None", cover))
    with opened as segmenter:
        records = predict_files(
            segmenter,
            jobs,
            out,
            model_sha256=sha256_of(model),
            format=cast("Format", format),
            fail_fast=fail_fast,
            max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
        )
        start = time.perf_counter()
        # Closed whatever happens: an interrupt leaves whole files and a manifest that lists them.
        with closing(records):
            done, failed = _consume(records, len(jobs))
        seconds = time.perf_counter() - start
        summary = {
            "found": len(jobs),
            "done": done,
            "failed": failed,
            "seconds": round(seconds, 3),
            "images_per_second": round(done / seconds, 3),
            "manifest": str(out / MANIFEST),
            "format": format,
            "cover": segmenter.cover,
            "backend": segmenter.backend.name,
            **segmenter.backend.details,
        }
    typer.echo(json.dumps(summary) if as_json else _sentence(summary))
    if done < len(jobs):
        raise typer.Exit(1)


def _consume(records: Iterable[Record], total: int) -> tuple[int, int]:
    """Do the work, showing progress; return how many pictures are done and how many failed."""
    from fcnkit.cli.progress import progress_of

    done = failed = 0
    with progress_of() as advance:
        for record in records:
            if record.status == "done":
                done += 1
            else:
                failed += 1
                typer.echo(f"failed: {record.error}", err=True)
            advance("predict", done + failed, total)
    return done, failed


def _sentence(summary: dict[str, Any]) -> str:
    untried = summary["found"] - summary["done"] - summary["failed"]
    rest = f", {untried} not tried" if untried else ""
    return (
        f"{summary['done']} done, {summary['failed']} failed{rest} "
        f"in {summary['seconds']:.1f} s, {summary['images_per_second']:.1f} images/s "
        f"with {summary['library']} on {summary['provider']}; see {summary['manifest']}"
    )
