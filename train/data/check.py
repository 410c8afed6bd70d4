"""Checking a data set before training on it: every file is read, every problem is listed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.predict.bands import Bands, check_bands
from fcnkit.runtime.predict.levels import Range, check_range
from fcnkit.train.data.inspection import (
    Picture,
    Problem,
    ProblemKind,
    about_pictures,
    inspect_picture,
)
from fcnkit.train.data.remarks import Remark, Remarks, Splits, about_labels, about_names
from fcnkit.train.data.voc import FileIndex, read_labelmap_of, read_split, split_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fcnkit.train.data.labelmap import LabelMap

__all__ = [
    "DeepValues",
    "FolderReport",
    "Problem",
    "ProblemKind",
    "Remark",
    "SplitReport",
    "check_folder",
]


@dataclass(frozen=True)
class DeepValues:
    """Values of the pictures of more than 8 bits."""

    pictures: int
    """How many there are."""
    low: int
    """Smallest value in any of them."""
    high: int
    """Largest value in any of them."""
    outside: int
    """Samples outside of the range that was given; they become 0 or 255."""
    used: Range
    """The range that became 0..255; of several, the one of the picture with the largest value."""
    warning: str | None
    """The warning where no range was given and no picture uses more than a quarter of it."""


@dataclass(frozen=True)
class SplitReport:
    """What a split holds."""

    split: str
    pictures: int
    """Names in the list."""
    smallest: tuple[int, int] | None
    """Least height and least width of the readable pictures; None where there are none."""
    largest: tuple[int, int] | None
    """Greatest height and greatest width."""
    pixels: tuple[int, ...]
    """Labeled pixels of each class."""
    void: int
    """Pixels labeled void."""
    unknown: dict[str, int]
    """Pixels by unknown color or label, most frequent first."""
    problems: tuple[Problem, ...]
    deep: DeepValues | None = None
    """Of its pictures of more than 8 bits; None where there are none."""

    @property
    def ok(self) -> bool:
        """Whether there is nothing to fix."""
        return not self.problems

    @property
    def shares(self) -> tuple[float, ...]:
        """Each class's share of the labeled pixels, 0..1; zeros where there are none."""
        total = sum(self.pixels)
        return tuple(count / total if total else 0.0 for count in self.pixels)


@dataclass(frozen=True)
class FolderReport:
    """What a data set holds."""

    root: Path
    labelmap: LabelMap
    splits: tuple[SplitReport, ...]
    leaked: tuple[str, ...]
    """Names listed in both train and val, which makes validation scores too good."""
    warnings: tuple[Remark, ...] = ()
    """What can be read, but would make training silently meaningless."""
    notes: tuple[Remark, ...] = ()
    """What was assumed, and what cannot be scored."""

    @property
    def ok(self) -> bool:
        """Whether there is nothing to fix."""
        return not self.leaked and all(split.ok for split in self.splits)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON data."""
        return {
            "root": str(self.root),
            "ok": self.ok,
            "classes": list(self.labelmap.classes),
            "leaked": list(self.leaked),
            "warnings": [remark._asdict() for remark in self.warnings],
            "notes": [remark._asdict() for remark in self.notes],
            "splits": {split.split: _split_dict(split, self.labelmap) for split in self.splits},
        }


def check_folder(
    root: Path,
    *,
    range: Range | None = None,
    bands: Bands | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Read every listed picture and mask of a data set, list what is wrong and warn of what is odd.

    Args:
        root: The folder that holds ``JPEGImages/``.
        range: The values that become 0 and 255 in pictures of more than 8 bits; what lies outside
            is counted.
        bands: The stored samples that are red, green and blue; by default what each file says.
        progress: Called with the names checked so far and the number of all.

    Returns:
        The report; a name listed in several splits is read once.

    Raises:
        DataError: A folder is missing, or a list or ``labelmap.txt`` is empty or malformed.
        OSError: A folder cannot be read.
    """
    range, bands = check_range("--range", range), check_bands("--bands", bands)
    labelmap = read_labelmap_of(root)
    listed = {split: read_split(root, split) for split in split_names(root)}
    images, masks = FileIndex.of_images(root), FileIndex.of_masks(root)
    names = dict.fromkeys(name for split in listed.values() for name in split)
    pictures: dict[str, Picture] = {}
    for number, name in enumerate(names, start=1):
        pictures[name] = inspect_picture(name, images, masks, labelmap, range, bands)
        if progress is not None:
            progress(number, len(names))
    splits = [
        _sum_up(split, [pictures[name] for name in members], len(labelmap.classes))
        for split, members in listed.items()
    ]
    remarks = (
        about_names(root, listed),
        _about_labels(root, labelmap, {split.split: split for split in splits}),
        about_pictures(root, listed, pictures),
    )
    doubts = [s.deep.warning for s in splits if s.deep is not None and s.deep.warning is not None]
    return FolderReport(
        root=root,
        labelmap=labelmap,
        splits=tuple(splits),
        leaked=_leaked(listed),
        warnings=(
            *(remark for found in remarks for remark in found.warnings),
            *(Remark("range", doubt) for doubt in doubts),
        ),
        notes=tuple(remark for found in remarks for remark in found.notes),
    )


def _about_labels(root: Path, labelmap: LabelMap, splits: Mapping[str, SplitReport]) -> Remarks:
    train = splits.get("train")
    counted = Splits(*(_counts(splits.get(split)) for split in Splits._fields))
    return about_labels(root, labelmap, counted, unknown=list(train.unknown) if train else [])


def _counts(split: SplitReport | None) -> NDArray[np.int64] | None:
    """Return a split's pixels by label, (256,)."""
    if split is None:
        return None
    counts = np.zeros(VOID + 1, np.int64)
    counts[: len(split.pixels)], counts[VOID] = split.pixels, split.void
    return counts


def _leaked(listed: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    val = set(listed.get("val", ()))
    return tuple(name for name in listed.get("train", ()) if name in val)


def _sum_up(split: str, pictures: Sequence[Picture], classes: int) -> SplitReport:
    sizes = [picture.size for picture in pictures if picture.size is not None]
    heights, widths = [size[0] for size in sizes], [size[1] for size in sizes]
    counts = np.sum([picture.counts for picture in pictures], axis=0)
    unknown: Counter[str] = sum((picture.unknown for picture in pictures), Counter())
    unknown_pixels = sum(unknown.values())
    return SplitReport(
        split=split,
        pictures=len(pictures),
        smallest=(min(heights), min(widths)) if sizes else None,
        largest=(max(heights), max(widths)) if sizes else None,
        pixels=tuple(int(count) for count in counts[:classes]),
        # Unknown pixels are decoded as void; they are counted on their own.
        void=int(counts[VOID]) - unknown_pixels,
        unknown=dict(unknown.most_common()),
        problems=tuple(problem for picture in pictures for problem in picture.problems),
        deep=_deep_values(pictures),
    )


def _deep_values(pictures: Sequence[Picture]) -> DeepValues | None:
    """Sum up the pictures of more than 8 bits."""
    deep = [(picture.seen, picture.path) for picture in pictures if picture.seen is not None]
    if not deep:
        return None
    fullest, path = max(deep, key=lambda one: one[0].high)
    remedy = "if {0} means white, say so with --range 0..{0}"
    return DeepValues(
        pictures=len(deep),
        low=min(seen.low for seen, _ in deep),
        high=fullest.high,
        outside=sum(seen.outside for seen, _ in deep),
        used=fullest.used,
        warning=fullest.doubt(str(path), remedy) if fullest.doubtful else None,
    )


def _split_dict(split: SplitReport, labelmap: LabelMap) -> dict[str, Any]:
    return {
        "pictures": split.pictures,
        "smallest": split.smallest,
        "largest": split.largest,
        "pixels": dict(zip(labelmap.classes, split.pixels, strict=True)),
        "shares": dict(zip(labelmap.classes, split.shares, strict=True)),
        "void": split.void,
        "unknown": split.unknown,
        "deep": None if split.deep is None else asdict(split.deep),
        "problems": [problem._asdict() for problem in split.problems],
    }
