"""``fcnkit export web``: a page that runs a model in the browser."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.say import say
from fcnkit.errors import missing_extra

__all__ = ["web"]


@documented
def web(
    model: Annotated[Path, typer.Argument(help="An .onnx file with head scene or labels.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out")],
    ort: Annotated[Path | None, typer.Option("--ort", metavar="DIR")] = None,
) -> None:
    """Write a page that labels images in the browser; nothing is uploaded.

    Options:
        out: The page's folder, new or empty.
        ort: Where npm installed onnxruntime-web; the page then works offline.
    """
    try:
        from fcnkit.export.web import write_web_page
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit export web", str(error.name), "export") from error

    report = write_web_page(model, out, ort=ort)
    say(f"{out}: a page of {report.bytes / 1e6:.1f} MB, onnxruntime-web from {report.runtime}")
    command = shlex.join(["python", "-m", "http.server", "--directory", str(out)])
    say(f"look at it with {command}, or copy the folder to any web server")
