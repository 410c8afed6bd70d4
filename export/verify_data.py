"""Comparing two models on a folder of pictures, with truth where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import DataError, message
from fcnkit.export.difference import Difference, DifferenceMeter
from fcnkit.export.subject import Answer, Subject
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.pixels.metrics import confusion, scores
from fcnkit.runtime.pixels.tiling import cut, plan_padded
from fcnkit.runtime.predict.bands import Bands
from fcnkit.runtime.predict.levels import Range
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.tree import is_picture
from fcnkit.train.data.voc import LISTS, VocFolder, open_voc, read_pair

__all__ = ["ComparisonData", "DataReport", "compare_on_data", "open_comparison_data"]


@dataclass(frozen=True, kw_only=True)
class ComparisonData:
    """Pictures to compare on."""

    root: Path
    pictures: tuple[Path, ...]
    """Where there is no truth."""
    truth: VocFolder | None
    range: Range | None = None
    """The values that become 0 and 255 in pictures of more than 8 bits."""
    bands: Bands | None = None
    """The stored samples that are red, green and blue; None for what the file says."""

    def seen_by(self, spec: ModelSpec) -> ComparisonData:
        """Return the pictures as a model reads them."""
        truth = None if self.truth is None else self.truth.seen_by(spec)
        return replace(self, truth=truth, range=spec.range, bands=spec.bands)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.truth.samples) if self.truth else len(self.pictures)

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]:
        """Yield each picture, uint8 (H, W, 3), and its true labels (H, W)."""
        if self.truth:
            for sample in self.truth.samples:
                yield read_pair(sample, self.truth.labelmap)
        else:
            for path in self.pictures:
                yield read_picture(path, range=self.range, bands=self.bands), None


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What a comparison on data measured."""

    folder: str
    split: str | None
    pictures: int
    difference: Difference
    mean_iou_a: float | None
    """None without truth."""
    mean_iou_b: float | None

    @property
    def miou_drop(self) -> float | None:
        """Mean IoU of the first side less that of the second; None without truth."""
        if self.mean_iou_a is None or self.mean_iou_b is None:
            return None
        return self.mean_iou_a - self.mean_iou_b

    def summary(self) -> str:
        """Return the figures as words."""
        text = f"{self.difference.summary()} on {self.pictures} pictures of {self.folder}"
        if self.mean_iou_a is None:
            return f"{text}, which has no truth"
        return f"{text}, mean IoU {self.mean_iou_a:.4f} and {self.mean_iou_b:.4f}"


def open_comparison_data(root: Path, *, split: str = "val") -> ComparisonData:
    """Find the pictures of a folder.

    Args:
        root: A folder in VOC layout, or a folder of pictures.
        split: The list, in VOC layout.

    Returns:
        The pictures.

    Raises:
        DataError: There are none.
    """
    if (root / LISTS).is_dir():
        return ComparisonData(root=root, pictures=(), truth=open_voc(root, split=split))
    found: tuple[Path, ...] = ()
    if root.is_dir():
        found = tuple(sorted(path for path in root.iterdir() if is_picture(path)))
    if not found:
        rule = "must be a folder of pictures or in VOC layout"
        got = "no pictures" if root.is_dir() else "no such folder"
        raise DataError(message(f"--data {root}", rule, got, "check the path"))
    return ComparisonData(root=root, pictures=found, truth=None)


def compare_on_data(
    a: Subject,
    b: Subject,
    data: ComparisonData,
    *,
    on_picture: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Run both sides on every picture, resized where a side takes one size only.

    A picture whose sides are not multiples of the model's is grown by reflection where a side has
    head ``labels``, and else covered by overlapping tiles, for both sides alike.

    Args:
        a: The one that is right.
        b: The one in question.
        data: The pictures.
        on_picture: Called with (pictures done, pictures in all).

    Returns:
        What was measured.

    Raises:
        DataError: A file is broken, or the data's classes are not the models'.
    """
    classes = a.spec.classes
    if data.truth and data.truth.classes != classes:
        rule = f"the data's classes must be the model's, {', '.join(classes)}"
        got = ", ".join(data.truth.classes)
        raise DataError(message(str(data.root), rule, got, "give the data it was trained for"))
    grown = "labels" in (a.spec.head, b.spec.head)
    multiple = math.lcm(a.spec.input.multiple, b.spec.input.multiple) if grown else None
    meter = DifferenceMeter()
    counts = np.zeros((2, len(classes), len(classes)), np.int64)
    for done, pair in enumerate(data.seen_by(a.spec), start=1):
        image_hwc, truth_hw = _resized(*pair, (a, b))
        answers = [_answer(side, image_hwc, multiple=multiple) for side in (a, b)]
        meter.add(*answers)
        if truth_hw is not None:
            for side, answer in enumerate(answers):
                labels_hw = np.ascontiguousarray(answer.labels_nhw[0], np.uint8)
                counts[side] += confusion(truth_hw, labels_hw, len(classes))
        if on_picture:
            on_picture(done, len(data))
    ious = [scores(count, classes).mean_iou if data.truth else None for count in counts]
    return DataReport(
        folder=str(data.root),
        split=data.truth.split if data.truth else None,
        pictures=len(data),
        difference=meter.result(),
        mean_iou_a=ious[0],
        mean_iou_b=ious[1],
    )


def _resized(
    image_hwc: NDArray[np.uint8], truth_hw: NDArray[np.uint8] | None, sides: tuple[Subject, Subject]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Bring a picture and its truth to the one size that a side takes, where there is such."""
    for side in sides:
        (_, *low), (_, *high) = side.spec.shapes.min, side.spec.shapes.max
        if low == high:
            size = low[1], low[0]
            image_hwc = np.asarray(Image.fromarray(image_hwc).resize(size))
            if truth_hw is not None:
                truth_hw = np.asarray(
                    Image.fromarray(truth_hw).resize(size, Image.Resampling.NEAREST)
                )
    return image_hwc, truth_hw


def _answer(side: Subject, image_hwc: NDArray[np.uint8], *, multiple: int | None) -> Answer:
    """Label one picture, grown to multiples; with None only where it is smaller than legal."""
    height, width = image_hwc.shape[:2]
    low = side.spec.shapes.min[1:]
    if multiple is None and height >= low[0] and width >= low[1]:
        return _first(side, image_hwc[None])
    grown = max(height, low[0]), max(width, low[1])
    plan = replace(
        plan_padded(*grown, multiple=multiple or side.spec.input.multiple),
        height=height,
        width=width,
    )
    whole = _first(side, cut(np.ascontiguousarray(image_hwc), plan))
    logits = whole.logits_nchw
    return Answer(
        whole.labels_nhw[:, :height, :width],
        None if logits is None else logits[:, :, :height, :width],
    )


def _first(side: Subject, image_nhwc: NDArray[np.uint8]) -> Answer:
    """Label one picture, repeated as often as the smallest batch asks for."""
    whole = side.answer(image_nhwc.repeat(side.spec.shapes.min[0], 0))
    logits = whole.logits_nchw
    return Answer(whole.labels_nhw[:1], None if logits is None else logits[:1])
