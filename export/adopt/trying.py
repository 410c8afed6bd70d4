"""Whether other claims than the user's fit labeled images better: BGR, the other scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import DataError, message
from fcnkit.export.adopt.normalizing import Normalization
from fcnkit.export.adopt.source import SourceBackend
from fcnkit.runtime.artifacts.spec import InputSpec, ModelSpec
from fcnkit.runtime.backends.base import nearest_legal
from fcnkit.runtime.pixels.metrics import confusion, scores
from fcnkit.runtime.pixels.tile_plan import TilePlan
from fcnkit.runtime.pixels.tiling import cut
from fcnkit.train.data.voc import open_voc, read_pair

__all__ = ["Trial", "try_claims"]

_BETTER: Final = 0.02
"""Mean IoU that another claim must gain before it is worth a warning."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Mean IoU of the network as it is claimed, and as other claims would have it."""

    scores: dict[str, float]
    """By the claim, the user's first."""
    images: int

    def line(self) -> str:
        """Return the figures as one line."""
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.scores.items())
        return f"mean IoU on {self.images} images: {figures}"

    def doubts(self) -> tuple[str, ...]:
        """Return what fits better than the claims do, a line each."""
        (_, claimed), *others = self.scores.items()
        return tuple(
            message(
                "--data",
                "the claims must fit the images best",
                f"mean IoU {claimed:.4f}, and {value:.4f} with {name}",
                f"try {name}",
            )
            for name, value in others
            if value >= claimed + _BETTER
        )


def try_claims(
    backend: SourceBackend,
    normal: Normalization,
    root: Path,
    *,
    split: str,
    on_picture: Callable[[int, int], None] | None = None,
) -> Trial:
    """Score the network on labeled images, normalized as claimed and otherwise.

    Args:
        backend: Runs the source.
        normal: What is claimed.
        root: A folder in VOC layout.
        split: Its list.
        on_picture: Called with (images done, images in all).

    Returns:
        The scores.

    Raises:
        DataError: The folder is broken, or has other classes than the network.
    """
    folder, spec = open_voc(root, split=split), backend.spec
    count = spec.num_classes
    if len(folder.classes) != count:
        rule = f"the data must have the network's {count} classes"
        got = f"{len(folder.classes)} classes"
        raise DataError(message(f"--data {root}", rule, got, "give the data it was trained for"))
    ways = _ways(normal)
    counts = np.zeros((len(ways), count, count), np.int64)
    for done, sample in enumerate(folder.samples, start=1):
        image_hwc, truth_hw = _sized(*read_pair(sample, folder.labelmap), spec)
        height, width = truth_hw.shape
        batch = _grown(image_hwc, spec)
        for way, (swapped, factor) in enumerate(ways.values()):
            seen_nhwc = batch[..., ::-1] if swapped else batch
            labels_nhw = backend.labels_of(_normalized(seen_nhwc, spec.input, factor))
            labels_hw = np.ascontiguousarray(labels_nhw[0, :height, :width], np.uint8)
            counts[way] += confusion(truth_hw, labels_hw, count)
        if on_picture:
            on_picture(done, len(folder.samples))
    found = {
        way: scores(matrix, folder.classes).mean_iou
        for way, matrix in zip(ways, counts, strict=True)
    }
    return Trial(scores=found, images=len(folder.samples))


def _ways(normal: Normalization) -> dict[str, tuple[bool, float]]:
    """Return claims by name: whether the channels are swapped, and by what values grow."""
    color = "RGB" if normal.color == "BGR" else "BGR"
    scale = 1 if normal.scale == 255 else 255
    return {
        "as claimed": (False, 1.0),
        f"--color {color}": (True, 1.0),
        f"--scale {scale}": (False, scale / normal.scale),
    }


def _normalized(
    image_nhwc: NDArray[np.uint8], given: InputSpec, factor: float
) -> NDArray[np.float32]:
    """Normalize as the claims say, the numbers of mean and std as they are, on another scale."""
    scaled = (image_nhwc / 255 * factor - np.array(given.mean)) / np.array(given.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def _sized(
    image_hwc: NDArray[np.uint8], truth_hw: NDArray[np.uint8], spec: ModelSpec
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Resize to the largest legal sides where the image has larger ones."""
    low, high = spec.shapes.min[1:], spec.shapes.max[1:]
    height, width = truth_hw.shape
    if low != high and height <= high[0] and width <= high[1]:
        return image_hwc, truth_hw
    size = min(width, high[1]), min(height, high[0])
    if low == high:
        size = high[1], high[0]
    image = Image.fromarray(image_hwc).resize(size)
    truth = Image.fromarray(truth_hw).resize(size, Image.Resampling.NEAREST)
    return np.asarray(image), np.asarray(truth)


def _grown(image_hwc: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.uint8]:
    """Grow an image by reflection to a legal size, as often as the smallest batch asks for."""
    height, width = image_hwc.shape[:2]
    _, rows, columns = nearest_legal((1, height, width), spec)
    plan = TilePlan(height, width, rows, columns, tops=(0,), lefts=(0,))
    return cut(np.ascontiguousarray(image_hwc), plan).repeat(spec.shapes.min[0], 0)
