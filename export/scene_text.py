"""Lines of ONNX text that the pieces of a ``scene`` graph share."""

from __future__ import annotations

from typing import Final

__all__ = ["both_axes", "filled"]

_SIZES: Final = """  size_h = Shape <start = 1, end = 2> (image)
  size_w = Shape <start = 2, end = 3> (image)
  multiple = Constant <value_ints = [MULTIPLE]> ()
  one = Constant <value_ints = [1]> ()
  zero = Constant <value_ints = [0]> ()
  rest_h = Mod (size_h, multiple)
  rest_w = Mod (size_w, multiple)
"""

_PADS: Final = """  zeros_2 = Constant <value_ints = [0, 0]> ()
  zeros_3 = Constant <value_ints = [0, 0, 0]> ()
  zeros_4 = Constant <value_ints = [0, 0, 0, 0]> ()
  zeros_5 = Constant <value_ints = [0, 0, 0, 0, 0]> ()
  zeros_6 = Constant <value_ints = [0, 0, 0, 0, 0, 0]> ()
  zeros_7 = Constant <value_ints = [0, 0, 0, 0, 0, 0, 0]> ()
  before_h = Concat <axis = 0> (zeros_2, rest_h, zeros_5)
  behind_h = Concat <axis = 0> (zeros_6, rest_h, zero)
  before_w = Concat <axis = 0> (zeros_3, rest_w, zeros_4)
  behind_w = Concat <axis = 0> (zeros_7, rest_w)
"""
# Paddings are written for all axes, as OpenVINO before 2026 overlooks the axes of a Pad.


def filled(text: str, multiple: int) -> str:
    """Put the shared lines into a piece.

    Args:
        text: The piece. ``SIZES`` stands for the sides of ``image`` and what is left of them beside
            tiles. ``PADS``, after it, stands for what enlarges a tile to the image along an axis,
            before the tile or behind it.
        multiple: What the sides of a tile divide by.
    """
    shared = text.replace("SIZES\n", _SIZES).replace("PADS\n", _PADS)
    return shared.replace("MULTIPLE", str(multiple))


def both_axes(lines: str, first: dict[str, str], second: dict[str, str]) -> str:
    """Write the same lines for two axes.

    Args:
        lines: Names in braces are replaced.
        first: What the names stand for, for the first axis.
        second: The same for the second one.
    """
    return lines.format(**first) + lines.format(**second)
