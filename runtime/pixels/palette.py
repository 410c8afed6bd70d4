"""Labels and colors: the VOC palette, label maps to RGB and back, and overlays.

Names: ``labels_hw`` is uint8 (H, W), ``rgb_hwc`` and ``image_hwc`` are uint8 (H, W, 3) in RGB
order. Label 255 is void: it has its own color and counts for nothing. Only a palette of 256 colors
leaves no room for void: there 255 is a label like any other, with the palette's color.

All functions release the GIL while they work, so other threads can run; none of them may change
an input meanwhile.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.checks import (
    Color,
    Palette,
    check_bytes,
    check_color,
    check_image,
    check_int,
    check_labels,
    check_output,
    check_palette,
    check_threads,
)
from fcnkit.runtime.pixels import _kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "VOC_CLASSES",
    "VOID_COLOR",
    "Encoded",
    "decode",
    "encode",
    "overlay",
    "readable_palette",
    "unknown_colors",
    "voc_palette",
]

VOC_CLASSES: Final = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""Names of the 21 Pascal VOC classes, by label."""


VOID_COLOR: Final = (224, 224, 192)
"""Color of void in VOC's masks: the contours of the objects."""

_APART: Final = 30.0
"""Distance in RGB below which a person takes two colors for one."""


class Encoded(NamedTuple):
    """A label map made from colors, and how many of its pixels had no known color."""

    labels: NDArray[np.uint8]
    unknown: int


def voc_palette(n: int = 256) -> NDArray[np.uint8]:
    """Return the Pascal VOC palette, uint8 (n, 3), 1 <= n <= 256.

    The bits of a label are dealt out to red, green and blue in turn, lowest first, and fill each
    channel from its highest bit down, so all 256 colors differ.

    Source: the function ``VOClabelcolormap`` of the VOC development kit.

    Example:
        >>> voc_palette(3).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    labels = np.arange(check_int("voc_palette: n", n, 1, 256))
    colors = np.zeros((len(labels), 3), np.uint8)
    for bit in range(8):
        turn, channel = divmod(bit, 3)
        colors[:, channel] |= ((labels >> bit & 1) << (7 - turn)).astype(np.uint8)
    return colors


def readable_palette(palette: Palette) -> NDArray[np.uint8]:
    """Return colors that a person can tell apart.

    Args:
        palette: The model's, one RGB color per class, as for ``decode``.

    Returns:
        uint8 (K, 3): the palette itself, or Pascal VOC's where two of its colors are nearly equal,
        such as the gray levels 0, 1, 2 of masks that are meant for programs.

    Raises:
        TypeError: The palette has a wrong dtype.
        ValueError: It does not hold 1 to 256 colors of three values 0..255.
    """
    colors = check_palette("readable_palette: palette", palette)
    differences = colors[:, None].astype(float) - colors[None]
    distances = np.sqrt((differences**2).sum(2)) + np.eye(len(colors)) * 1000
    if distances.min() >= _APART:
        return colors
    return voc_palette(256)[: len(colors)]


@lru_cache(maxsize=16)
def all_colors(palette: tuple[Color, ...]) -> bytes:
    """Return 256 colors for a palette PNG: viewers show void at 255 in VOC's color for it."""
    colors = voc_palette()
    colors[: len(palette)] = palette
    return colors.tobytes()


def decode(
    labels_hw: NDArray[np.uint8],
    palette: Palette,
    *,
    void_color: Sequence[int] = VOID_COLOR,
    out: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Color a label map.

    Args:
        labels_hw: uint8 array of shape (H, W), C-contiguous.
        palette: Colors by label, uint8 (K, 3) or K triples, 1 <= K <= 256.
        void_color: Color of label 255 where the palette has fewer than 256 colors.
        out: Array for the result, uint8 (H, W, 3); None makes one.
        threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

    Returns:
        The picture, uint8 (H, W, 3): out where given.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape or layout is wrong, or a label has no color.

    Example:
        >>> decode(np.array([[0, 1, 255]], np.uint8), voc_palette(21)).tolist()
        [[[0, 0, 0], [128, 0, 0], [224, 224, 192]]]
    """
    labels = check_labels("decode: labels_hw", labels_hw)
    colors = check_palette("decode: palette", palette)
    void = check_color("decode: void_color", void_color)
    rgb = check_output("decode: out", out, (*labels.shape, 3), np.uint8, (labels, colors))
    if not _kernels.decode(labels, colors, void, rgb, check_threads("decode", threads)):
        raise _colorless("decode: labels_hw", labels, len(colors))
    return rgb


def encode(
    rgb_hwc: NDArray[np.uint8],
    palette: Palette,
    *,
    void_color: Sequence[int] = VOID_COLOR,
    unknown: int | Literal["error"] = VOID,
    out: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> Encoded:
    """Turn a colored mask into labels, the inverse of ``decode``.

    Args:
        rgb_hwc: uint8 array of shape (H, W, 3), C-contiguous.
        palette: Colors by label, uint8 (K, 3) or K triples, 1 <= K <= 256, all different.
        void_color: Becomes 255, and is a known color. Unless the palette has 256 colors, it
            must not be one of them.
        unknown: Label for pixels of any other color, or "error" to refuse them.
        out: Array for the labels, uint8 (H, W); None makes one.
        threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

    Returns:
        The labels, uint8 (H, W), and the number of pixels of no known color.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape or layout is wrong, two labels share a color, or unknown is "error"
            and there are unknown colors; the first few are listed with their counts.

    Example:
        >>> picture = np.array([[[128, 0, 0], [1, 2, 3]]], np.uint8)
        >>> encode(picture, voc_palette(21))
        Encoded(labels=array([[  1, 255]], dtype=uint8), unknown=1)
    """
    rgb = check_image("encode: rgb_hwc", rgb_hwc)
    colors = check_palette("encode: palette", palette)
    encoder = _encoder(colors.tobytes(), check_color("encode: void_color", void_color))
    refuse = isinstance(unknown, str) and unknown == "error"
    label = VOID if refuse else check_int("encode: unknown", unknown, 0, 255)
    labels = check_output("encode: out", out, rgb.shape[:2], np.uint8, (rgb, colors))
    count = _kernels.encode(rgb, encoder, label, labels, check_threads("encode", threads))
    if count and refuse:
        found = unknown_colors(rgb, colors, void_color=void_color)
        listed = ", ".join(f"{color} x {times}" for color, times in list(found.items())[:5])
        more = "" if len(found) <= 5 else f" and {len(found) - 5} more colors"
        rule = "every color must be the palette's or void"
        raise BadValueError(message("encode: rgb_hwc", rule, listed + more, "or set unknown=255"))
    return Encoded(labels, count)


def unknown_colors(
    rgb_hwc: NDArray[np.uint8],
    palette: Palette,
    *,
    void_color: Sequence[int] = VOID_COLOR,
) -> dict[Color, int]:
    """Count the pixels of every color that is neither the palette's nor void.

    For reports: takes much longer than ``encode``, which counts them all in one number.

    Args:
        rgb_hwc: uint8 array of shape (H, W, 3), C-contiguous.
        palette: Colors by label, uint8 (K, 3) or K triples, 1 <= K <= 256.
        void_color: A known color as well.

    Returns:
        Pixels by color (r, g, b), most frequent first, then by color.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape or layout is wrong.
    """
    rgb = check_image("unknown_colors: rgb_hwc", rgb_hwc)
    colors = check_palette("unknown_colors: palette", palette)
    void = np.array(check_color("unknown_colors: void_color", void_color), np.uint8)
    keys, counts = np.unique(_keys(rgb.reshape(-1, 3)), return_counts=True)
    strange = ~np.isin(keys, _keys(np.vstack([colors, void])))
    pairs = zip(keys[strange].tolist(), counts[strange].tolist(), strict=True)
    ordered = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return {(key >> 16, key >> 8 & 255, key & 255): count for key, count in ordered}


def overlay(
    image_hwc: NDArray[np.uint8],
    labels_hw: NDArray[np.uint8],
    palette: Palette,
    *,
    alpha: float = 0.5,
    out: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Blend the colors of labels into an image; void pixels stay as they are.

    Every value is ``(image * (256 - w) + color * w + 128) >> 8`` with ``w = round(256 * alpha)``:
    the exact blend for multiples of 1/256, within 1 of it for any other alpha.

    Args:
        image_hwc: uint8 array of shape (H, W, 3), C-contiguous.
        labels_hw: uint8 array of shape (H, W), C-contiguous.
        palette: Colors by label, uint8 (K, 3) or K triples, 1 <= K <= 256.
        alpha: Weight of the color, 0 (image only) to 1 (color only).
        out: Array for the result, uint8 (H, W, 3); may be image_hwc itself; None makes one.
        threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

    Returns:
        The blend, uint8 (H, W, 3): out where given.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape, layout or alpha is wrong, or a label has no color.
    """
    image = check_image("overlay: image_hwc", image_hwc)
    labels = check_labels("overlay: labels_hw", labels_hw)
    colors = check_palette("overlay: palette", palette)
    if labels.shape != image.shape[:2]:
        rule = f"must have the image's height and width, {image.shape[:2]}"
        raise BadValueError(message("overlay: labels_hw", rule, labels.shape, "resize one of them"))
    weight = round(256 * check_alpha("overlay: alpha", alpha))
    inputs = (labels, colors) if out is image_hwc else (image, labels, colors)
    result = check_output("overlay: out", out, image.shape, np.uint8, inputs)
    count = check_threads("overlay", threads)
    if not _kernels.overlay(image, labels, colors, weight, result, count):
        raise _colorless("overlay: labels_hw", labels, len(colors))
    return result


def check_alpha(what: str, alpha: float) -> float:
    """Return the weight of a color, or say what is wrong with it.

    Raises:
        TypeError: It is not a number.
        ValueError: It is not 0..1.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.floating):
        rule = "must be a number"
        raise BadTypeError(message(what, rule, type(alpha).__name__, "pass 0.0 to 1.0"))
    if not 0.0 <= alpha <= 1.0:
        raise BadValueError(message(what, "must be 0..1", alpha, "pass 0.0 to 1.0"))
    return float(alpha)


def _keys(colors: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Colors (N, 3) as integers that sort as (r, g, b) does."""
    red, green, blue = colors.T.astype(np.int64)
    keys: NDArray[np.int64] = (red << 16) | (green << 8) | blue
    return keys


@lru_cache(maxsize=64)
def _encoder(palette: bytes, void_color: Color) -> _kernels.Encoder:
    """Find the palette's hash function, once: it takes longer than a small picture."""
    colors = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    if len(colors) < 256 or void_color not in set(map(tuple, colors.tolist())):
        colors = np.vstack([colors, np.array([void_color], np.uint8)])
    labels = np.arange(len(colors))
    labels[-1] = VOID
    distinct, first = np.unique(_keys(colors), return_index=True)
    if len(distinct) != len(colors):
        again = sorted(set(range(len(colors))) - set(first.tolist()))[0]
        color = tuple(colors[again].tolist())
        raise BadValueError(
            message(
                "encode: palette",
                "colors must differ from each other and void",
                f"{color} twice",
                "give every label its own color",
            )
        )
    return _kernels.Encoder(colors, labels.astype(np.uint8))


def _colorless(what: str, labels: NDArray[np.uint8], classes: int) -> ValueError:
    """Build the error for labels that have no color; slow, but it names them."""
    check_bytes(what, labels)
    found = np.unique(labels[(labels >= classes) & (labels != VOID)]).tolist()
    listed = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
    rule = f"labels must be 0..{classes - 1} or {VOID}"
    return BadValueError(message(what, rule, listed, "pass the palette these labels belong to"))
