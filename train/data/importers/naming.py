"""Names for images that lay in folders: VOC layout has one folder for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from fcnkit.errors import DataError, message
from fcnkit.train.data.importers.source import Item

__all__ = ["flat_names"]

_MOST_BYTES: Final = 200
"""File systems take 255, and temporary names need some."""


def flat_names(items: Sequence[Item]) -> list[str]:
    """Return a plain file name, without its ending, for every image.

    Folders are joined with ``_``: ``cam1/0007`` becomes ``cam1_0007``. Where two images would get
    one name, all names are made in another way: with two ``_``, the split in front or the ending
    behind. What no list of names can hold becomes ``_``.

    Args:
        items: The images.

    Returns:
        Different names, in the order of the items.

    Raises:
        DataError: A name is too long, or no way tells all images apart.
    """
    ways: tuple[Callable[[Item], str], ...] = (
        lambda item: item.name.replace("/", "_"),
        lambda item: item.name.replace("/", "__"),
        lambda item: f"{item.split}_{item.name}".replace("/", "_"),
        lambda item: f"{item.name}{item.image.suffix}".replace("/", "_").replace(".", "_"),
    )
    names: list[str] = []
    for way in ways:
        names = [_plain(way(item)) for item in items]
        if len(set(names)) == len(names):
            break
    else:
        name, count = Counter(names).most_common(1)[0]
        got = f"{count} of the name {name}"
        raise DataError(message("names", "images need different names", got, "rename them"))
    for name in names:
        if len(name.encode()) > _MOST_BYTES:
            rule = f"a name with its folders has at most {_MOST_BYTES} bytes"
            raise DataError(message("names", rule, name, "shorten the names of folders"))
    return names


def _plain(name: str) -> str:
    """Replace what a list of names or a file system cannot hold."""
    plain = "".join(c if c.isprintable() and c not in '/\\"' else "_" for c in name)
    if plain != plain.strip():
        plain = f"{'_' if plain[0].isspace() else ''}{plain.strip()}"
    return f"_{plain[1:]}" if plain.startswith(".") else plain or "_"
