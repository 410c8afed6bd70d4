"""Which samples of a picture file are red, green and blue, where the file does not say it."""

from __future__ import annotations

from typing import Final

from fcnkit.errors import BadTypeError, BadValueError, DataError, message
from fcnkit.runtime.checks import check_int

__all__ = ["MOST_BANDS", "Bands", "bands_text", "check_bands", "few_bands"]

Bands = tuple[int, int, int]
"""The samples, counted from 1, that are read as red, green and blue."""

MOST_BANDS: Final = 65535
"""Samples per pixel that a TIFF can have."""


def check_bands(what: str, bands: object) -> Bands | None:
    """Return bands as three integers, or say what is wrong with them.

    Args:
        what: The option or argument, for the error.
        bands: What a caller gave: three numbers from 1 on, or None for what the file says.

    Returns:
        The bands.

    Raises:
        TypeError: They are not a tuple of integers.
        ValueError: They are not three, or not 1..65535.
    """
    if bands is None:
        return None
    if not isinstance(bands, (tuple, list)):
        rule = "must be three numbers of samples, counted from 1"
        raise BadTypeError(message(what, rule, repr(bands), "pass (1, 2, 3)"))
    if len(bands) != 3:
        rule = "networks take three inputs, so three samples are read"
        got = f"{len(bands)} ({bands_text(bands)})" if bands else "none"
        raise BadValueError(message(what, rule, got, "choose three, such as 1,2,3 or 4,4,4"))
    red, green, blue = (check_int(what, band, 1, MOST_BANDS) for band in bands)
    return red, green, blue


def bands_text(bands: tuple[object, ...] | list[object] | Bands) -> str:
    """Write bands as users do: ``1,2,3``."""
    return ",".join(str(band) for band in bands)


def few_bands(what: str, bands: Bands, got: str) -> DataError:
    """Word the error for a file that lacks a band.

    Args:
        what: The file.
        bands: Those that are read.
        got: What the file has.
    """
    rule = f"bands {bands_text(bands)} need stored samples, {max(bands)} or more per pixel"
    return DataError(message(what, rule, got, "choose bands that every picture has"))
