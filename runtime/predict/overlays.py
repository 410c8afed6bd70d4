"""Overlays: colors and outlines of labels on an image, above a legend of the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import VOID, ModelSpec
from fcnkit.runtime.checks import check_flag
from fcnkit.runtime.pixels.palette import check_alpha, overlay, readable_palette
from fcnkit.runtime.predict.legend import (
    class_entries,
    draw_legend,
    least_width,
)

__all__ = ["OverlayRows", "OverlayStyle"]

_MARGIN = 4
"""White pixels around the legend."""


@dataclass(frozen=True, kw_only=True)
class OverlayStyle:
    """How an overlay looks."""

    alpha: float = 0.5
    """Weight of the class colors, 0 (image only) to 1 (colors only)."""
    outline: bool = False
    """Draw a line in the full color of a class where it begins, seen from above and left."""
    legend: bool = True
    """Name the classes in a strip below the image."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            TypeError: alpha is not a number, or outline or legend not a bool.
            ValueError: alpha is not 0..1.
        """
        object.__setattr__(self, "alpha", check_alpha("--alpha", self.alpha))
        check_flag("--outline", self.outline)
        check_flag("--legend", self.legend)


class OverlayRows:
    """Draws an overlay from top to bottom."""

    def __init__(self, width: int, spec: ModelSpec, style: OverlayStyle) -> None:
        """Choose the colors and draw the legend.

        Args:
            width: Of the image, pixels.
            spec: The model's promises. A palette whose colors look alike is replaced.
            style: How the overlay looks.
        """
        self._style, self._palette = style, readable_palette(spec.palette)
        self._above: NDArray[np.uint8] | None = None
        """Labels of the last row."""
        self.width = width
        """Of the overlay: that of the image, or more if the legend needs it."""
        self.legend = np.zeros((0, width, 3), np.uint8)
        """The rows below the image, (rows, width, 3)."""
        if style.legend:
            entries = class_entries(spec.classes, self._palette)
            self.width = max(width, least_width(entries) + 2 * _MARGIN)
            drawn = np.asarray(draw_legend(entries, width=self.width - 2 * _MARGIN))
            margins = ((_MARGIN, 0), (_MARGIN, _MARGIN), (0, 0))
            self.legend = np.pad(drawn, margins, constant_values=255)

    def draw(self, image_hwc: NDArray[np.uint8], labels_hw: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the next rows of the overlay.

        Args:
            image_hwc: uint8 (rows, W, 3).
            labels_hw: uint8 (rows, W).

        Returns:
            uint8 (rows, width, 3); what is wider than the image is white.
        """
        image_hwc, labels_hw = np.ascontiguousarray(image_hwc), np.ascontiguousarray(labels_hw)
        drawn = overlay(image_hwc, labels_hw, self._palette, alpha=self._style.alpha, threads=1)
        if self._style.outline:
            border_hw = self._borders(labels_hw) & (labels_hw != VOID)
            drawn[border_hw] = self._palette[labels_hw[border_hw]]
        self._above = labels_hw[-1].copy()
        wider = self.width - labels_hw.shape[1]
        return np.pad(drawn, ((0, 0), (0, wider), (0, 0)), constant_values=255) if wider else drawn

    def _borders(self, labels_hw: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Find the pixels whose label differs from that above or to the left."""
        above = labels_hw[0] if self._above is None else self._above
        border_hw: NDArray[np.bool_] = np.diff(labels_hw, axis=0, prepend=above[None]) != 0
        border_hw[:, 1:] |= labels_hw[:, 1:] != labels_hw[:, :-1]
        return border_hw
