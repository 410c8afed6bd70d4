"""What a result takes over from its image file: the place on the Earth, and the size of a pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from fcnkit.errors import DataError, message
from fcnkit.runtime.predict.picture_file import format_of, open_picture
from fcnkit.runtime.predict.tiff import Tags, numbers, tags_of
from fcnkit.runtime.predict.window import Window

__all__ = ["GDAL_METADATA", "GDAL_NODATA", "GEO_KEYS", "GEO_TEXTS", "FileFacts"]

GDAL_METADATA: Final = 42112
GDAL_NODATA: Final = 42113
GEO_KEYS: Final = 34735
GEO_TEXTS: Final = 34737
_PIXEL_SCALE: Final = 33550
_TIEPOINTS: Final = 33922
_TRANSFORMATION: Final = 34264
_DOUBLES: Final = 34736
_RPC: Final = 50844
_ORIENTATION: Final = 274
_RESOLUTION: Final = (282, 283)
_UNIT: Final = 296
_PLACES: Final = (_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, GEO_KEYS, _DOUBLES, GEO_TEXTS, _RPC)
_INCH: Final = 2


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """Facts of an image file that hold for its labels too."""

    doubles: tuple[tuple[int, tuple[float, ...]], ...] = ()
    """Tags of floating-point numbers that say where the image lies, by number."""
    keys: tuple[int, ...] = ()
    """The GeoKeyDirectory: the coordinate reference system."""
    texts: bytes = b""
    """The strings that the GeoKeyDirectory refers to."""
    resolution: tuple[float, float] | None = None
    """Pixels per unit along the columns and the rows."""
    unit: int = 1
    """Of the resolution, as TIFF counts: 1 none, 2 inch, 3 centimeter."""
    items: tuple[tuple[str, str], ...] = ()
    """Metadata of GDAL about the whole image, name and value. What it says about a band is left
    out: the band of labels is another one."""

    @classmethod
    def of(cls, path: Path, window: Window | None = None) -> FileFacts:
        """Read the facts of a file.

        Args:
            path: An image file that can be read.
            window: The part of it that is labeled; None for all of it.

        Returns:
            The facts of that part.

        Raises:
            DataError: A tag is damaged, or the image is turned, so that its place is not that of
                the upright labels.
            OSError: The file cannot be read.
        """
        if format_of(path) != "TIFF":
            return cls(**_density(path))
        tags = tags_of(path) or {}
        _check_upright(path, tags)
        try:
            return _of_tiff(cls, tags, window)
        except (TypeError, ValueError, IndexError, ZeroDivisionError, AttributeError):
            rule, got = (
                "a georeferenced TIFF must have whole tags",
                "tags of other types or lengths",
            )
            remedy = "write them again, with gdal_translate"
            raise DataError(message(str(path), rule, got, remedy)) from None


def _check_upright(path: Path, tags: Tags) -> None:
    turned = tags.get(_ORIENTATION, 1) not in (0, 1)
    if turned and any(tag in tags for tag in _PLACES):
        rule = "a georeferenced TIFF must be stored upright"
        got, remedy = (
            f"orientation {tags[_ORIENTATION]}",
            "store it upright, or use --format labels",
        )
        raise DataError(message(str(path), rule, got, remedy))


def _of_tiff(make: Callable[..., FileFacts], tags: Tags, window: Window | None) -> FileFacts:
    top, left = (0, 0) if window is None else (window.top, window.left)
    doubles = {
        tag: tuple(float(value) for value in numbers(tags, tag, ()))
        for tag in (_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, _DOUBLES, _RPC)
        if tag in tags
    }
    _shift(doubles, top, left)
    texts = tags.get(GEO_TEXTS, "")
    resolution = _positive(*(float(tags.get(tag, 0)) for tag in _RESOLUTION))
    if int(tags.get(_ORIENTATION, 1)) >= 5 and resolution is not None:
        resolution = resolution[::-1]
    return make(
        doubles=tuple(doubles.items()),
        keys=tuple(int(key) for key in numbers(tags, GEO_KEYS, ())),
        texts=texts.encode("latin-1") if isinstance(texts, str) else bytes(texts),
        resolution=resolution,
        unit=int(tags.get(_UNIT, _INCH)) if resolution else 1,
        items=_items(tags.get(GDAL_METADATA)),
    )


def _shift(doubles: dict[int, tuple[float, ...]], top: int, left: int) -> None:
    """Make tags those of a window that begins there."""
    scale, point = doubles.get(_PIXEL_SCALE, ()), doubles.get(_TIEPOINTS, ())
    for tag, shifted in _SHIFTS.items():
        if tag in doubles:
            doubles[tag] = shifted(doubles[tag], top, left)
    if len(point) == 6 and len(scale) >= 2 and min(scale[:2]) > 0:
        # The place of the first pixel: programs such as geotiff.js take every point for it.
        column, row, plane, x, y, z = point
        place = (x + left * scale[0], y - top * scale[1], z)
        doubles[_TIEPOINTS] = (column, row, plane, *place)


def _shift_tiepoints(points: tuple[float, ...], top: int, left: int) -> tuple[float, ...]:
    """Move pixels of (column, row, plane, x, y, z) and not their places: nothing is rounded."""
    if len(points) % 6:
        raise ValueError
    moved = list(points)
    moved[0::6] = [column - left for column in points[0::6]]
    moved[1::6] = [row - top for row in points[1::6]]
    return tuple(moved)


def _shift_matrix(matrix: tuple[float, ...], top: int, left: int) -> tuple[float, ...]:
    """Move the origin of a 4x4 matrix from (column, row, plane, 1) to places."""
    if len(matrix) != 16:
        raise ValueError
    moved = list(matrix)
    for row in (0, 4, 8):
        moved[row + 3] += matrix[row] * left + matrix[row + 1] * top
    return tuple(moved)


def _shift_rpc(values: tuple[float, ...], top: int, left: int) -> tuple[float, ...]:
    """Move the line and the sample that the polynomials of a satellite image count from."""
    if len(values) != 92:
        raise ValueError
    return (*values[:2], values[2] - top, values[3] - left, *values[4:])


_SHIFTS: Final = {
    _TIEPOINTS: _shift_tiepoints,
    _TRANSFORMATION: _shift_matrix,
    _RPC: _shift_rpc,
}
"""How each tag that counts pixels follows a window."""


def _items(xml: object) -> tuple[tuple[str, str], ...]:
    """Return what GDAL's metadata says about the whole image; nothing where it cannot be read."""
    if not isinstance(xml, str):
        return ()
    try:
        # Pillow reads every text as Latin-1; GDAL writes UTF-8.
        root = ET.fromstring(xml.encode("latin-1"))
    except (ET.ParseError, ValueError):
        return ()
    whole = [item for item in root.iter("Item") if "sample" not in item.attrib]
    plain = [item for item in whole if not item.get("domain") and item.get("name")]
    return tuple((item.attrib["name"], item.text or "") for item in plain)


def _density(path: Path) -> dict[str, Any]:
    """Return the resolution of a file that is no TIFF, in pixels per inch."""
    try:
        with open_picture(path, max_pixels=1 << 62) as picture:
            found = picture.info.get("dpi")
            turned = int(picture.getexif().get(_ORIENTATION, 1)) >= 5
    except DataError:  # Pillow has its own limit of pixels
        return {}
    if not isinstance(found, tuple) or len(found) != 2:
        return {}
    resolution = _positive(*(float(value) for value in found))
    if resolution is None:
        return {}
    return {"resolution": resolution[::-1] if turned else resolution, "unit": _INCH}


def _positive(across: float, down: float) -> tuple[float, float] | None:
    """Return a resolution, None where it says nothing; NaN is not above 0."""
    return (across, down) if 0 < across < 1e9 and 0 < down < 1e9 else None
