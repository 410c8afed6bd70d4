"""What the samples of a picture file mean, whoever decodes them, and how they become RGB.

Pillow decodes a picture that is read whole, libvips one that is read row by row. Both only deliver
samples; their meaning comes from here, so that a file means the same on both ways.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin

from fcnkit.errors import DataError, message
from fcnkit.runtime.predict import tiff
from fcnkit.runtime.predict.bands import Bands, few_bands
from fcnkit.runtime.predict.levels import Levels

__all__ = ["Layout", "layout_of", "layout_of_tiff", "to_rgb", "with_bands"]

_MODES: Final = {1: "L", 3: "RGB", 4: "CMYK"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The samples of one pixel: first the colors, then transparency where there is any.

    1-, 2- and 4-bit samples count as 8 bits, because every decoder scales them; the entries of a
    palette count as RGB. Further samples are ignored.
    """

    colors: int
    """1 gray, 3 RGB or 4 CMYK."""
    deep: bool = False
    """16 bits per sample instead of 8."""
    alpha: int | None = None
    """Which sample is transparency."""
    premultiplied: bool = False
    """Whether the colors of the file are multiplied by the transparency; libvips and, for 8 bits,
    Pillow undo it."""
    palette: bool = False
    """Whether Pillow delivers numbers of colors."""
    inverted: bool = False
    """Whether the smallest value of 16 bits is white; for fewer bits, decoders invert."""
    key: tuple[int, ...] | None = None
    """The color that counts as transparent."""
    planes: bool = False
    """Whether the file holds one color after the other."""
    tiles: bool = False
    """Whether the file holds tiles, else strips or rows."""
    extras: int = 0
    """Samples behind the colors."""
    unnamed: bool = False
    """Whether some of them have no tag that says what they are."""
    bands: Bands | None = None
    """Which samples are red, green and blue, whatever the file says; the others are ignored."""
    converted: str = ""
    """Why decoders deliver other values than the file stores; empty where they do not."""

    @property
    def samples(self) -> int:
        """Samples per pixel that the file stores."""
        return max(self.colors + self.extras, 0 if self.alpha is None else self.alpha + 1)


def layout_of(picture: Image.Image, what: str, bands: Bands | None = None) -> Layout:
    """Say what the samples of a picture mean.

    Args:
        picture: An opened picture whose pixels are not read yet.
        what: The file, for the error.
        bands: The samples that are red, green and blue; None for what the file says.

    Returns:
        The layout.

    Raises:
        DataError: The samples cannot be shown as RGB without knowing more than the file says, or
            the file does not store the bands.
    """
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return layout_of_tiff(dict(picture.tag_v2), what, bands)
    return with_bands(_layout_of_others(picture, what), bands, what)


def with_bands(layout: Layout, bands: Bands | None, what: str) -> Layout:
    """Return a layout with the bands that are read of it.

    Raises:
        DataError: The file does not store them: it has fewer samples, numbers of colors, inks, or
            colors that are multiplied or inverted.
    """
    if bands is None:
        return layout
    for kind, there in (
        ("a palette", layout.palette),
        ("CMYK", layout.colors == 4),
        ("colors multiplied by the transparency", layout.premultiplied),
        ("white as zero", layout.inverted),
        (f"{layout.samples}", layout.samples < max(bands)),
    ):
        if there:
            raise few_bands(what, bands, kind)
    return replace(layout, bands=bands)


def _layout_of_others(picture: Image.Image, what: str) -> Layout:
    if isinstance(picture, PngImagePlugin.PngImageFile):
        return _layout_of_png(picture)
    if picture.mode == "F" or (picture.mode == "I" and picture.format != "PPM"):
        got = f"a {picture.format} file of Pillow's mode {picture.mode}"
        raise DataError(message(what, tiff.DEPTH_RULE, got, tiff.DEPTH_REMEDY))
    if picture.mode in ("L", "1"):
        return Layout(colors=1, converted="1 bit" if picture.mode == "1" else "")
    if picture.mode == "CMYK":
        return Layout(colors=4, converted="CMYK")
    alpha, palette = 3 if picture.has_transparency_data else None, picture.mode == "P"
    return Layout(colors=3, palette=palette, alpha=alpha, converted="a palette" if palette else "")


def layout_of_tiff(tags: tiff.Tags, what: str, bands: Bands | None = None) -> Layout:
    """Say what the samples of a TIFF mean.

    Args:
        tags: Of the file.
        what: The file, for the error.
        bands: As for ``layout_of``.

    Returns:
        The layout.

    Raises:
        DataError: As for ``layout_of``.
    """
    tiff.check_tiff(tags, what, any_samples=bands is not None)
    photometric, count = tags[tiff.PHOTOMETRIC], tags.get(tiff.SAMPLES, 1)
    deep = max(tiff.numbers(tags, tiff.BITS, (1,))) == 16
    colors = {0: 1, 1: 1, 5: 4}.get(photometric, 3)
    if photometric == 3:
        return with_bands(Layout(colors=3, palette=True, converted="a palette"), bands, what)
    planes = tags.get(tiff.PLANES, 1) == 2 and count > 1
    # Only what is marked as transparency is; a fourth sample is often infrared.
    extra = tiff.numbers(tags, tiff.EXTRA, ())[: count - colors]
    marked = [place for place, kind in enumerate(extra) if kind in (1, 2)]
    layout = Layout(
        colors=colors,
        deep=deep,
        alpha=colors + marked[0] if marked else None,
        premultiplied=bool(marked) and extra[marked[0]] == 1,
        inverted=photometric == 0 and (deep or bands is not None),
        planes=planes,
        tiles=tiff.TILES in tags,
        extras=count - colors,
        unnamed=count > colors + len(extra),
        converted=_conversion(tags),
    )
    return with_bands(layout, bands, what)


def _conversion(tags: tiff.Tags) -> str:
    """Return what decoders change in a TIFF, empty where nothing."""
    if tags[tiff.PHOTOMETRIC] == 5:
        return "CMYK"
    if tags[tiff.PHOTOMETRIC] == 0:
        return "white as zero"
    if 1 in tiff.numbers(tags, tiff.EXTRA, ()):
        return "colors multiplied by the transparency"
    bits = max(tiff.numbers(tags, tiff.BITS, (1,)))
    return "" if bits in (8, 16) else f"{bits} bit{'s' * (bits > 1)}"


def _layout_of_png(picture: PngImagePlugin.PngImageFile) -> Layout:
    raw = str(picture.tile[0].args)
    key = picture.info.get("transparency")
    if picture.mode == "P":
        alpha = None if key is None else 3
        return Layout(colors=3, palette=True, alpha=alpha, converted="a palette")
    deep = "16" in raw
    colors = 1 if raw[0] in "1LI" else 3
    if "A" in raw:
        return Layout(colors=colors, deep=deep, alpha=colors)
    if isinstance(key, int):
        # The key is a stored value of 1, 2 or 4 bits; the samples are scaled to 8. Pillow has
        # scaled that of 1 bit itself.
        bits = {"L;2": 2, "L;4": 4}.get(raw, 8)
        key = (key % (1 << (16 if deep else bits)) * (255 // ((1 << bits) - 1)),)
    few = {"1": "1 bit", "L;1": "1 bit", "L;2": "2 bits", "L;4": "4 bits"}
    return Layout(colors=colors, deep=deep, key=key, converted=few.get(raw, ""))


_BAND_PIXELS: Final = 1 << 18


def to_rgb(
    samples_hwc: NDArray[np.uint8 | np.uint16], layout: Layout, levels: Levels
) -> NDArray[np.uint8]:
    """Make RGB of 8 bits of samples, with transparency on white.

    Args:
        samples_hwc: uint8 or, of a deep layout, uint16 (H, W, C) with at least the layout's
            samples.
        layout: What they mean.
        levels: How 16 bits become 8.

    Returns:
        RGB (H, W, 3), the caller's own.
    """
    height, width = samples_hwc.shape[:2]
    rgb_hwc = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):  # in bands, because the steps on the way take memory
        band = slice(top, top + step)
        rgb_hwc[band] = np.asarray(_band_to_rgb(samples_hwc[band], layout, levels))
    return rgb_hwc


def _band_to_rgb(
    samples_hwc: NDArray[np.uint8 | np.uint16], layout: Layout, levels: Levels
) -> Image.Image:
    stored = samples_hwc[..., : layout.colors]
    alpha: NDArray[np.uint8] | None = None
    if layout.bands is not None:
        stored = samples_hwc[..., [band - 1 for band in layout.bands]]
    elif layout.key is not None:
        alpha = np.where((stored == layout.key).all(axis=-1), 0, 255).astype(np.uint8)
    elif layout.alpha is not None:
        opacity = samples_hwc[..., layout.alpha]
        alpha = (opacity >> 8 if layout.deep else opacity).astype(np.uint8)
    colors = levels.scale(stored.astype(np.uint16, copy=False)) if layout.deep else stored
    if layout.inverted:
        colors = 255 - colors
    size = (colors.shape[1], colors.shape[0])
    data = np.ascontiguousarray(colors, dtype=np.uint8)
    picture = Image.frombytes(_MODES[colors.shape[2]], size, data).convert("RGB")
    if alpha is None:
        return picture
    picture.putalpha(Image.frombytes("L", size, np.ascontiguousarray(alpha)))
    white = Image.new("RGBA", size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")
