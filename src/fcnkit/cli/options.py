"""Options that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fcnkit.errors import message

if TYPE_CHECKING:
    from fcnkit.runtime.backends.request import BackendRequest
    from fcnkit.runtime.backends.settings import Compute as ComputeName
    from fcnkit.runtime.predict.covering import Cover, CoverRequest

__all__ = [
    "Backend",
    "BackendOptions",
    "Compute",
    "Json",
    "SpecFrom",
    "Threads",
    "ValueRange",
    "backend_request",
    "cover_request",
    "parse_backend_options",
    "parse_levels",
    "parse_range",
    "parse_size",
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

ValueRange = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW..HIGH",
        help="Values of gray and RGB pictures of more than 8 bits that are black and white, "
        "such as 0..4095; by default all that a file can hold.",
    ),
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


def backend_request(
    *,
    backend: str,
    threads: int | None,
    compute: str,
    backend_options: Sequence[str] | None,
    spec: Path | None = None,
) -> BackendRequest:
    """Build the request to open a model from the options of a verb.

    Args:
        backend: Of ``--backend``.
        threads: Of ``--threads``.
        compute: Of ``--compute``.
        backend_options: Of ``--backend-option``.
        spec: Of ``--spec``.

    Returns:
        The request.

    Raises:
        ValueError: See parse_backend_options and BackendRequest.
    """
    from fcnkit.runtime.backends.request import BackendRequest

    return BackendRequest(
        backend=backend,
        threads=threads,
        compute=cast("ComputeName", compute),
        options=parse_backend_options(backend_options),
        spec_from=spec,
    )


def cover_request(
    cover: str | None, *, tile: str | None = None, overlap: int | None = None
) -> CoverRequest:
    """Build the request how images are covered from the options of a verb.

    Args:
        cover: Of ``--cover``.
        tile: Of ``--tile``.
        overlap: Of ``--overlap``.

    Returns:
        The request.

    Raises:
        ValueError: See parse_size and CoverRequest.
    """
    from fcnkit.runtime.predict.covering import CoverRequest

    return CoverRequest(
        cover=cast("Cover | None", cover),
        tile=None if tile is None else parse_size(tile, "--tile", "1024x1024"),
        overlap=overlap,
    )


def parse_size(text: str, option: str, example: str = "320x480") -> tuple[int, int]:
    """Read ``320x480`` as (rows, columns) in pixels.

    Args:
        text: Two decimal integers joined by ``x``.
        option: The option, for the error.
        example: What to write, for the error.

    Returns:
        Rows and columns.

    Raises:
        ValueError: text is anything else.
    """
    parts = text.lower().split("x")
    if len(parts) == 2 and all(_is_integer(part) for part in parts):
        return int(parts[0]), int(parts[1])
    raise ValueError(message(option, "a size is written HxW", repr(text), f"write {example}"))


def parse_range(text: str, option: str) -> tuple[float, float]:
    """Read ``0.5..2`` as two numbers.

    Args:
        text: Two decimal numbers joined by ``..``.
        option: The option, for the error.

    Returns:
        Both, as they were written.

    Raises:
        ValueError: text is anything else.
    """
    low, _, high = text.partition("..")
    try:
        return float(low), float(high)
    except ValueError:
        rule = "a range is written LOW..HIGH"
        raise ValueError(message(option, rule, repr(text), "write 0.5..2")) from None


def parse_levels(text: str | None, option: str) -> tuple[int, int] | None:
    """Read ``0..4095`` as two integers.

    Args:
        text: Two decimal integers joined by ``..``, or None.
        option: The option, for the error.

    Returns:
        Both, or None for None.

    Raises:
        ValueError: text is anything else.
    """
    if text is None:
        return None
    low, _, high = text.partition("..")
    if _is_integer(low) and _is_integer(high):
        return int(low), int(high)
    rule = "a range of values is written LOW..HIGH"
    raise ValueError(message(option, rule, repr(text), "write 0..4095"))


def _is_integer(text: str) -> bool:
    # Python refuses to read integers of thousands of digits, in other words than ours.
    return text.isascii() and text.isdigit() and len(text) < 20
