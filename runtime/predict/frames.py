"""Images that come as arrays: from OpenCV, a camera, a decoder."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.checks import check_choice
from fcnkit.runtime.pixels.tile_plan import MAX_SIDE
from fcnkit.runtime.predict.layouts import Layout, to_rgb
from fcnkit.runtime.predict.levels import Levels

__all__ = ["Color", "rgb_image"]

Color = Literal["RGB", "BGR", "GRAY"]
"""Order of the channels of an array. A fourth channel of RGB or BGR is transparency."""

_CHANNELS: Final[dict[Color, tuple[int, ...]]] = {"RGB": (3, 4), "BGR": (3, 4), "GRAY": (1,)}
_SHAPES: Final[dict[Color, str]] = {
    "RGB": "(H, W, 3) or (H, W, 4)",
    "BGR": "(H, W, 3) or (H, W, 4)",
    "GRAY": "(H, W) or (H, W, 1)",
}


def rgb_image(image: object, color: Color = "RGB") -> NDArray[np.uint8]:
    """Return an array as the kernels take it: RGB, C-contiguous.

    Transparency is put on white, as that of files is.

    Args:
        image: What a caller gave for an image, any strides.
        color: Order of its channels.

    Returns:
        uint8 (H, W, 3); the array itself where nothing is to be done.

    Raises:
        TypeError: It is not a uint8 numpy array.
        ValueError: Its shape does not fit the color, a side is 0 or too long, or the color is
            unknown.
    """
    color = check_choice("Segmenter: color", color, get_args(Color))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = type(image).__name__
        got = f"array of {image.dtype}" if isinstance(image, np.ndarray) else kind
        remedy = "pass np.asarray(picture.convert('RGB')) of a Pillow picture"
        raise BadTypeError(
            message("Segmenter", "image must be a numpy array of uint8", got, remedy)
        )
    _check_shape(image.shape, color)
    if color == "GRAY":
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.shape[2] == 4:
        image = to_rgb(image, Layout(colors=3, alpha=3), Levels(None))
    image = np.ascontiguousarray(image)
    if color == "BGR":
        swapped = np.empty_like(image)
        for channel in range(3):  # 3 times as fast as a copy of image[..., ::-1]
            swapped[..., channel] = image[..., 2 - channel]
        return swapped
    return image


def _check_shape(shape: tuple[int, ...], color: Color) -> None:
    rule = f"with color={color!r}, image must have shape {_SHAPES[color]}, H and W 1..{MAX_SIDE}"
    channels = 1 if len(shape) == 2 and color == "GRAY" else shape[-1] if len(shape) == 3 else 0
    if channels not in _CHANNELS[color]:
        raise BadValueError(message("Segmenter", rule, shape, _remedy(shape)))
    if min(shape) < 1 or max(shape) > MAX_SIDE:
        raise BadValueError(message("Segmenter", rule, shape, "pass one image, with pixels"))


def _remedy(shape: tuple[int, ...]) -> str:
    """Say what to do about a shape that does not fit the color."""
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        return "pass color='GRAY' for a gray image"
    if len(shape) == 3 and shape[2] in (3, 4):
        return "pass color='RGB' or color='BGR'"
    if len(shape) == 3 and shape[0] in (3, 4) and shape[2] > 4:
        return "this looks channels-first, pass image.transpose(1, 2, 0)"
    return "pass one image"
