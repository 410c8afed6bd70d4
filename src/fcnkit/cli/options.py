"""Options that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fcnkit.errors import message

__all__ = [
    "Backend",
    "BackendOptions",
    "Compute",
    "Json",
    "SpecFrom",
    "Threads",
    "parse_backend_options",
]

Backend = Annotated[
    str, typer.Option("--backend", help="The library that runs the model; see fcnkit doctor.")
]
BackendOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--backend-option",
        metavar="KEY=VALUE",
        help="An option of that library by its own name; may be repeated.",
    ),
]
Compute = Annotated[
    str,
    typer.Option(
        "--compute", help="Precision to compute in: auto (what the file says), f32, bf16 or f16."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]
SpecFrom = Annotated[
    Path | None,
    typer.Option("--spec", help="For an engine without its .json: the ONNX file of it."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", help="CPU threads of the model; every core by default.")
]


def parse_backend_options(pairs: Sequence[str] | None) -> dict[str, str]:
    """Read what ``--backend-option`` was given.

    Args:
        pairs: Texts ``KEY=VALUE``, or None for none.

    Returns:
        Key to value.

    Raises:
        ValueError: A text has no key or no ``=``, or a key comes twice.
    """
    options: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            rule, remedy = "is written KEY=VALUE", "write ENABLE_CPU_PINNING=NO"
            raise ValueError(message("--backend-option", rule, pair, remedy))
        if key in options:
            got = f"{key}={options[key]} and {pair}"
            raise ValueError(
                message("--backend-option", "each option is given once", got, "drop one")
            )
        options[key] = value
    return options
