"""Options that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Backend", "Json", "Threads"]

Backend = Annotated[
    str, typer.Option("--backend", help="The library that runs the model; see fcnkit doctor.")
]
Json = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]
Threads = Annotated[
    int | None, typer.Option("--threads", help="CPU threads of the model; every core by default.")
]
