"""Which pixels of an image file are labeled: a window, and what is not nodata and not masked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadTypeError, BadValueError, DataError, message
from fcnkit.runtime.checks import check_type
from fcnkit.runtime.predict.georeference import GDAL_NODATA
from fcnkit.runtime.predict.layouts import Layout
from fcnkit.runtime.predict.levels import DEEPEST
from fcnkit.runtime.predict.picture_file import SUFFIXES
from fcnkit.runtime.predict.stamp import Stamp
from fcnkit.runtime.predict.tiff import Tags
from fcnkit.runtime.predict.window import Window

__all__ = [
    "Nodata",
    "Region",
    "VoidRule",
    "check_no_region",
    "check_same_size",
    "checked_region",
    "marked",
    "mask_stamp",
    "void_rule",
]

Nodata = int | Literal["auto"]
"""A stored value that means no data, or ``auto``: the value that the file names in GDAL's tag, and
pixels that are wholly transparent."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """Which pixels of every image of a run are labeled. The others become void.

    Raises:
        TypeError: A field has a wrong type.
        ValueError: nodata is not 0..65535 or ``auto``.
    """

    window: Window | None = None
    """The result has its size, and equals that of an image that was cut there."""
    nodata: Nodata | None = None
    """A pixel is void if each of its samples that are read has this value."""
    mask: Path | None = None
    """An image of the same size whose black pixels are void: one file for all images, or a folder
    that holds one for each, named as its result."""

    def __post_init__(self) -> None:
        """Check every field."""
        # Anything may come from callers without a type checker.
        window: object = self.window
        nodata: object = self.nodata
        mask: object = self.mask
        if window is not None and not isinstance(window, Window):
            rule, remedy = "window must be a Window", "pass Window.parse('0:1000,500:2000')"
            raise BadTypeError(message("Region", rule, type(window).__name__, remedy))
        if mask is not None and not isinstance(mask, Path):
            rule, remedy = "mask must be a Path", "pass Path('masks')"
            raise BadTypeError(message("Region", rule, type(mask).__name__, remedy))
        if nodata is None or nodata == "auto":
            return
        rule, remedy = f"nodata must be 0..{DEEPEST} or auto", "pass the value that files store"
        if isinstance(nodata, bool) or not isinstance(nodata, int):
            raise BadTypeError(message("Region", rule, repr(nodata), remedy))
        if not 0 <= nodata <= DEEPEST:
            raise BadValueError(message("Region", rule, nodata, remedy))

    @classmethod
    def parse(cls, *, window: str | None, nodata: str | None, mask: Path | None) -> Self:
        """Return the region that options of the command line describe.

        Args:
            window: ``y0:y1,x0:x1``.
            nodata: A decimal integer, or ``auto``.
            mask: As for ``Region``.

        Raises:
            ValueError: One of them is of another form.
        """
        value: Nodata | None = None
        if nodata == "auto":
            value = "auto"
        elif nodata is not None:
            if not (nodata.isascii() and nodata.isdigit() and len(nodata) < 20):
                rule, remedy = f"must be 0..{DEEPEST} or auto", "pass the value that files store"
                raise BadValueError(message("--nodata", rule, repr(nodata), remedy))
            value = int(nodata)
        return cls(window=None if window is None else Window.parse(window), nodata=value, mask=mask)

    @classmethod
    def of_masks(cls, mask: str | None) -> Self:
        """Return the region of the masks alone that the options of a run name."""
        return cls(mask=None if mask is None else Path(mask))

    def of(self, output: Path) -> Region:
        """Return the region of one image: its mask is a file.

        Args:
            output: Name of its result, relative to the output folder.

        Raises:
            DataError: The folder of masks has none or several for it.
        """
        if self.mask is None or not self.mask.is_dir():
            return self
        stem = self.mask / output.with_suffix("")
        masks = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
        found = [mask for mask in masks if mask.is_file()]
        if len(found) != 1:
            rule = "a folder of masks holds one mask for each image, named as its result"
            got = "none" if not found else " and ".join(mask.name for mask in found)
            raise DataError(message(str(stem), rule, got, "add it, or remove the others"))
        return replace(self, mask=found[0])

    def check_mask(self) -> None:
        """Refuse a mask that is not there.

        Raises:
            ValueError: There is no such file or folder.
        """
        if self.mask is not None and not self.mask.exists():
            rule, remedy = "mask must be an image file or a folder of them", "check the path"
            raise BadValueError(message("predict", rule, f"{self.mask}: no such file", remedy))

    @property
    def of_mask(self) -> Region:
        """The region in which the mask itself is read."""
        return Region(window=self.window)

    def facts(self) -> dict[str, Any]:
        """Return the fields as values of JSON; nothing for a whole image."""
        named = {"window": self.window, "nodata": self.nodata, "mask": self.mask}
        return {name: str(value) for name, value in named.items() if value is not None}


def mask_stamp(region: Region, output: Path | str) -> Stamp | None:
    """Return the stamp of the mask of an image, None where there is none.

    Args:
        region: Of the run.
        output: Name of the result.
    """
    if region.mask is None:
        return None
    try:
        mask = region.of(Path(output)).mask
    except DataError:  # told when the image is read
        return None
    return None if mask is None else Stamp.of(mask)


@dataclass(frozen=True)
class VoidRule:
    """Which samples of one file make a pixel void."""

    value: int | None
    transparent: bool

    def valid(
        self, samples_hwc: NDArray[np.uint8] | NDArray[np.uint16], layout: Layout
    ) -> NDArray[np.uint8]:
        """Return 255 for pixels to label and 0 for others, uint8 (H, W).

        Args:
            samples_hwc: As for ``to_rgb``.
            layout: What they mean.
        """
        stored = samples_hwc[..., : layout.colors]
        void_hw = np.zeros(stored.shape[:2], np.bool_)
        if self.transparent and layout.key is not None:
            void_hw |= (stored == layout.key).all(axis=-1)
        elif self.transparent and layout.alpha is not None:
            void_hw |= samples_hwc[..., layout.alpha] == 0
        if layout.bands is not None:
            stored = samples_hwc[..., [band - 1 for band in layout.bands]]
        if self.value is not None:
            void_hw |= (stored == self.value).all(axis=-1)
        return np.where(void_hw, np.uint8(0), np.uint8(255))


def void_rule(nodata: Nodata | None, layout: Layout, tags: Tags, what: str) -> VoidRule | None:
    """Say which pixels of a file are void.

    Args:
        nodata: What a caller gave.
        layout: Of the file.
        tags: Of a TIFF; empty for other files.
        what: The file, for the error.

    Returns:
        The rule; None where nothing can be void.

    Raises:
        DataError: The file does not store the samples that a value would be compared with.
    """
    value = _in_tag(tags.get(GDAL_NODATA)) if nodata == "auto" else nodata
    transparent = nodata == "auto" and (layout.alpha is not None or layout.key is not None)
    if value is not None and layout.converted:
        rule = "nodata is compared with gray or RGB samples of 8 or 16 bits as they are stored"
        remedy = "convert it to RGB of 8 bits, or pass --mask"
        raise DataError(message(what, rule, layout.converted, remedy))
    return None if value is None and not transparent else VoidRule(value, transparent)


def _in_tag(text: object) -> int | None:
    """Return the value of GDAL's tag; None where no sample of a file that is read can have it."""
    try:
        value = float(str(text).strip(" \0"))
    except ValueError:
        return None
    whole = math.isfinite(value) and value.is_integer() and 0 <= value <= DEEPEST
    return int(value) if whole else None


def marked(rgb_hwc: NDArray[np.uint8], valid_hw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image whose fourth channel is 0 where it is not labeled.

    Args:
        rgb_hwc: uint8 (H, W, 3), or with a fourth channel, whose zeros stay.
        valid_hw: 0 where it is not labeled, uint8 (H, W).

    Returns:
        uint8 (H, W, 4).
    """
    if rgb_hwc.shape[2] == 4:
        valid_hw = np.minimum(valid_hw, rgb_hwc[..., 3])
    return np.dstack([rgb_hwc[..., :3], valid_hw])


def check_no_region(region: Region, what: str) -> None:
    """Refuse a region where there is none.

    Args:
        region: Of a run.
        what: What has none.

    Raises:
        ValueError: The region leaves out pixels.
    """
    facts = region.facts()
    if facts:
        rule = f"window, nodata and mask go with images, not with {what}"
        raise BadValueError(message("predict", rule, next(iter(facts)), "leave it out"))


def checked_region(what: str, region: object) -> Region:
    """Return a region, that of all pixels for None, or refuse any other type.

    Raises:
        TypeError: It is of another type; what names the caller.
    """
    if region is None:
        return Region()
    check_type(f"{what}: region", region, Region)
    assert isinstance(region, Region)
    return region


def check_same_size(mask: Path, got: tuple[int, int], size: tuple[int, int]) -> None:
    """Refuse a mask of another size than its image.

    Raises:
        DataError: It has one.
    """
    if got != size:
        rule = f"a mask has the size of its image, {size[0]}x{size[1]}"
        raise DataError(message(str(mask), rule, f"{got[0]}x{got[1]}", "make it as large"))
