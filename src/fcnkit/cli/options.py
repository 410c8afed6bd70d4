"""Options that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from fcnkit.errors import BadValueError, message, missing_extra
from fcnkit.export.choices import Activations
from fcnkit.runtime.artifacts import precisions, spec
from fcnkit.runtime.checks import check_choice
from fcnkit.runtime.predict import covering
from fcnkit.runtime.predict.bands import Bands, check_bands

if TYPE_CHECKING:
    from fcnkit.runtime.backends.request import BackendRequest

__all__ = [
    "Backend",
    "BackendOptions",
    "Compute",
    "Cover",
    "Factory",
    "GraphPrecision",
    "Json",
    "Model",
    "PictureBands",
    "QuantizedTo",
    "SpecFrom",
    "Threads",
    "Tta",
    "ValueRange",
    "VocDir",
    "backend_request",
    "choice",
    "cover_request",
    "parse_backend_options",
    "parse_bands",
    "parse_levels",
    "parse_range",
    "parse_size",
    "use_factory",
]


def choice(option: str, kind: Any, help: str, *, read: Callable[[str], str] = str) -> Any:
    """Declare an option that takes one of a few names.

    Args:
        option: How it is written, such as ``--cover``.
        kind: What it takes: a Literal type, or the names.
        help: What it is for, to follow the names and a colon.
        read: Turns what was typed into a name, where there are other spellings.

    Returns:
        The option. A value that is not one of the names raises ``BadValueError``.
    """
    names: tuple[str, ...] = get_args(kind) or tuple(kind)

    def check(text: str | None) -> str | None:
        return None if text is None else check_choice(option, read(text), names)

    listed = " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return typer.Option(
        option, parser=str, callback=check, metavar="NAME", help=f"{listed}: {help}"
    )


Model = Annotated[Path, typer.Argument(help="best.pt, or a model that was exported.")]
VocDir = Annotated[Path, typer.Argument(metavar="DIR", help="Folder in VOC layout.")]
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
    precisions.Compute,
    choice(
        "--compute",
        precisions.Compute,
        "what to compute in; auto is what the file says.",
        read=precisions.full_name,
    ),
]
Cover = Annotated[
    covering.Cover | None,
    choice("--cover", covering.Cover, "average tiles, or pad and run once; auto by default."),
]
Tta = Annotated[
    spec.Tta | None,
    choice("--tta", spec.Tta, "the mean of an image and its mirror image; half as fast."),
]
Factory = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="PACKAGE.MODULE:FACTORY",
        help="Only for a checkpoint of a network of your own: the factory that builds it, "
        "which is imported.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]
SpecFrom = Annotated[
    Path | None,
    typer.Option("--spec", help="For an engine without its .json: the ONNX file of it."),
]
GraphPrecision = Annotated[
    precisions.Precision,
    choice(
        "--precision", precisions.Precision, "of the graph; inputs and outputs keep their types."
    ),
]
QuantizedTo = Annotated[
    Activations,
    choice("--activations", Activations, "for int8; uint8 is fastest on CPUs, int8 for TensorRT."),
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


PictureBands = Annotated[
    str | None,
    typer.Option(
        "--bands",
        metavar="R,G,B",
        help="Which samples of a picture are red, green and blue, counted from 1, such as 1,2,3 "
        "or 4,3,2; by default what each file says.",
    ),
]


def parse_bands(text: str | None) -> Bands | None:
    """Read ``1,2,3`` as bands.

    Args:
        text: Three decimal integers joined by commas, or None.

    Returns:
        The integers, or None for None.

    Raises:
        ValueError: text is anything else.
    """
    if text is None:
        return None
    parts = text.split(",")
    if all(_is_integer(part) for part in parts):
        return check_bands("--bands", [int(part) for part in parts])
    rule = "bands are written R,G,B"
    raise BadValueError(message("--bands", rule, repr(text), "write 1,2,3"))


def parse_backend_options(pairs: Sequence[str] | None) -> dict[str, str]:
    """Read what ``--backend-option`` was given.

    Args:
        pairs: Strings ``KEY=VALUE``, or None for none.

    Returns:
        Key to value.

    Raises:
        ValueError: A string has no key or no ``=``, or a key comes twice.
    """
    options: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            rule, remedy = "is written KEY=VALUE", "write ENABLE_CPU_PINNING=NO"
            raise BadValueError(message("--backend-option", rule, pair, remedy))
        if key in options:
            got = f"{key}={options[key]} and {pair}"
            raise BadValueError(
                message("--backend-option", "each option is given once", got, "drop one")
            )
        options[key] = value
    return options


def backend_request(
    *,
    backend: str,
    threads: int | None,
    compute: precisions.Compute,
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
        compute=compute,
        options=parse_backend_options(backend_options),
        spec_from=spec,
    )


def cover_request(
    cover: covering.Cover | None,
    *,
    tile: str | None = None,
    overlap: int | None = None,
    tta: spec.Tta | None = None,
) -> covering.CoverRequest:
    """Build the request how images are covered from the options of a verb.

    Args:
        cover: Of ``--cover``.
        tile: Of ``--tile``.
        overlap: Of ``--overlap``.
        tta: Of ``--tta``.

    Returns:
        The request.

    Raises:
        ValueError: See parse_size and CoverRequest.
    """
    return covering.CoverRequest(
        cover=cover,
        tile=None if tile is None else parse_size(tile, "--tile", "1024x1024"),
        overlap=overlap,
        tta=tta,
    )


def use_factory(name: str | None) -> None:
    """Import what ``--model`` of a command names, so that checkpoints of it can be opened.

    Args:
        name: ``package.module:factory``, or None for none.

    Raises:
        MissingExtraError: PyTorch is not installed.
        ValueError: The name is of another form.
        FcnkitError: It cannot be imported.
    """
    if name is None:
        return
    try:
        from fcnkit.train.models.foreign import register_factory
    except ModuleNotFoundError as error:
        raise missing_extra("--model", str(error.name), "train") from error
    register_factory(name)


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
    raise BadValueError(message(option, "a size is written HxW", repr(text), f"write {example}"))


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
        raise BadValueError(message(option, rule, repr(text), "write 0.5..2")) from None


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
    raise BadValueError(message(option, rule, repr(text), "write 0..4095"))


def _is_integer(text: str) -> bool:
    # Python refuses integers of thousands of digits with its own message.
    return text.isascii() and text.isdigit() and len(text) < 20
