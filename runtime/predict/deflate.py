"""Which library compresses PNG files: ISA-L where the package isal is installed, else zlib."""

from __future__ import annotations

import zlib
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Protocol

__all__ = ["Compressor", "compressor", "deflate_library"]


class Compressor(Protocol):
    """A stream in zlib's format."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """Take the next bytes, and return what is ready of the stream."""

    def flush(self) -> bytes:
        """End the stream, and return the rest of it."""


@cache
def deflate_library() -> ModuleType | None:
    """Return the module ``isal_zlib`` where it is installed, else None."""
    try:
        return import_module("isal.isal_zlib")
    except ImportError:
        return None


def compressor(strategy: int) -> Compressor:
    """Begin a stream.

    Args:
        strategy: How zlib looks for what repeats. ISA-L has one way, faster than all of zlib's.
    """
    # The fastest level that compresses well: labels shrink with it, and a higher one costs more
    # than it saves.
    library = deflate_library()
    if library is None:
        return zlib.compressobj(1, zlib.DEFLATED, 15, 9, strategy)
    found: Compressor = library.compressobj(1, zlib.DEFLATED, 15, 9)
    return found
