"""What several verbs share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fcnkit.runtime import Segmenter

__all__ = ["Backend", "Json", "Threads", "echo_json", "open_segmenter"]

Backend = Annotated[
    str, typer.Option("--backend", help="The library that runs the model; see fcnkit doctor.")
]
Threads = Annotated[
    int | None, typer.Option("--threads", help="CPU threads of the model; every core by default.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for a script to read.")]


def open_segmenter(
    model: str, *, backend: str, threads: int | None, cover: str | None = None
) -> Segmenter:
    """Open a model file as the verbs predict and bench do."""
    from fcnkit.runtime import load

    return load(model, backend=backend, threads=threads, cover=cover)


def echo_json(data: Any) -> None:
    """Print plain data as JSON on stdout."""
    typer.echo(json.dumps(data, indent=2))
