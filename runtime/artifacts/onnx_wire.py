"""The protobuf encoding, as far as an ONNX file needs it: varints, and the fields of a message.

Source: the protobuf encoding guide (varints, wire types 0, 1, 2 and 5).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

__all__ = ["MAX_NUMBERS", "Field", "Source", "WireError", "fields_of", "numbers_of", "text_of"]


class WireError(Exception):
    """The bytes are not a protobuf message of the expected kind."""


MAX_NUMBERS = 100
"""Integers of one field that are read: no tensor has more dimensions."""

_MAX_FIELDS = 1_000_000
"""A file with more is not a network: a ResNet-101 with its head has some ten thousand."""


class Source:
    """The bytes of a file, and how many more fields will be read from it."""

    __slots__ = ("content", "fields_left")

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self.content = content
        self.fields_left = _MAX_FIELDS


Field = tuple[int, int, int, int]
"""Field number, value of a varint (else 0), start and stop of the payload."""


def _varint(data: Source, at: int, stop: int) -> tuple[int, int]:
    """Return the integer that begins at a place, and where it ends."""
    value = shift = 0
    while at < stop and shift < 70:
        byte = data.content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise WireError("bytes that end early or are not protobuf")


def fields_of(data: Source, at: int, stop: int) -> Iterator[Field]:
    """Walk over one message; a payload that leaves the message is an error."""
    while at < stop:
        data.fields_left -= 1
        if data.fields_left < 0:
            raise WireError(f"more than {_MAX_FIELDS} fields")
        key, at = _varint(data, at, stop)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise WireError("bytes that are not protobuf")
        value = 0
        if wire == 0:
            start = at
            value, at = _varint(data, at, stop)
        elif wire == 2:
            length, start = _varint(data, at, stop)
            at = start + length
        elif wire in (1, 5):
            start, at = at, at + (8 if wire == 1 else 4)
        else:
            raise WireError("bytes that are not protobuf")
        if at > stop:
            raise WireError(f"a file that ends {at - stop} bytes early or is not protobuf")
        yield number, value, start, at


def text_of(data: Source, field: Field) -> str:
    """Return the text that a field holds; UnicodeDecodeError where it is not UTF-8."""
    return bytes(data.content[field[2] : field[3]]).decode("utf-8")


def numbers_of(data: Source, field: Field) -> list[int]:
    """Return the integers of a field, packed or single, at most one more than MAX_NUMBERS."""
    _, _, at, stop = field
    found: list[int] = []
    while at < stop and len(found) <= MAX_NUMBERS:
        value, at = _varint(data, at, stop)
        found.append(value)
    return found
