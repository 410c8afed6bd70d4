"""Checks of threads, precision and the library's own options."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import cast, get_args

from fcnkit.errors import BackendUnavailableError, BadTypeError, BadValueError, message
from fcnkit.runtime.artifacts.precisions import Compute, full_name

__all__ = [
    "Compute",
    "check_compute",
    "check_options",
    "check_threads",
    "int_option",
    "one_of",
    "refuse_compute",
    "usable_cores",
    "version_of",
]


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
    """Return the requested precision by its full name, or refuse an unknown one.

    Args:
        compute: One of ``Compute``, or the older ``f32`` or ``f16``.
        what: The caller, for the error.

    Returns:
        One of ``Compute``.

    Raises:
        ValueError: compute is unknown.
    """
    if isinstance(compute, str) and full_name(compute) in get_args(Compute):
        return cast("Compute", full_name(compute))
    rule = f"compute must be one of {', '.join(get_args(Compute))}"
    raise BadValueError(message(what, rule, compute, "leave it out for what the file says"))


def refuse_compute(compute: str, *, name: str, computes: str, remedy: str) -> Exception:
    """Build the error for a precision in which a backend does not compute here.

    Args:
        compute: The requested precision.
        name: The backend.
        computes: What it computes in, such as ``a file and CPU where it takes fp32``.
        remedy: What the user can do about it.

    Returns:
        The error, to be raised by the caller.
    """
    rule = f"{name} must compute in {compute}"
    return BackendUnavailableError(message("open_backend", rule, computes, remedy))


def check_options(
    options: Mapping[str, str], known: Collection[str], *, taken: Mapping[str, str], name: str
) -> None:
    """Refuse options that the library does not have, or that fcnkit sets by another name.

    Args:
        options: The options, by the library's names.
        known: The names that the library takes.
        taken: Names that are set otherwise, with the argument that sets them.
        name: The backend, for the error.

    Raises:
        ValueError: A name is unknown or taken.
    """
    for key, value in options.items():
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
"""Larger values are typos. Some libraries overflow a C int, others start that many threads."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: object, *, what: str) -> None:
    """Refuse a wrong number of threads.

    Args:
        threads: At least 1, or None for every core.
        what: The caller, for the error.

    Raises:
        TypeError: threads is not an int.
        ValueError: threads is below 1 or above 1024.
    """
    if threads is None:
        return
    if type(threads) is not int:
        raise BadTypeError(message(what, "threads must be an int", threads, "pass threads=2"))
    if threads < 1:
        raise BadValueError(message(what, "threads must be at least 1", threads, "pass threads=2"))
    if threads > _MOST_THREADS:
        rule = f"threads must be at most {_MOST_THREADS}"
        raise BadValueError(message(what, rule, threads, "pass threads=2"))
