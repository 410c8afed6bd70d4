"""Scores of label maps: the confusion matrix and what follows from it.

Names: ``target_hw`` and ``predicted_hw`` are uint8 label maps of one shape.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.checks import check_array, check_int, check_labels, check_threads
from fcnkit.runtime.pixels import _kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Scores", "confusion", "scores"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How well predictions fit their targets; every number is 0..1, higher is better."""

    pixel_accuracy: float
    """Share of counted pixels that have the right label."""
    class_accuracy: float
    """Mean over the classes in the target of the share of their pixels that were found."""
    mean_iou: float
    """Mean of ``iou`` over the classes that have one."""
    frequency_weighted_iou: float
    """Mean of ``iou`` weighted by how many pixels of the class the target has."""
    iou: dict[str, float | None]
    """Intersection over union by class name; None for a class in neither target nor prediction."""

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON data, under the names of the fields."""
        return asdict(self)


def confusion(
    target_hw: NDArray[np.uint8],
    predicted_hw: NDArray[np.uint8],
    num_classes: int,
    *,
    ignore: int = 255,
    threads: int | None = None,
) -> NDArray[np.int64]:
    """Count the pixels of every pair of true and predicted label.

    Args:
        target_hw: True labels, uint8 (H, W), 0..num_classes - 1 or ignore, C-contiguous.
        predicted_hw: Predicted labels, uint8 (H, W), C-contiguous. Where the target is ignore any
            value will do, elsewhere 0..num_classes - 1.
        num_classes: Number of classes K, 1..256.
        ignore: Target label of pixels that do not count, 0..255.
        threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

    Returns:
        int64 (K, K): entry [t, p] counts the pixels of target t predicted as p. Matrices of
        several pictures add up.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape, layout or label is wrong.

    Example:
        >>> target = np.array([[0, 1, 255]], np.uint8)
        >>> confusion(target, np.array([[1, 1, 0]], np.uint8), 2).tolist()
        [[0, 1], [0, 1]]
    """
    target = check_labels("confusion: target_hw", target_hw)
    predicted = check_labels("confusion: predicted_hw", predicted_hw)
    classes = check_int("confusion: num_classes", num_classes, 1, 256)
    ignored = check_int("confusion: ignore", ignore, 0, 255)
    if predicted.shape != target.shape:
        rule = f"must have the target's shape {target.shape}"
        remedy = "resize the prediction (nearest neighbor) to the target"
        raise BadValueError(message("confusion: predicted_hw", rule, predicted.shape, remedy))
    counts = np.empty((classes, classes), np.int64)
    count = check_threads("confusion", threads)
    if not _kernels.confusion(target, predicted, ignored, counts, count):
        raise _out_of_range(target, predicted, classes, ignored)
    return counts


def scores(confusion: NDArray[np.int64], classes: Sequence[str]) -> Scores:
    """Turn a confusion matrix into scores.

    A class that is in neither target nor prediction is left out of every mean, and one that is
    not in the target of the class accuracy.

    Args:
        confusion: int64 (K, K), rows the target, columns the prediction.
        classes: K different names.

    Returns:
        The scores.

    Raises:
        TypeError: confusion is not an int64 array, or classes is not a list or tuple of names.
        ValueError: The shape, the number of names or a count is wrong, or nothing was counted.

    Example:
        >>> result = scores(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), ["sky", "road", "sign"])
        >>> result.pixel_accuracy, result.iou
        (0.875, {'sky': 0.75, 'road': 0.8, 'sign': None})
    """
    matrix = check_array("scores: confusion", confusion, ("int64",), "pass what confusion returns")
    if not isinstance(classes, list | tuple) or not all(isinstance(c, str) for c in classes):
        rule, got = "must be a list or tuple of names", type(classes).__name__
        raise BadTypeError(message("scores: classes", rule, got, "pass one name per class"))
    shape = (len(classes), len(classes))
    if matrix.shape != shape or len(set(classes)) != len(classes) or not classes:
        rule = f"must have one row and column per different class name, {shape}"
        raise BadValueError(
            message("scores: confusion", rule, matrix.shape, "pass its class names")
        )
    total = int(matrix.sum())
    if matrix.min() < 0 or total == 0:
        got = f"a sum of {total}" if matrix.min() >= 0 else "a negative count"
        remedy = "check that the targets are not all ignored"
        raise BadValueError(
            message("scores: confusion", "must count at least one pixel", got, remedy)
        )
    hits, actual = np.diag(matrix), matrix.sum(axis=1)
    union = actual + matrix.sum(axis=0) - hits
    iou = [int(hit) / int(size) if size else None for hit, size in zip(hits, union, strict=True)]
    present = [value for value in iou if value is not None]
    weighted = sum((value or 0.0) * int(n) for value, n in zip(iou, actual, strict=True))
    return Scores(
        pixel_accuracy=int(hits.sum()) / total,
        class_accuracy=float(np.mean(hits[actual > 0] / actual[actual > 0])),
        mean_iou=sum(present) / len(present),
        frequency_weighted_iou=weighted / total,
        iou=dict(zip(classes, iou, strict=True)),
    )


def _out_of_range(
    target: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int, ignore: int
) -> ValueError:
    """Build the error for labels without a row or column; slow, but it names them."""
    counted = target != ignore
    name, labels = "target_hw", target[counted & (target >= classes)]
    if not labels.size:
        name, labels = "predicted_hw", predicted[counted & (predicted >= classes)]
    found = np.unique(labels).tolist()
    listed = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
    rule = f"labels must be 0..{classes - 1}" + (f" or {ignore}" if name == "target_hw" else "")
    return BadValueError(
        message(f"confusion: {name}", rule, listed, "raise num_classes, or map them")
    )
