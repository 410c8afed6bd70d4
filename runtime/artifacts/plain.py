"""Reading plain JSON data as a dataclass, closed-world: what is not declared is refused."""

from __future__ import annotations

import types
import typing
import unicodedata
from dataclasses import fields, is_dataclass
from typing import Any, Final, Literal, TypeVar

from fcnkit.errors import ArtifactError, message

__all__ = ["EXPORT_AGAIN", "SpecKeyError", "is_text", "key_error", "read_plain"]

EXPORT_AGAIN: Final = "export the model again with fcnkit export"


def is_text(name: str) -> bool:
    """Say whether a name can be shown and stored: no control characters or lone surrogates."""
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name)


class SpecKeyError(ArtifactError):
    """A key of the JSON form is missing, unknown, or of a wrong type or value."""

    def __init__(self, text: str, key: str = "") -> None:
        super().__init__(text)
        self.key = key


def key_error(key: str, rule: str, got: object) -> SpecKeyError:
    """Build the error for one key, to be raised by the caller."""
    return SpecKeyError(message(f"spec key {key}", rule, got, EXPORT_AGAIN), key)


_T = TypeVar("_T")


def read_plain(kind: type[_T], data: object) -> _T:
    """Read what ``json.loads`` gave as a dataclass, closed-world.

    Args:
        kind: A dataclass whose annotations are dataclasses, tuples, dicts, Literals, scalars, or
            one of these ``| None``. Its static method ``from_older``, where it has one, turns the
            data of an older form into today's.
        data: Plain data.

    Returns:
        The dataclass.

    Raises:
        SpecKeyError: A key is missing, unknown or of a wrong type or value.
    """
    read: _T = _read(kind, data, "")
    return read


def _read(kind: Any, data: Any, key: str) -> Any:
    """Read plain JSON data as the annotated type ``kind``, refusing everything else."""
    if is_dataclass(kind):
        return _read_dataclass(kind, data, key)
    if kind is type(None):
        if data is not None:
            raise key_error(key, "must be null, this fcnkit does not know the part", data)
        return None
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if not isinstance(data, str) or data not in args:
            raise key_error(key, f"must be one of {', '.join(args)}", data)
        return data
    if origin in (types.UnionType, typing.Union):  # Union: of a Literal and None
        return None if data is None else _read(args[0], data, key)
    if origin is tuple:
        return _read_tuple(args, data, key)
    if origin is dict:
        if not isinstance(data, dict):
            raise key_error(key, "must be an object", data)
        return {name: _read(args[1], value, f"{key}.{name}") for name, value in data.items()}
    return _read_scalar(kind, data, key)


def _read_dataclass(kind: Any, data: Any, key: str) -> Any:
    if not isinstance(data, dict):
        raise key_error(key or "(top)", "must be an object", data)
    if hasattr(kind, "from_older"):
        data = kind.from_older(data)
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    prefix = f"{key}." if key else ""
    for name in names:
        if name not in data:
            raise key_error(prefix + name, "must be there", "nothing")
    for name in data:
        if name not in names:
            raise key_error(prefix + str(name), "is not a key of this format", data[name])
    return kind(**{name: _read(hints[name], data[name], prefix + name) for name in names})


def _read_tuple(args: tuple[Any, ...], data: Any, key: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise key_error(key, "must be a list", data)
    if args[-1] is Ellipsis:
        kinds: list[Any] = [args[0]] * len(data)
    elif len(data) == len(args):
        kinds = list(args)
    else:
        raise key_error(key, f"must have {len(args)} entries", data)
    pairs = zip(kinds, data, strict=True)
    return tuple(_read(kind, item, f"{key}[{i}]") for i, (kind, item) in enumerate(pairs))


def _read_scalar(kind: Any, data: Any, key: str) -> Any:
    if kind is float and type(data) in (int, float):
        try:
            return float(data)
        except OverflowError:
            raise key_error(key, "must be a number that a float can hold", data) from None
    # type() and not isinstance(): True is an int to isinstance.
    if type(data) is not kind:
        raise key_error(key, f"must be of type {kind.__name__}", data)
    if kind is str and not is_text(data):
        raise key_error(key, "must be text without control characters", repr(data))
    return data
