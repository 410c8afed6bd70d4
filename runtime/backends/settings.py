"""Checks of threads, precision and the library's own options."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, cast, get_args

from fcnkit.errors import BackendUnavailableError, BadTypeError, BadValueError, message

__all__ = [
    "Compute",
    "as_options",
    "check_compute",
    "check_options",
    "check_threads",
    "int_option",
    "one_of",
    "refuse_compute",
    "version_of",
]

Compute = Literal["auto", "f32", "bf16", "f16"]
"""The precision that a backend computes in. ``auto`` is what the file says, so float32 for a
float32 file even where a library would by itself take less: lower precision is faster, but must be
requested."""


def version_of(text: str) -> tuple[int, ...]:
    """Return a version's leading numbers, to be compared.

    Args:
        text: Such as ``13.5.0`` or ``1.26.0+cu13``.

    Returns:
        Such as ``(13, 5, 0)``; empty where the text begins with no number.
    """
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found.group().split("."))) if found else ()


def check_compute(compute: object, *, what: str) -> Compute:
    """Return the requested precision, or refuse an unknown one.

    Args:
        compute: One of the four.
        what: The caller, for the error.

    Returns:
        The same.

    Raises:
        ValueError: compute is unknown.
    """
    if isinstance(compute, str) and compute in get_args(Compute):
        return cast("Compute", compute)
    rule = f"compute must be one of {', '.join(get_args(Compute))}"
    raise BadValueError(message(what, rule, compute, "leave it out for what the file says"))


def refuse_compute(compute: str, *, name: str, computes: str, remedy: str) -> Exception:
    """Build the error for a precision in which a backend does not compute here.

    Args:
        compute: The requested precision.
        name: The backend.
        computes: What it computes in, such as ``a file and CPU where it takes f32``.
        remedy: What the user can do about it.

    Returns:
        The error, to be raised by the caller.
    """
    rule = f"{name} must compute in {compute}"
    return BackendUnavailableError(message("open_backend", rule, computes, remedy))


def as_options(options: object) -> Mapping[str, str]:
    """Return the options, none where there is None.

    Args:
        options: A mapping or None.

    Returns:
        A mapping, whose names and values are for ``check_options`` to look at.

    Raises:
        TypeError: It is neither.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        rule, got = "options must be a mapping", type(options).__name__
        raise BadTypeError(message("open_backend", rule, got, "pass {'KEY': 'VALUE'}"))
    return options


def check_options(
    options: Mapping[Any, Any], known: Collection[str], *, taken: Mapping[str, str], name: str
) -> None:
    """Refuse options that the library does not have, or that fcnkit sets by another name.

    Args:
        options: The options, by the library's names.
        known: The names that the library takes.
        taken: Names that are set otherwise, with the argument that sets them.
        name: The backend, for the error.

    Raises:
        TypeError: A name or value is not a str.
        ValueError: A name is unknown or taken.
    """
    for key, value in options.items():
        if not isinstance(key, str) or not isinstance(value, str):
            rule = "options must map str to str"
            raise BadTypeError(message("open_backend", rule, {key: value}, "pass {'KEY': 'VALUE'}"))
        if key in taken:
            rule = f"the option {key} is set by {taken[key]}"
            raise BadValueError(
                message("open_backend", rule, f"{key}={value}", f"use {taken[key]}")
            )
        if key not in known:
            names = ", ".join(sorted(set(known) - set(taken)))
            rule = f"{name} takes the options {names}" if names else f"{name} takes no options"
            raise BadValueError(message("open_backend", rule, key, "correct or drop it"))


def one_of(options: Mapping[str, str], key: str, legal: Sequence[str], default: str) -> str:
    """Return an option that has few values.

    Args:
        options: The options.
        key: Its name.
        legal: Its values.
        default: What it is where it is not given.

    Returns:
        The value.

    Raises:
        ValueError: It is another.
    """
    value = options.get(key, default)
    if value not in legal:
        rule = f"the option {key} must be one of {', '.join(legal)}"
        raise BadValueError(message("open_backend", rule, value, "correct or drop it"))
    return value


def int_option(options: Mapping[str, str], key: str, default: int) -> int:
    """Return an option that is an integer of at least 0.

    Args:
        options: The options.
        key: Its name.
        default: What it is where it is not given.

    Returns:
        The value.

    Raises:
        ValueError: It is not an integer in the range.
    """
    text = options.get(key, str(default))
    if not (text.isascii() and text.isdecimal()):
        rule = f"the option {key} must be an integer of at least 0"
        raise BadValueError(message("open_backend", rule, text, "correct or drop it"))
    return int(text)


_MOST_THREADS = 1024
"""Larger values are typos. Some libraries overflow a C int, others really start that many
threads."""


def check_threads(threads: int | None, *, what: str) -> int:
    """Return the number of threads to use: the given one, or every core this process may use.

    Args:
        threads: At least 1, or None.
        what: The caller, for the error.

    Returns:
        The number of threads.

    Raises:
        TypeError: threads is not an integer.
        ValueError: threads is below 1 or above 1024.
    """
    if threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if type(threads) is not int:
        raise BadTypeError(message(what, "threads must be an int", threads, "pass threads=2"))
    if threads < 1:
        raise BadValueError(message(what, "threads must be at least 1", threads, "pass threads=2"))
    if threads > _MOST_THREADS:
        rule = f"threads must be at most {_MOST_THREADS}"
        raise BadValueError(message(what, rule, threads, "pass threads=2"))
    return threads
