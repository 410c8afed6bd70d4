"""Evaluation: full pictures, void ignored, whatever computes the labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fcnkit.errors import DataError, message
from fcnkit.runtime.metrics import Scores, confusion, scores
from fcnkit.runtime.segmenter import Segmenter
from fcnkit.train.voc import VocFolder, read_pair

__all__ = ["evaluate"]


def evaluate(
    segmenter: Segmenter, folder: VocFolder, *, on_picture: Callable[[int, int], None] | None = None
) -> Scores:
    """Compare predicted with true labels over every picture of a split.

    One confusion matrix is accumulated over all pictures, as the Pascal VOC evaluation does.

    Args:
        segmenter: A checkpoint or an exported model.
        folder: An opened split.
        on_picture: Called with (pictures done, pictures in all).

    Returns:
        The scores; void pixels count for nothing.

    Raises:
        DataError: The model's classes are not the folder's, or a file is broken.
    """
    classes = segmenter.spec.classes
    if classes != folder.classes:
        rule = f"the data's classes must be the model's, {', '.join(classes)}"
        got = ", ".join(folder.classes)
        raise DataError(message(str(folder.root), rule, got, "give the data it was trained for"))
    total = np.zeros((len(classes), len(classes)), np.int64)
    for done, sample in enumerate(folder.samples, start=1):
        image_hwc, target_hw = read_pair(sample, folder.labelmap)
        total += confusion(target_hw, segmenter(image_hwc), len(classes))
        if on_picture:
            on_picture(done, len(folder.samples))
    return scores(total, classes)
