"""Argument checks of the array functions: one place, once per call, nothing converted.

Every check names the function and the argument, the rule, what came instead and the remedy.
A wrong Python type or dtype is a TypeError; a wrong shape, range or layout is a ValueError.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadTypeError, BadValueError, message

__all__ = [
    "MAX_THREADS",
    "PROCESSORS",
    "Color",
    "Palette",
    "check_array",
    "check_bytes",
    "check_choice",
    "check_color",
    "check_flag",
    "check_image",
    "check_int",
    "check_labels",
    "check_names",
    "check_output",
    "check_palette",
    "check_path",
    "check_threads",
    "check_type",
]

Color: TypeAlias = tuple[int, int, int]
Palette: TypeAlias = NDArray[np.uint8] | Sequence[Sequence[int]]
"""Colors by label: uint8 (K, 3), or K triples of integers 0..255."""

MAX_THREADS = 256

_Name = TypeVar("_Name", bound=str)


@lru_cache(maxsize=256)
def _allowed(dtype: np.dtype[Any], names: tuple[str, ...]) -> bool:
    return dtype.name in names and dtype.isnative  # numpy computes the name each time


def check_array(what: str, value: object, dtypes: tuple[str, ...], example: str) -> NDArray[Any]:
    """Return value if it is a C-contiguous array of one of the dtypes, by name, else raise."""
    if not isinstance(value, np.ndarray):
        rule = f"must be a numpy array of {' or '.join(dtypes)}"
        raise BadTypeError(message(what, rule, type(value).__name__, "pass np.asarray(...)"))
    if not _allowed(value.dtype, dtypes):
        rule = f"dtype must be {' or '.join(dtypes)}"
        raise BadTypeError(message(what, rule, value.dtype.name, example))
    if not value.flags.c_contiguous:
        got = f"strides {value.strides} for shape {value.shape}"
        raise BadValueError(
            message(what, "must be C-contiguous", got, "pass np.ascontiguousarray(x)")
        )
    return value


_BYTES_REMEDY = "check that the values are 0..255, then convert with .astype(np.uint8)"


def check_bytes(what: str, value: object) -> NDArray[np.uint8]:
    """Return value if it is a C-contiguous uint8 array, else raise."""
    return check_array(what, value, ("uint8",), _BYTES_REMEDY)


def check_labels(what: str, value: object) -> NDArray[np.uint8]:
    """Return value if it is a label map, uint8 (H, W), else raise."""
    labels = check_bytes(what, value)
    if labels.ndim != 2:
        remedy = "pass one label map at a time"
        raise BadValueError(message(what, "must have shape (H, W)", labels.shape, remedy))
    return labels


def check_image(what: str, value: object) -> NDArray[np.uint8]:
    """Return value if it is an image, uint8 (H, W, 3), else raise."""
    image = check_bytes(what, value)
    if image.ndim != 3 or image.shape[2] != 3:
        remedy = "pass one RGB image at a time"
        if image.ndim == 3 and image.shape[0] == 3:
            remedy = "this looks channels-first, pass np.ascontiguousarray(x.transpose(1, 2, 0))"
        raise BadValueError(message(what, "must have shape (H, W, 3)", image.shape, remedy))
    return image


def check_output(
    what: str,
    out: object,
    shape: tuple[int, ...],
    dtype: type[np.generic],
    inputs: Sequence[NDArray[Any]],
) -> NDArray[Any]:
    """Return a new array if out is None, else out if it can take the result, else raise."""
    if out is None:
        return np.empty(shape, dtype)
    name = dtype.__name__
    array = check_array(what, out, (name,), f"pass np.empty({shape}, np.{name})")
    if array.shape != shape:
        raise BadValueError(
            message(what, f"must have shape {shape}", array.shape, "or leave it out")
        )
    if not array.flags.writeable:
        raise BadValueError(message(what, "must be writeable", "a read-only array", "pass a copy"))
    if any(np.may_share_memory(array, other) for other in inputs):
        raise BadValueError(
            message(
                what,
                "must share no memory with an input",
                "one that does",
                "pass a separate array",
            )
        )
    return array


def check_int(what: str, value: object, low: int, high: int) -> int:
    """Return value as an int if it is an integer in low..high, else raise."""
    if type(value) is int and low <= value <= high:  # the usual case, at once
        return value
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise BadTypeError(
            message(what, "must be an integer", type(value).__name__, "pass an int")
        ) from None
    if isinstance(value, bool):
        raise BadTypeError(message(what, "must be an integer", value, "pass an int"))
    if not low <= number <= high:
        remedy = f"pass a value from {low} to {high}"
        raise BadValueError(message(what, f"must be {low}..{high}", number, remedy))
    return number


def check_flag(what: str, value: object) -> bool:
    """Return value if it is True or False, else raise."""
    if type(value) is bool:
        return value
    raise BadTypeError(message(what, "must be True or False", type(value).__name__, "pass a bool"))


def check_type(what: str, value: object, kind: type) -> None:
    """Raise TypeError if value is not an instance of a class."""
    if not isinstance(value, kind):
        rule, remedy = f"must be of type {kind.__name__}", "pass one"
        raise BadTypeError(message(what, rule, f"one of type {type(value).__name__}", remedy))


def check_path(what: str, value: object) -> Path:
    """Return a str or Path as a Path, or raise TypeError."""
    if isinstance(value, str | Path):
        return Path(value)
    got = f"one of type {type(value).__name__}"
    raise BadTypeError(message(what, "must be a str or a Path", got, "pass the file's path"))


def check_choice(what: str, value: object, choices: Sequence[_Name]) -> _Name:
    """Return the choice that value names, else raise."""
    for choice in choices:
        if isinstance(value, str) and value == choice:
            return choice
    rule = f"must be one of {', '.join(choices)}"
    raise BadValueError(message(what, rule, value, "choose one of these"))


def check_names(what: str, value: object) -> None:
    """Raise TypeError if value is not a list or tuple of strings."""
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise BadTypeError(message(what, "must be a list of names", value, "pass a list of str"))


def check_color(what: str, value: Sequence[int]) -> Color:
    """Return a color as three ints, or raise."""
    try:
        parts = tuple(value) if len(value) == 3 else ()  # not tuple() first: it may be huge
    except TypeError:
        parts = ()
    if len(parts) != 3:
        raise BadValueError(message(what, "must be three integers 0..255", value, "pass (r, g, b)"))
    red, green, blue = (check_int(what, part, 0, 255) for part in parts)
    return red, green, blue


def check_palette(what: str, palette: Palette) -> NDArray[np.uint8]:
    """Return a palette as a contiguous uint8 array (K, 3), 1 <= K <= 256, or raise."""
    if isinstance(palette, np.ndarray):
        array = check_bytes(what, palette)
    else:
        array = _palette_array(what, palette)
    if array.ndim != 2 or array.shape[1] != 3 or not 1 <= len(array) <= 256:
        raise BadValueError(
            message(what, "must have shape (1..256, 3)", array.shape, "pass one RGB row per label")
        )
    return array


def _palette_array(what: str, palette: object) -> NDArray[np.uint8]:
    if not isinstance(palette, Sequence) or isinstance(palette, str | bytes):
        rule, got = "must be uint8 (K, 3) or a sequence of K triples", type(palette).__name__
        raise BadTypeError(message(what, rule, got, "pass one RGB row per label"))
    try:
        flat = bytes(chain.from_iterable(palette))  # refuses all but integers 0..255, at once
        if all(len(color) == 3 for color in palette):
            return np.frombuffer(flat, np.uint8).reshape(-1, 3)
    except (TypeError, ValueError):
        pass
    # Color by color, for an error that says which value is wrong.
    return np.array([check_color(what, color) for color in palette], np.uint8)


def check_threads(what: str, threads: object) -> int:
    """Return the largest number of threads to use.

    ``None`` means FCNKIT_THREADS where that is set, else the processors this process may use.
    """
    if threads is not None:
        return check_int(f"{what}: threads", threads, 1, MAX_THREADS)
    text = os.environ.get("FCNKIT_THREADS", "")
    if not text:
        return PROCESSORS
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_THREADS:
        rule = f"must be an integer 1..{MAX_THREADS}"
        raise BadValueError(message("FCNKIT_THREADS", rule, text, "unset it or set it to 1"))
    return int(text)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)


PROCESSORS = _processors()
"""The processors that this process could use at its start: a library may pin a thread later."""
