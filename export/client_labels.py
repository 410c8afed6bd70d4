"""Comparing the label files of another client with what a model gives for the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import DataError, VerifyError, message
from fcnkit.export.verify_data import ComparisonData
from fcnkit.runtime.artifacts.spec import VOID, ModelSpec
from fcnkit.runtime.pixels.metrics import confusion
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.train.data.labelmap import LabelMap
from fcnkit.train.data.masks import read_mask

__all__ = ["ClientReport", "ImageDifference", "compare_client_labels", "require_agreement"]

Segment = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Takes an image (H, W, 3), gives labels (H, W)."""


@dataclass(frozen=True, kw_only=True)
class ImageDifference:
    """Where the labels of one image differ."""

    name: str
    """The image, as the data set names it."""
    agreement: float
    """Share of equal labels."""
    box: tuple[int, int, int, int] | None
    """Top, left, bottom and right of the smallest rectangle with all differences."""


@dataclass(frozen=True, kw_only=True)
class ClientReport:
    """What a comparison with a client's labels measured."""

    folder: str
    """Where the client's labels lie."""
    images: int
    """Images that were compared."""
    agreement: float
    """Share of equal labels over all images."""
    confused: tuple[tuple[str, str, int], ...]
    """Different labels, the model's and the client's, with their pixels, most first."""
    at_edge: float
    """Share of the differences that lie within 16 pixels of the image's border."""
    at_classes: float
    """Share of the differences that lie where two classes of the model meet."""
    worst: tuple[ImageDifference, ...]
    """The images with most differences."""
    likely: str | None
    """A reading of the client that agrees better, such as BGR images; None without one."""
    without_labels: int
    """Images for which the client has no file."""

    def lines(self) -> list[str]:
        """Return the report for a person."""
        lines = [f"{100 * self.agreement:.4f} % of labels agree, on {self.images} images"]
        if self.without_labels:
            lines.append(f"{self.without_labels} images have no label file in {self.folder}")
        lines += [
            f"{ours} where the client says {theirs}: {pixels} pixels"
            for ours, theirs, pixels in self.confused[:_WORST]
        ]
        if self.confused:
            lines.append(
                f"{100 * self.at_edge:.0f} % of the differences are within {_EDGE} pixels of the "
                f"image's border, {100 * self.at_classes:.0f} % where two classes meet"
            )
        for image in self.worst:
            if image.box is not None:
                top, left, bottom, right = image.box
                lines.append(
                    f"{image.name}: {100 * image.agreement:.2f} %, differences in rows {top} to "
                    f"{bottom} and columns {left} to {right}"
                )
        if self.likely:
            lines.append(f"likely cause: {self.likely}")
        return lines

    def to_json(self) -> str:
        """Return the report as indented JSON."""
        return dumps(asdict(self), indent=2)


def compare_client_labels(
    segment: Segment,
    spec: ModelSpec,
    folder: Path,
    data: ComparisonData,
    *,
    on_picture: Callable[[int, int], None] | None = None,
) -> ClientReport:
    """Label images, and compare with the PNG files that a client wrote for them.

    Args:
        segment: Runs the model.
        spec: The model's classes and colors.
        folder: The client's files, ``NAME.png`` for the image ``NAME.jpg``: labels as gray or
            palette values, or colors of the model's palette.
        data: The images.
        on_picture: Called with (images done, images in all).

    Returns:
        What was measured.

    Raises:
        DataError: A file is broken, has no image, or is not as large as its image.
    """
    pairs, without = _pairs(folder, data)
    labelmap = LabelMap(spec.classes, spec.palette)
    meter = _Meter(spec, segment)
    for done, (image, mask) in enumerate(pairs, start=1):
        image_hwc = read_picture(image, range=spec.range, bands=spec.bands)
        theirs_hw = read_mask(mask, labelmap)
        if theirs_hw.shape != image_hwc.shape[:2]:
            rule = f"must be as large as {image.name}, {_size(image_hwc.shape)}"
            remedy = "let the client write labels in the size of the image"
            raise DataError(message(str(mask), rule, _size(theirs_hw.shape), remedy))
        meter.add(image.name, image_hwc, theirs_hw)
        if on_picture:
            on_picture(done, len(pairs))
    return meter.report(folder, without)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _pairs(folder: Path, data: ComparisonData) -> tuple[list[tuple[Path, Path]], int]:
    """Return images with their label files, by name, and how many images have none."""
    if not folder.is_dir():
        raise DataError(message("--labels", "must be a folder", str(folder), "check the path"))
    masks = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".png"}
    if not masks:
        rule = "must hold the client's labels as PNG files"
        raise DataError(message(f"--labels {folder}", rule, "none", "check the path"))
    found = [sample.image for sample in data.truth.samples] if data.truth else [*data.pictures]
    images: dict[str, Path] = {}
    for path in found:
        if path.stem in images:
            rule = "images must have different names without their suffix"
            got = f"{images[path.stem].name} and {path.name}"
            raise DataError(message(f"--data {data.root}", rule, got, "move one away"))
        images[path.stem] = path
    lost = [name for name in masks if name not in images]
    if lost:
        rule = "every label file must have the name of an image"
        got = f"{lost[0]}.png" + (f" and {len(lost) - 1} more" if len(lost) > 1 else "")
        remedy = f"give the images of these labels with --data, or take them out of {folder}"
        raise DataError(message(f"--labels {folder}", rule, got, remedy))
    pairs = [(images[name], mask) for name, mask in masks.items()]
    return pairs, len(images) - len(pairs)


_WORST: Final = 5
_EDGE: Final = 16
"""Pixels from the image's border up to which a difference lies at the border."""
_BETTER: Final = 0.02
"""Share of pixels that another reading of the client must agree on more, before it is named."""


class _Meter:
    """Sums up over images."""

    def __init__(self, spec: ModelSpec, segment: Segment) -> None:
        self.classes, self.segment = spec.classes, segment
        # One more row and column for void, which a client may write.
        self.counts = np.zeros((spec.num_classes + 1, spec.num_classes + 1), np.int64)
        self.images: list[ImageDifference] = []
        self.edge = self.border = 0
        self.readings = dict.fromkeys(_READINGS, 0)

    def add(self, name: str, image_hwc: NDArray[np.uint8], theirs_hw: NDArray[np.uint8]) -> None:
        """Compare one image."""
        void = len(self.classes)
        ours_hw = self.segment(image_hwc)
        theirs_hw = np.where(theirs_hw == VOID, void, theirs_hw).astype(np.uint8)
        self.counts += confusion(ours_hw, theirs_hw, void + 1, ignore=VOID)
        differs_hw = ours_hw != theirs_hw
        box = None
        if differs_hw.any():
            rows, columns = (np.flatnonzero(differs_hw.any(axis)) for axis in (1, 0))
            box = int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])
            self.edge += int(differs_hw.sum() - differs_hw[_EDGE:-_EDGE, _EDGE:-_EDGE].sum())
            self.border += int((differs_hw & _meeting(ours_hw)).sum())
            for reading, (swapped, turn) in _READINGS.items():
                seen_hw = self.segment(image_hwc[..., ::-1].copy()) if swapped else ours_hw
                self.readings[reading] += int((turn(seen_hw) == theirs_hw).sum())
        else:
            for reading in _READINGS:
                self.readings[reading] += ours_hw.size
        agreement = 1 - float(differs_hw.mean())
        self.images.append(ImageDifference(name=name, agreement=agreement, box=box))

    def report(self, folder: Path, without: int) -> ClientReport:
        """Return the sums."""
        pixels, agreed = int(self.counts.sum()), int(np.trace(self.counts))
        differing = max(1, pixels - agreed)
        names = (*self.classes, "void")
        off = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(off, axis=None)[::-1]
        places = [(int(i) // len(names), int(i) % len(names)) for i in order if off.flat[i]]
        reading, most = max(self.readings.items(), key=lambda item: item[1])
        better = most >= agreed + _BETTER * pixels
        likely = f"{reading}, with which {100 * most / pixels:.2f} % agree" if better else None
        return ClientReport(
            folder=str(folder),
            images=len(self.images),
            agreement=agreed / pixels,
            confused=tuple((names[a], names[b], int(off[a, b])) for a, b in places),
            at_edge=self.edge / differing,
            at_classes=self.border / differing,
            worst=tuple(sorted(self.images, key=lambda image: image.agreement)[:_WORST]),
            likely=likely,
            without_labels=without,
        )


Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

_READINGS: Final[dict[str, tuple[bool, Turn]]] = {
    "the client gives the network BGR images": (True, lambda labels_hw: labels_hw),
    "the client's labels are mirrored": (False, lambda labels_hw: labels_hw[:, ::-1]),
    "the client's labels are upside down": (False, lambda labels_hw: labels_hw[::-1]),
}
"""What a client may do: whether it swaps channels, and how it turns the labels."""


def _meeting(labels_hw: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels with a neighbor of another label, two pixels wide on each side."""
    meeting_hw = np.zeros(labels_hw.shape, np.bool_)
    for step in (1, 2):
        down = labels_hw[step:] != labels_hw[:-step]
        right = labels_hw[:, step:] != labels_hw[:, :-step]
        meeting_hw[step:] |= down
        meeting_hw[:-step] |= down
        meeting_hw[:, step:] |= right
        meeting_hw[:, :-step] |= right
    return meeting_hw


def require_agreement(report: ClientReport, least: float) -> None:
    """Refuse labels that agree less than they should.

    Args:
        report: What was measured.
        least: Smallest share of equal labels.

    Raises:
        VerifyError: Fewer agree.
    """
    if report.agreement < least:
        rule = f"at least {100 * least:g} % of the labels must agree with the model's"
        remedy = "see the lines above, and compare the client's preprocessing with fcnkit info"
        got = f"{100 * report.agreement:.4f} %"
        raise VerifyError(message(f"--labels {report.folder}", rule, got, remedy))
