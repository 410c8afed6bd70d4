"""What the samples of a TIFF file mean, by its tags."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from PIL import TiffImagePlugin

from fcnkit.errors import DataError, message

__all__ = [
    "DEPTH_REMEDY",
    "DEPTH_RULE",
    "Tags",
    "check_tiff",
    "describe",
    "numbers",
    "size_and_orientation",
    "tags_of",
]

DEPTH_RULE: Final = "a picture has unsigned samples of at most 16 bits"
DEPTH_REMEDY: Final = "convert it: only you know which values are black and white"

_FILTERS: Final = threading.Lock()
"""Filters belong to the process. Two threads that change them would restore each other's."""

Tags = Mapping[int, Any]
"""Values by the number of the tag, as Pillow reads them."""

PHOTOMETRIC: Final = 262
COMPRESSION: Final = 259
SAMPLES: Final = 277
PLANES: Final = 284
EXTRA: Final = 338
FORMATS: Final = 339
BITS: Final = 258
INKS: Final = 332
TILES: Final = 324
TILE_BYTES: Final = 325

_COLORS: Final = {
    0: "gray",
    1: "gray",
    2: "RGB",
    3: "palette",
    4: "mask",
    5: "CMYK",
    6: "YCbCr",
    8: "L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "color filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
_KINDS: Final = {2: "signed ", 3: "float ", 4: "undefined ", 5: "complex ", 6: "complex "}
_EXTRA: Final = {0: "unspecified", 1: "premultiplied alpha", 2: "alpha"}
_COMPRESSIONS: Final = {
    6: "old-style JPEG",
    34676: "SGI Log",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
}
_COUNTS: Final = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
"""Color samples by photometric interpretation."""
_DECODED: Final = (1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000)
"""Compressions that Pillow and libvips decode; the last two where they were built so."""


def numbers(tags: Tags, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return a tag's values, however many there are."""
    value = tags.get(tag, default)
    return tuple(value) if isinstance(value, tuple) else (value,)


def tags_of(path: Path) -> Tags | None:
    """Read the tags of a TIFF's first picture.

    Args:
        path: The file.

    Returns:
        The tags; None where they are damaged or say nothing of a picture.
    """
    try:
        with path.open("rb") as file:
            header = file.read(16)
            order = "<" if header[:2] == b"II" else ">"
            big = struct.unpack(f"{order}H", header[2:4]) == (43,)
            tags = TiffImagePlugin.ImageFileDirectory_v2(
                header if header[2:3] == b"+" else header[:8]
            )
            # Pillow takes a BigTIFF in the other byte order for an ordinary one.
            tags._bigtiff = big
            start = struct.unpack(f"{order}{'8xQ' if big else '4xI'}", header[: 16 if big else 8])
            file.seek(*start)
            with _FILTERS, warnings.catch_warnings():
                # Pillow warns of tags that are cut short. fcnkit's own warnings stay warnings.
                warnings.filterwarnings("error", category=UserWarning, module=r"PIL\.")
                tags.load(file)
                found = dict(tags)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error, OverflowError):
        return None
    except UserWarning:
        return None
    return found if {256, 257, PHOTOMETRIC} <= set(found) else None


def size_and_orientation(path: Path) -> tuple[tuple[int, int], int]:
    """Return the height and width of a TIFF that has tags, and its EXIF orientation."""
    tags = tags_of(path)
    assert tags is not None  # the caller read them before
    return (int(tags[257]), int(tags[256])), int(tags.get(274, 1))


def describe(tags: Tags) -> str:
    """Word the layout that the tags of a TIFF give."""
    try:
        photometric, count = int(tags[PHOTOMETRIC]), int(tags.get(SAMPLES, 1))
        bits = dict.fromkeys(numbers(tags, BITS, (1,)))
        kinds = dict.fromkeys(numbers(tags, FORMATS, (1,)))
        extra = numbers(tags, EXTRA, ())
        compression, planes = int(tags.get(COMPRESSION, 1)), tags.get(PLANES, 1)
    except (TypeError, ValueError):
        return "a TIFF with damaged tags"
    color = _COLORS.get(photometric, f"photometric {photometric}")
    white = "white-is-zero " if photometric == 0 else ""
    kind = "".join(_KINDS.get(one, "") for one in kinds)
    text = f"a TIFF of {count} {white}{color} sample{'s' * (count > 1)}"
    text += f" of {' and '.join(map(str, bits))} {kind}bit{'s' * (list(bits) != [1])}"
    if extra:
        text += f", extra: {' and '.join(_EXTRA.get(one, str(one)) for one in extra)}"
    if planes == 2 and count > 1:
        text += ", in separate planes"
    if compression not in (1, *_DECODED):
        text += f", compressed by {_COMPRESSIONS.get(compression, f'method {compression}')}"
    return text


def check_tiff(tags: Tags, what: str, *, any_samples: bool = False) -> None:
    """Refuse a TIFF whose colors cannot be told without knowing more than it says.

    Args:
        tags: Of the file.
        what: The file, for the error.
        any_samples: A gray TIFF may have any number of samples, because a user says what they are.

    Raises:
        DataError: Naming the layout.
    """
    bits = set(numbers(tags, BITS, (1,)))
    if set(numbers(tags, FORMATS, (1,))) != {1} or max(bits) > 16:
        raise DataError(message(what, DEPTH_RULE, describe(tags), DEPTH_REMEDY))
    compression, photometric = tags.get(COMPRESSION, 1), tags[PHOTOMETRIC]
    colors, count = _COUNTS.get(photometric, 0), tags.get(SAMPLES, 1)
    if compression not in _DECODED:
        rule = "a TIFF must be compressed by a method that is read"
    elif colors == 0 or (photometric == 6 and compression != 7):
        rule = "a TIFF must be gray, RGB, CMYK, of a palette, or YCbCr as JPEG"
    elif photometric == 5 and tags.get(INKS, 1) != 1:
        rule = "the inks of a TIFF must be CMYK"
    elif len(bits) > 1 or not bits <= ({8, 16} if count > 1 else {1, 2, 4, 8, 16}):
        rule = "a TIFF must have 1, 2, 4, 8 or 16 bits per sample, several samples 8 or 16"
    elif count < colors or (photometric == 3 and (count > 1 or bits == {16})):
        rule = "a TIFF must have a sample per color, and a palette one sample of at most 8 bits"
    elif any_samples and colors == 1 and count > 1 and tags.get(PLANES, 1) == 2:
        # libvips mixes them up, and Pillow does not read them.
        rule = "a gray TIFF of several samples must hold them beside each other, not in planes"
        raise DataError(message(what, rule, describe(tags), "save it with interleaved samples"))
    elif colors == 1 and count > 1 and not (any_samples or _is_gray_with_one_more(tags, count)):
        rule = "a gray TIFF must have one sample, or a second one that is named and beside it"
    elif tags.get(PLANES) == 2 and TILES in tags and (bits == {16} or count > colors):
        rule = "a TIFF of separate planes in tiles must have 8 bits and no extra samples"
    else:
        return
    raise DataError(message(what, rule, describe(tags), "convert it to RGB of 8 bits"))


def _is_gray_with_one_more(tags: Tags, count: int) -> bool:
    """Whether a gray TIFF has a further sample that both decoders tell from the gray."""
    named = len(numbers(tags, EXTRA, ())) == 1
    return count == 2 and tags[PHOTOMETRIC] == 1 and named and tags.get(PLANES, 1) == 1
