"""Puts an image into a data set without copying it, where the system allows that."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from PIL import Image

from fcnkit.errors import DataError, message
from fcnkit.runtime.predict.picture_file import format_of
from fcnkit.runtime.predict.pictures import read_levels

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["How", "Placed", "Placer"]

How = Literal["hard links", "symbolic links", "copies", "converted to PNG", "unpacked"]
"""How an image came into a data set."""

_SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif"}


class Placed(NamedTuple):
    """An image in the data set."""

    path: Path
    how: How


class Placer:
    """Links, copies or converts images into a folder."""

    def __init__(self, folder: Path, *, copy: bool, unpacked: Path) -> None:
        """Choose the ways.

        Args:
            folder: Where the images go.
            copy: Copy, and do not try to link.
            unpacked: A folder that is removed later. What lies in it is linked and counts as
                unpacked.
        """
        self._folder, self._unpacked = folder, unpacked
        ways: list[tuple[How, Callable[[Path, Path], object]]] = [
            ("hard links", os.link),
            ("symbolic links", os.symlink),
        ]
        self._ways = [] if copy else ways

    def place(self, source: Path, name: str) -> Placed:
        """Put an image into the folder.

        JPEG, PNG and TIFF files keep their bytes. Others become PNG files in RGB.

        Args:
            source: The image.
            name: Its new name without the ending.

        Returns:
            The new file, and how it was made.

        Raises:
            DataError: The file is not an image, damaged, or has more than 8 bits in a format that
                would have to be converted.
            OSError: It cannot be read or written.
        """
        suffix = _SUFFIX.get(format_of(source) or "")
        if suffix is None:
            target = self._folder / f"{name}.png"
            _convert(source, target)
            return Placed(target, "converted to PNG")
        real, target = source.resolve(), self._folder / f"{name}{suffix}"
        if real.is_relative_to(self._unpacked):
            _link_or_copy(real, target)
            return Placed(target, "unpacked")
        while self._ways:
            how, link = self._ways[0]
            try:
                link(real, target)
            except FileExistsError:
                raise
            except OSError:
                self._ways.pop(0)  # another disk, or no such links: so it is for the others
            else:
                return Placed(target, how)
        shutil.copyfile(real, target)
        return Placed(target, "copies")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _convert(source: Path, target: Path) -> None:
    picture = read_levels(source)
    if picture.seen is not None:
        rule = "an image of more than 8 bits is a PNG file"
        raise DataError(message(str(source), rule, "another format", "convert it to PNG"))
    Image.fromarray(picture.image_hwc).save(target)
