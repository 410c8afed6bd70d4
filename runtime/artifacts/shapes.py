"""Shapes of a model's input, and how users write them."""

from __future__ import annotations

from fcnkit.errors import BadValueError, message

__all__ = ["Shape", "format_shape", "parse_shape"]

Shape = tuple[int, int, int]
"""(N, H, W): pictures, rows, columns."""


def format_shape(shape: Shape) -> str:
    """Write a shape as users do: ``8x320x480`` for N x H x W."""
    return "x".join(str(side) for side in shape)


def parse_shape(text: str, what: str) -> Shape:
    """Read ``8x320x480`` as (N, H, W).

    Args:
        text: Three positive decimal integers joined by ``x``.
        what: The option or argument, for the error.

    Returns:
        The shape as three integers.

    Raises:
        ValueError: text is anything else.
    """
    parts = text.lower().split("x")
    if len(parts) == 3 and all(part.isascii() and part.isdigit() for part in parts):
        batch, height, width = (int(part) for part in parts)
        if min(batch, height, width) >= 1:
            return batch, height, width
    raise BadValueError(message(what, "a shape is written NxHxW", repr(text), "write 8x320x480"))
