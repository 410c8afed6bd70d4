"""What is made of a prediction before it is written: other classes, void, statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.artifacts.classmap import VOID_NAME, OldClass, parse_class_map
from fcnkit.runtime.artifacts.spec import VOID, ModelSpec
from fcnkit.runtime.checks import check_flag
from fcnkit.runtime.pixels.metrics import confusion
from fcnkit.runtime.pixels.prediction import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ResultRequest", "Results", "Tally"]


@dataclass(frozen=True, kw_only=True)
class ResultRequest:
    """What is to be made of the labels.

    Making one checks what does not depend on the model; ``resolve`` reads the rules.

    Raises:
        TypeError: A field has a wrong type.
        ValueError: void_below is not above 0 and at most 1.
    """

    map: str | None = None
    """Which class becomes which, ``OLD=NEW,...``; see ``parse_class_map``."""
    keep: str | None = None
    """Classes that stay, ``a,b``; the others become void."""
    void_below: float | None = None
    """Pixels whose label is less probable than this become void."""
    confidence: bool = False
    """Whether the confidence is computed for the statistics too."""

    def __post_init__(self) -> None:
        """Check every field."""
        # Anything may come from callers without a type checker.
        rules: tuple[tuple[str, object], ...] = (("map", self.map), ("keep", self.keep))
        for name, value in rules:
            if value is not None and not isinstance(value, str):
                got = type(value).__name__
                raise BadTypeError(message("predict", f"{name} must be a str", got, "write rules"))
        check_flag("predict: confidence", self.confidence)
        below: object = self.void_below
        if below is not None and (isinstance(below, bool) or not isinstance(below, int | float)):
            got = type(below).__name__
            rule, remedy = "void_below must be a number", "pass a probability such as 0.6"
            raise BadTypeError(message("predict", rule, got, remedy))
        if self.void_below is not None and not 0 < self.void_below <= 1:
            rule, remedy = "void_below must be above 0 and at most 1", "pass one such as 0.6"
            raise BadValueError(message("predict", rule, self.void_below, remedy))

    def resolve(self, spec: ModelSpec, *, confidence: bool) -> Results:
        """Apply the rules to a model's classes.

        Args:
            spec: The model's promises.
            confidence: Whether the confidence is computed for another reason.

        Raises:
            ValueError: A rule is malformed or names no class, or no class is left.
            OSError: A file with rules cannot be read.
        """
        sure = confidence or self.confidence or self.void_below is not None
        least = None if self.void_below is None else _least(self.void_below)
        if self.map is None and self.keep is None:
            return Results(spec=spec, least=least, needs_confidence=sure)
        old = [OldClass(name, place) for place, name in enumerate(spec.classes)]
        # Pixels that are not sure are void already, and a rule may be about them.
        void = OldClass(VOID_NAME, VOID, void=True)
        mapped = parse_class_map(self.map, self.keep).resolve([*old, void])
        labels = mapped.labels[:-1]
        table = np.full(256, mapped.labels[-1], np.uint8)
        table[: len(labels)] = labels
        palette = [_color(name, label, spec, labels) for label, name in enumerate(mapped.classes)]
        return Results(
            spec=_with_classes(spec, mapped.classes, tuple(palette)),
            labels=labels,
            table=table,
            least=least,
            needs_confidence=sure,
        )


def _with_classes(
    spec: ModelSpec, classes: tuple[str, ...], palette: tuple[tuple[int, int, int], ...]
) -> ModelSpec:
    """Return a spec that says the classes of the results."""
    if spec.last_layer is not None:  # whose weights are for the number of classes of the model
        output = replace(spec.output, name="logits")
        spec = replace(spec, head="logits", output=output, last_layer=None)
    return replace(spec, classes=classes, palette=palette)


_NEUTRAL: Final = (128, 128, 128)
"""Color of a class that only void pixels become."""


def _color(name: str, label: int, spec: ModelSpec, labels: Sequence[int]) -> tuple[int, int, int]:
    """Return the color of a new class: that of the class of its name, else of the first in it."""
    old = [place for place, new in enumerate(labels) if new == label]
    same = [place for place in old if spec.classes[place] == name]
    places = same or old
    return spec.palette[places[0]] if places else _NEUTRAL


def _least(probability: float) -> int:
    """Return the least confidence, 0..255, that is not below a probability."""
    return math.ceil(round(255 * probability, 9))


@dataclass(frozen=True, kw_only=True)
class Results:
    """What is made of the labels of one model."""

    spec: ModelSpec
    """With the classes and the palette of the results."""
    labels: tuple[int, ...] | None = None
    """The new label of each of the model's classes, 255 for void; None where nothing changes."""
    table: NDArray[np.uint8] | None = None
    """The same for every label, void too."""
    least: int | None = None
    """Pixels with a confidence below this become void."""
    needs_confidence: bool = False
    """Whether ``apply`` and the statistics get the confidence."""

    def apply(self, rows: Prediction) -> Prediction:
        """Return a prediction with void where it is not sure, then with the new labels."""
        labels = rows.labels
        if self.least is not None:
            assert rows.confidence is not None  # needs_confidence says so
            labels = np.where(rows.confidence < self.least, np.uint8(VOID), labels)
        if self.table is not None:
            labels = self.table[labels]
        return rows if labels is rows.labels else replace(rows, labels=labels)


class Tally:
    """Counts the pixels of each class, and the mean confidence."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._counts = np.zeros(len(classes), np.int64)
        self._total = 0
        self._confidence: int | None = None
        self._unlabeled = 0
        """Void pixels with confidence 0: the model was not asked about them."""

    def add(self, rows: Prediction) -> None:
        """Count the next rows of an image."""
        labels_hw = np.ascontiguousarray(rows.labels)
        # The kernel counts pairs; every pixel is paired with itself.
        pairs = confusion(labels_hw, labels_hw, len(self._classes), threads=1)
        self._counts += pairs.diagonal()
        self._total += labels_hw.size
        if rows.confidence is not None:
            self._confidence = (self._confidence or 0) + int(rows.confidence.sum(dtype=np.int64))
            self._unlabeled += int(np.count_nonzero((labels_hw == VOID) & (rows.confidence == 0)))

    @property
    def pixels(self) -> dict[str, int]:
        """Pixels by class name, those without any left out; ``void`` for 255."""
        found = dict(zip(self._classes, self._counts.tolist(), strict=True))
        void = self._total - int(self._counts.sum())
        found[VOID_NAME] = found.get(VOID_NAME, 0) + void  # a class may have that name
        return {name: count for name, count in found.items() if count}

    @property
    def confidence(self) -> float | None:
        """Mean confidence over all pixels that were labeled, 0..1."""
        labeled = self._total - self._unlabeled
        if self._confidence is None or not labeled:
            return None
        return round(self._confidence / (255 * labeled), 6)
