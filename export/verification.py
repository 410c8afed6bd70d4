"""Whether two models are the same one: any two of checkpoint, ONNX file and engine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import VerifyError, message
from fcnkit.export.biased import balancing_bias
from fcnkit.export.comparison_images import SMALL, comparison_pictures
from fcnkit.export.difference import Difference, DifferenceMeter, largest_logit
from fcnkit.export.shapes import MAX_PIXELS, clamped, comparison_shapes, stepped
from fcnkit.export.subject import Answer, Subject
from fcnkit.export.verify_data import ComparisonData, DataReport, compare_on_data
from fcnkit.runtime.artifacts.precisions import PRECISIONS, Precision, Tolerance, less_exact
from fcnkit.runtime.artifacts.spec import Shape, ShapeRange, format_shape

__all__ = [
    "Pictures",
    "VerifyReport",
    "default_tolerance",
    "require",
    "verify",
]

Pictures = Callable[[Shape], NDArray[np.uint8]]
"""Makes pictures (N, H, W, 3) of a wanted size."""


def default_tolerance(a: Subject, b: Subject) -> Tolerance:
    """Return the tolerance of the less exact side."""
    facts = PRECISIONS[less_exact(a.spec.precision, b.spec.precision)]
    return facts.gpu_tolerance if a.on_gpu or b.on_gpu else facts.tolerance


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What a comparison measured, and what of it is out of tolerance."""

    a: dict[str, Any]
    """The first side, see Subject.describe."""
    b: dict[str, Any]
    shapes: tuple[Shape, ...]
    bounded: tuple[str, ...]
    """The largest legal shapes and what was run in their place."""
    difference: Difference
    """Over the pictures of all shapes."""
    balanced: Difference | None
    """The same with a number per class added such that every class wins equally often; None where
    a side cannot be run that way, as an engine, or gives logits, which show all classes anyway."""
    data: DataReport | None
    """Over a folder's pictures, where one was given."""
    precision: Precision
    """The tolerance of the less exact side."""
    tolerance: Tolerance
    failures: tuple[str, ...]
    """What is out of tolerance; empty for the same model."""

    @property
    def label_agreement(self) -> float:
        """Share of equal labels over the pictures of all shapes."""
        return self.difference.label_agreement

    def summary(self) -> str:
        """Return one line for the spec."""
        sizes = ", ".join(format_shape(shape) for shape in self.shapes)
        return f"{self.difference.summary()} ({sizes})"

    def to_json(self, **more: Any) -> str:
        """Return the report, and what else is given, as indented JSON."""
        return json.dumps({"passed": not self.failures, **asdict(self), **more}, indent=2)


def verify(
    a: Subject,
    b: Subject,
    *,
    data: ComparisonData | None = None,
    tolerance: Tolerance | None = None,
    pictures: Pictures | None = None,
    max_pixels: int = MAX_PIXELS,
    on_picture: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Run both sides on the same pictures.

    Args:
        a: The one that is right.
        b: The one in question.
        data: Pictures, with truth where there is one, to compare on as well.
        tolerance: What is still the same; by default that of the less exact side.
        pictures: Makes the pictures of all shapes; by default noise of coarse and fine structure.
        max_pixels: Pixels of one batch at most.
        on_picture: Called with (pictures done, pictures in all) of the data.

    Returns:
        What was measured; ``require`` turns failures into an error.

    Raises:
        VerifyError: The specs tell of different models: another network, classes, palette or
            normalization.
        DataError: A picture is broken, or the data's classes are others.
    """
    _check_specs(a, b)
    _match_flips(a, b)
    shapes, lines = _shapes(a, b, max_pixels=max_pixels)
    meter, balanced = DifferenceMeter(), DifferenceMeter()
    for shape in shapes:
        for image_nhwc in [pictures(shape)] if pictures else comparison_pictures(shape):
            answers = a.answer(image_nhwc), b.answer(image_nhwc)
            meter.add(*answers)
            if image_nhwc.size <= 3 * SMALL:
                _add_balanced(balanced, (a, b), answers, image_nhwc)
    on_data = compare_on_data(a, b, data, on_picture=on_picture) if data else None
    precision = less_exact(a.spec.precision, b.spec.precision)
    tolerance = tolerance or default_tolerance(a, b)
    difference = meter.result()
    evenly = balanced.result() if balanced else None
    return VerifyReport(
        a=a.describe(),
        b=b.describe(),
        shapes=shapes,
        bounded=lines,
        difference=difference,
        balanced=evenly,
        data=on_data,
        precision=precision,
        tolerance=tolerance,
        failures=_failures(difference, evenly, on_data, tolerance),
    )


def _match_flips(a: Subject, b: Subject) -> None:
    """Let a side average over mirror images where the graph of the other one does."""
    for side, other in ((a, b), (b, a)):
        side.flips = other.spec.tta == "flip" and side.spec.tta is None
        if side.flips and not side.spec.can_average:
            rule = f"{other.name} averages over mirror images, so the other side must give logits"
            remedy = "compare with the checkpoint, or with a model of head logits or scores"
            raise VerifyError(message("verify", rule, f"head {side.spec.head}", remedy))


def _add_balanced(
    meter: DifferenceMeter,
    sides: tuple[Subject, Subject],
    answers: tuple[Answer, Answer],
    image_nhwc: NDArray[np.uint8],
) -> None:
    """Compare again with every class winning, where one side has logits and the other can."""
    for known, side in ((answers[0], sides[1]), (answers[1], sides[0])):
        if known.logits_nchw is not None and side.biased is not None:
            bias = balancing_bias(known.logits_nchw)
            logits_nchw = known.logits_nchw + bias[:, None, None]
            labels_nhw = side.biased(image_nhwc, bias)
            shifted = Answer(logits_nchw.argmax(1), logits_nchw)
            scale = largest_logit(known.logits_nchw)
            meter.add(shifted, Answer(labels_nhw, None), scale=scale)


def require(report: VerifyReport, *, remedy: str) -> None:
    """Refuse a comparison that is out of tolerance.

    Args:
        report: What was measured.
        remedy: What the user can do about it.

    Raises:
        VerifyError: Naming every figure that is out of tolerance.
    """
    if report.failures:
        rule = f"must agree with {report.a['name']} within the tolerance of {report.precision}"
        raise VerifyError(message(report.b["name"], rule, ", ".join(report.failures), remedy))


def _shapes(
    a: Subject, b: Subject, *, max_pixels: int
) -> tuple[tuple[Shape, ...], tuple[str, ...]]:
    """Return the shapes that both sides take, and a line for each one that was cut down."""
    ours, theirs = a.spec.shapes, b.spec.shapes
    low, high = _each(max, ours.min, theirs.min), _each(min, ours.max, theirs.max)
    legal = ShapeRange(min=low, opt=clamped(low, theirs.opt, high), max=high)
    heads = (a.spec.head, b.spec.head)
    profiles = (*a.profiles, *b.profiles)
    multiple = math.lcm(a.spec.input.multiple, b.spec.input.multiple)
    steps = 1 if "scene" in heads and "labels" not in heads else multiple
    shapes, lines = comparison_shapes(
        legal, profiles, heads=heads, multiple=multiple, max_pixels=max_pixels
    )
    fit = (stepped(clamped(low, shape, high), legal, steps) for shape in shapes)
    return tuple(dict.fromkeys(s for s in fit if a.takes(s) and b.takes(s))), lines


def _each(rule: Callable[..., int], *shapes: Shape) -> Shape:
    batch, height, width = (rule(sides) for sides in zip(*shapes, strict=True))
    return batch, height, width


def _check_specs(a: Subject, b: Subject) -> None:
    """Refuse to compare what cannot be the same model."""
    for key in ("architecture", "classes", "palette", "ignore_index", "range", "bands"):
        _check_equal(a, b, key, getattr(a.spec, key), getattr(b.spec, key))
    for key in ("color", "mean", "std"):
        of_a, of_b = getattr(a.spec.input, key), getattr(b.spec.input, key)
        _check_equal(a, b, f"input.{key}", of_a, of_b)


def _check_equal(a: Subject, b: Subject, key: str, of_a: object, of_b: object) -> None:
    if of_a != of_b:
        rule = f"its spec key {key} must be that of {a.name}, {_short(of_a)}"
        remedy = "export the model again, or compare it with the file it was made from"
        raise VerifyError(message(b.name, rule, _short(of_b), remedy))


def _short(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = ", ".join(map(str, value[:4]))
        return shown + (", ..." if len(value) > 4 else "")
    return str(value)


def _failures(
    difference: Difference,
    balanced: Difference | None,
    data: DataReport | None,
    tolerance: Tolerance,
) -> tuple[str, ...]:
    """Describe every figure that is out of tolerance; NaN always is."""
    most = [
        ("max error", difference.max_error, tolerance.max_error),
        ("mean error", difference.mean_error, tolerance.mean_error),
        ("largest margin", difference.max_margin, tolerance.max_margin),
    ]
    for name, error, limit in (
        (
            "largest error of confidence",
            difference.max_confidence_error,
            tolerance.max_confidence_error,
        ),
        (
            "mean error of confidence",
            difference.mean_confidence_error,
            tolerance.mean_confidence_error,
        ),
    ):
        # Not compared where both sides give logits, which are compared more closely.
        most.append((name, None if difference.max_error is not None else error, limit))
    least = [
        ("label agreement", difference.label_agreement, tolerance.min_agreement),
        (
            "label agreement of a picture",
            difference.least_agreement,
            tolerance.min_picture_agreement,
        ),
    ]
    if balanced:
        most.append(
            ("largest margin of balanced classes", balanced.max_margin, tolerance.max_margin)
        )
        # Scores that hardly change over an image become ties where every class wins equally often.
        agreement = balanced.label_agreement + balanced.tied
        least.append(
            ("label agreement of balanced classes", agreement, tolerance.min_balanced_agreement)
        )
    if data:
        agreement = data.difference.label_agreement
        least.append(("label agreement on data", agreement, tolerance.min_agreement))
        most.append(("drop of mean IoU", data.miou_drop, tolerance.max_miou_drop))
    too_high = [
        f"{name} {value:.1e} above {limit:.0e}"
        for name, value, limit in most
        if value is not None and not value <= limit
    ]
    too_low = [
        f"{name} {100 * value:.4f} % below {100 * limit:g} %"
        for name, value, limit in least
        if not value >= limit
    ]
    return (*too_high, *too_low)
