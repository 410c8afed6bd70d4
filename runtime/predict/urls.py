"""Addresses of objects on stores, as ``s3://bucket/photos/a.jpg``."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Final

from fcnkit.runtime.predict.stamp import Stamp

__all__ = ["FILE", "Url", "is_url", "path_or_url"]

FILE: Final = "file://"
"""What the address of a file on this machine begins with; the rest is its path."""

_SCHEMES: Final = frozenset(
    {
        *("abfs", "abfss", "adl", "az", "cos", "gcs", "gs"),
        *("memory", "oci", "oss", "r2", "s3", "s3a"),
    }
)
"""Object stores: what is written is there as a whole or not at all."""


class Url(PurePosixPath):
    """The address of an object, or of a folder of objects; its names are those of a path."""

    stamp: Stamp | None = None
    """Of the object when it was listed, where it was."""

    def __str__(self) -> str:
        """Return it with two slashes; a path keeps one of them."""
        return super().__str__().replace(":/", "://", 1)


def is_url(text: str | os.PathLike[str]) -> bool:
    """Whether a string or path names something on an object store."""
    scheme, found, _ = os.fspath(text).partition("://")
    return bool(found) and scheme in _SCHEMES


def path_or_url(text: str | os.PathLike[str]) -> Path | Url:
    """Return what a string names: something on an object store, or a file of this machine."""
    if isinstance(text, Url):
        return text
    return Url(text) if is_url(text) else Path(os.fspath(text).removeprefix(FILE))
