"""JSON files and the outlines in them, from anybody: bounded, and every value checked."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from fcnkit.errors import BadValueError, DataError, message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fcnkit.train.data.importers.source import Size

__all__ = ["check_outline", "entry", "load_json", "number"]

_MAX_BYTES: Final = 2 << 30
_MOST_POINTS: Final = 100_000
_LONGEST: Final = 5_000_000.0
"""Pixels along an outline: drawing takes memory for each."""
_KINDS: Final = {dict: "an object", list: "a list", str: "a string", int: "an integer"}


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        DataError: The file is not a regular file, larger than 2 GB, no JSON, nested too deep, or
            holds something else than an object, or a number without a value.
        OSError: It cannot be read.
    """

    def refuse(text: str) -> None:
        raise BadValueError(f"{text}, which JSON does not allow")

    what = str(path)
    if not path.is_file():
        raise DataError(message(what, "must be a JSON file", "no regular file", "check the path"))
    if path.stat().st_size > _MAX_BYTES:
        rule = f"must have at most {_MAX_BYTES} bytes"
        raise DataError(message(what, rule, path.stat().st_size, "split the file"))
    try:
        data = json.loads(path.read_bytes(), parse_constant=refuse)
    except RecursionError:
        got, remedy = "lists nested too deep", "do not use this file"
        raise DataError(message(what, "must be JSON", got, remedy)) from None
    except ValueError as error:  # no JSON, not UTF-8, or a number of thousands of digits
        raise DataError(message(what, "must be JSON", str(error), "export it again")) from None
    if not isinstance(data, dict):
        got = type(data).__name__
        raise DataError(message(what, "must be a JSON object", got, "export it again"))
    return data


def entry(data: object, key: str, kind: type, where: str) -> Any:
    """Return an entry of a JSON object.

    Args:
        data: What should be an object.
        key: The key.
        kind: dict, list, str or int.
        where: The file and what the object is, for the error.

    Raises:
        DataError: data is not an object, or the entry is missing or of another type.
    """
    value = data.get(key) if isinstance(data, dict) else None
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    got = "nothing" if value is None else repr(value)
    remedy = "export it again"
    raise DataError(message(f"{where}: {key}", f"must be {_KINDS[kind]}", got, remedy))


def number(value: object, where: str) -> float:
    """Return a finite number.

    Raises:
        DataError: It is none.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        found = float(value) if is_number else math.nan  # type: ignore[arg-type]
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise DataError(message(where, "must be a finite number", repr(value), "mend the file"))
    return found


def check_outline(flat: Sequence[object], size: Size, where: str) -> list[float]:
    """Check the coordinates of an outline: x, y, x, y and so on.

    Args:
        flat: The coordinates, in pixels.
        size: Height and width of the image.
        where: The file and the annotation, for the error.

    Returns:
        The coordinates as finite floats.

    Raises:
        DataError: They are odd in number, no numbers, further than the image's own size outside
            of it, or too many.
    """
    if len(flat) % 2 or len(flat) > 2 * _MOST_POINTS:
        rule, got = f"an outline has at most {_MOST_POINTS} pairs x, y", f"{len(flat)} numbers"
        raise DataError(message(where, rule, got, "mend the file"))
    values = [number(value, where) for value in flat]
    for axis, (name, side) in enumerate((("x", size[1]), ("y", size[0]))):
        for value in values[axis::2]:
            if not -side <= value <= 2 * side:
                rule = f"outlines lie in or near the image of {size[0]}x{size[1]}"
                remedy = "mend the file, or check that it belongs to this image"
                raise DataError(message(where, rule, f"{name} = {value}", remedy))
    steps = (
        math.dist(values[place : place + 2], values[place + 2 : place + 4])
        for place in range(0, len(values) - 2, 2)
    )
    if sum(steps) > _LONGEST:
        rule, remedy = f"an outline is at most {_LONGEST:.0f} pixels long", "do not use this file"
        raise DataError(message(where, rule, "a longer one", remedy))
    return values
