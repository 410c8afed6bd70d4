"""Lines of ONNX text that the pieces of a ``scene`` graph share."""

from __future__ import annotations

from typing import Final

__all__ = ["filled"]

_SIZES: Final = """  size_h = Shape <start = 1, end = 2> (image)
  size_w = Shape <start = 2, end = 3> (image)
  multiple = Constant <value_ints = [MULTIPLE]> ()
  one = Constant <value_ints = [1]> ()
  zero = Constant <value_ints = [0]> ()
  rest_h = Mod (size_h, multiple)
  rest_w = Mod (size_w, multiple)
"""

_ROWS: Final = """  more_h = Min (rest_h, one)
  rows = Add (more_h, one)
"""

_PADS: Final = """  zeros_2 = Constant <value_ints = [0, 0]> ()
  zeros_3 = Constant <value_ints = [0, 0, 0]> ()
  zeros_4 = Constant <value_ints = [0, 0, 0, 0]> ()
  zeros_5 = Constant <value_ints = [0, 0, 0, 0, 0]> ()
  zeros_6 = Constant <value_ints = [0, 0, 0, 0, 0, 0]> ()
  zeros_7 = Constant <value_ints = [0, 0, 0, 0, 0, 0, 0]> ()
  pad_right = Concat <axis = 0> (zeros_7, rest_w)
  pad_left = Concat <axis = 0> (zeros_3, rest_w, zeros_4)
  pad_bottom = Concat <axis = 0> (zeros_6, rest_h, zero)
  pad_top = Concat <axis = 0> (zeros_2, rest_h, zeros_5)
"""
# Paddings are written for all axes, as OpenVINO before 2026 overlooks the axes of a Pad.


def filled(text: str, multiple: int) -> str:
    """Put the shared lines into a piece.

    Args:
        text: The piece. ``SIZES`` stands for the sides of ``image`` and what is left of them beside
            tiles. ``ROWS``, after it, stands for the number of rows of tiles, 1 or 2, and ``PADS``
            for what enlarges a tile to the image, by the side where it is added.
        multiple: What the sides of a tile divide by.
    """
    for name, lines in (("SIZES", _SIZES), ("ROWS", _ROWS), ("PADS", _PADS)):
        text = text.replace(f"{name}\n", lines)
    return text.replace("MULTIPLE", str(multiple))
