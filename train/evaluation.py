"""Evaluation: full pictures, void ignored, whatever computes the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import DataError, message
from fcnkit.runtime.pixels.calibration import Calibration
from fcnkit.runtime.pixels.metrics import Scores, confusion, scores
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.train.data.voc import Sample, VocFolder, drop_smaller, no_labels, read_pair

__all__ = ["Measure", "PictureScore", "Protocol", "check_classes", "evaluate", "measure"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is compared: by default full pictures, void pixels ignored."""

    crop: tuple[int, int] | None = None
    """One random window (rows, columns) per picture instead; smaller pictures are left out."""
    void_as_background: bool = False
    """Count void as class 0 where that is named background; see ``read_mask``."""
    seed: int = 0
    """Of the windows."""

    def note(self, folder: VocFolder) -> str:
        """Return what has to be said beside the scores of a split."""
        if self.crop is None:
            return "full pictures, void ignored"
        void = "void counted as background"
        if not folder.labelmap.has_background:
            void = f"void ignored since class 0 is {folder.classes[0]} and not background"
        return (
            f"d2l protocol: random crops, {void}, smaller pictures left out; not comparable "
            f"with scores on full pictures, nor with other seeds (seed {self.seed})"
        )

    @classmethod
    def of_the_chapter(cls, *, crop: tuple[int, int] = (320, 480), seed: int = 0) -> Protocol:
        """Return the protocol of the d2l.ai chapter. Other scores cannot be compared with its own.

        Source: d2l.ai, chapters "Semantic Segmentation and the Dataset" (VOCSegDataset: random
        crops, pictures smaller than them dropped, any unlisted color is background) and "Fully
        Convolutional Networks".
        """
        return cls(crop=crop, void_as_background=True, seed=seed)

    def samples(self, folder: VocFolder) -> tuple[Sample, ...]:
        """Return the pictures of a split that are compared.

        Raises:
            DataError: There is none.
        """
        if self.crop is None:
            return folder.samples
        kept, dropped = drop_smaller(folder.samples, *self.crop)
        if not kept:
            rule = f"some picture must be at least {self.crop[0]}x{self.crop[1]}"
            got, remedy = f"{len(dropped)} smaller ones", "measure full pictures"
            raise DataError(message(str(folder.root), rule, got, remedy))
        return kept

    def read(
        self, sample: Sample, folder: VocFolder
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Read what is compared of a picture: uint8 (H, W, 3) and labels (H, W).

        A picture's window depends on its name and the seed alone.

        Raises:
            DataError: A file is broken.
        """
        image_hwc, labels_hw = read_pair(
            sample, folder.labelmap, void_as_background=self.void_as_background
        )
        if self.crop is None:
            return image_hwc, labels_hw
        height, width = self.crop
        random = np.random.default_rng((self.seed, *sample.name.encode()))
        top = random.integers(labels_hw.shape[0] - height + 1)
        left = random.integers(labels_hw.shape[1] - width + 1)
        window = np.s_[top : top + height, left : left + width]
        return image_hwc[window], np.ascontiguousarray(labels_hw[window])


@dataclass(frozen=True, kw_only=True)
class PictureScore:
    """How well one picture was labeled.

    Both scores lie between 0 and 1, and void pixels are left out.
    A higher score is better.
    A picture that is void all over has no score.
    """

    sample: Sample
    """The picture and its mask."""
    pixel_accuracy: float
    """Share of pixels with the right label."""
    mean_iou: float
    """Over the classes in its truth or its prediction."""

    @classmethod
    def of(cls, sample: Sample, scores: Scores) -> Self:
        """Keep what matters of a picture's scores."""
        return cls(sample=sample, pixel_accuracy=scores.pixel_accuracy, mean_iou=scores.mean_iou)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """The confusion matrix of a split and what follows from it."""

    classes: tuple[str, ...]
    """K names; a class's label is its place."""
    confusion: NDArray[np.int64]
    """(K, K): entry [t, p] counts the pixels of class t that were labeled p."""
    pictures: Sequence[PictureScore]
    """In the split's order; pictures that are void all over have no score and are left out."""
    protocol: Protocol
    """How pictures and masks were read."""
    calibration: Calibration | None = None
    """How well the confidence fits; None where it was not measured."""

    @property
    def calibration_error(self) -> float | None:
        """The expected calibration error; None where it was not measured."""
        return None if self.calibration is None else self.calibration.error()

    @property
    def scores(self) -> Scores:
        """The scores over all pictures together."""
        return scores(self.confusion, self.classes)

    @property
    def without_truth(self) -> tuple[str, ...]:
        """The classes that no mask shows.

        One that was predicted all the same has an IoU of 0 and counts in the mean; one that was
        not has none, as in the evaluation of Pascal VOC.
        """
        pixels = self.confusion.sum(axis=1).tolist()
        return tuple(name for name, count in zip(self.classes, pixels, strict=True) if not count)

    @property
    def tells(self) -> bool:
        """Whether the scores mean something: with one class alone, every prediction is right."""
        return len(self.classes) - len(self.without_truth) > 1


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
        DataError: As for ``measure``.
    """
    return measure(segmenter, folder, on_picture=on_picture).scores


def measure(
    segmenter: Segmenter,
    folder: VocFolder,
    *,
    protocol: Protocol | None = None,
    calibration: bool = False,
    before: Callable[[NDArray[np.uint8]], None] | None = None,
    on_picture: Callable[[int, int], None] | None = None,
) -> Measure:
    """Compare predicted with true labels, and keep the confusion matrix and each picture's score.

    Args:
        segmenter: A checkpoint or an exported model.
        folder: An opened split.
        protocol: What is compared; by default full pictures without void.
        calibration: Whether to compare the confidence with how often it is right.
        before: Called with the true labels (H, W) of a picture before that is labeled.
        on_picture: Called with (pictures done, pictures in all).

    Returns:
        The measure.

    Raises:
        DataError: The model's classes are not the folder's, a file is broken, or every mask is
            void all over.
        ValueError: The model gives no confidence, and calibration is to be measured.
    """
    classes, protocol = segmenter.spec.classes, protocol or Protocol()
    check_classes(classes, folder)
    # The model's own scale and bands, whatever the folder was opened with.
    folder = folder.seen_by(segmenter.spec)
    samples = protocol.samples(folder)
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    sure = Calibration() if calibration else None
    pictures = []
    for done, sample in enumerate(samples, start=1):
        image_hwc, target_hw = protocol.read(sample, folder)
        if before:
            before(target_hw)
        if sure is None:
            labels_hw = segmenter(image_hwc)
        else:
            made = segmenter(image_hwc, confidence=True)
            labels_hw = made.labels
            assert made.confidence is not None
            sure.add(target_hw, labels_hw, made.confidence)
        of_picture = confusion(target_hw, labels_hw, len(classes))
        matrix += of_picture
        if of_picture.any():
            pictures.append(PictureScore.of(sample, scores(of_picture, classes)))
        if on_picture:
            on_picture(done, len(samples))
    if not matrix.any():
        raise no_labels(folder, len(samples))
    return Measure(
        classes=classes,
        confusion=matrix,
        pictures=pictures,
        protocol=protocol,
        calibration=sure,
    )


def check_classes(classes: tuple[str, ...], folder: VocFolder) -> None:
    """Refuse data with other classes than the model's.

    Args:
        classes: The model's.
        folder: The data.

    Raises:
        DataError: They are not the same.
    """
    if classes != folder.classes:
        rule = f"the data's classes must be the model's, {', '.join(classes)}"
        got = ", ".join(folder.classes)
        raise DataError(message(str(folder.root), rule, got, "give the data it was trained for"))
