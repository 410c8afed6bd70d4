"""What in a data set makes training silently meaningless, though every file can be read.

``counts`` are pixels by label, int64 (256,), 255 = void.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from fcnkit.errors import message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train.data.masks import read_mask
from fcnkit.train.data.voc import LABELMAP, LISTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fcnkit.train.data.labelmap import LabelMap
    from fcnkit.train.data.voc import Sample, VocFolder

__all__ = [
    "Remark",
    "RemarkKind",
    "Remarks",
    "Splits",
    "about_labels",
    "about_names",
    "about_run",
    "count_labels",
    "named",
    "shared_text",
]

RemarkKind = Literal[
    "absent", "alike", "alpha", "assumed", "copies", "exif", "mixed", "one class", "one split",
    "overlap", "palette", "range", "shifted", "split", "swapped", "unseen", "void",
]  # fmt: skip

_SHOWN = 5
"""More names than this are cut short in a remark."""
_FREQUENT = 0.01
"""From this share of the pixels on, void may be a class that was saved as 255."""


class Remark(NamedTuple):
    """Something to know about a data set before training on it."""

    kind: RemarkKind
    text: str


class Remarks(NamedTuple):
    """What to warn of, and what only to say."""

    warnings: tuple[Remark, ...] = ()
    notes: tuple[Remark, ...] = ()


class Splits(NamedTuple):
    """What ``train``, ``val`` and ``test`` hold; None where there is no such list."""

    train: NDArray[np.int64] | None
    val: NDArray[np.int64] | None
    test: NDArray[np.int64] | None = None
    """None also where training begins, which does not read it."""


def named(names: Sequence[str], most: int = _SHOWN) -> str:
    """List names, the first of them where there are many."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def about_names(root: Path, listed: Mapping[str, Sequence[str]]) -> Remarks:
    """Look at the lists of a data set.

    Args:
        root: The folder that holds ``ImageSets/``.
        listed: The names of each split. What ``train`` and ``val`` share is left to the caller.

    Returns:
        A warning where ``test`` shares names with another split, or ``train`` or ``val`` is missing
        beside the other.
    """
    warnings = []
    for other in ("train", "val"):
        test = set(listed.get("test", ()))
        if shared := [name for name in listed.get(other, ()) if name in test]:
            warnings.append(_overlap(root, other, "test", shared))
    for split, other in (("train", "val"), ("val", "train")):
        if split in listed and other not in listed:
            rule, remedy = "training needs train.txt and val.txt", f"write {other}.txt"
            text = message(str(root / LISTS), rule, f"no {other}.txt", remedy)
            warnings.append(Remark("split", text))
    return Remarks(tuple(warnings))


def shared_text(root: Path, first: str, second: str, got: str) -> str:
    """Word that two splits share pictures."""
    rule = f"{first}.txt and {second}.txt must share no picture, or scores come out too good"
    return message(str(root / LISTS), rule, got, "take them off one list")


def _overlap(root: Path, first: str, second: str, shared: Sequence[str]) -> Remark:
    got = f"{len(shared)} in both ({named(shared)})"
    return Remark("overlap", shared_text(root, first, second, got))


def about_labels(
    root: Path, labelmap: LabelMap, splits: Splits, *, unknown: Sequence[str] = ()
) -> Remarks:
    """Look at how often each class occurs.

    Args:
        root: The folder that holds ``labelmap.txt``, or does not.
        labelmap: The classes.
        splits: The pixels of each label.
        unknown: Labels and colors in ``train`` that belong to no class.

    Returns:
        Warnings for classes that cannot be learned or scored, or that one split alone has; a note
        for those that only ``val`` lacks, and where Pascal VOC's names were assumed.
    """
    warnings: list[Remark] = []
    notes: list[Remark] = []
    assumed = not (root / LABELMAP).exists()
    classes = len(labelmap.classes)
    if classes == 1:
        rule, remedy = "training needs two classes or more", "name background on the first line"
        text = message(str(root / LABELMAP), rule, f"only {labelmap.classes[0]}", remedy)
        warnings.append(Remark("one class", text))
    for split, counts in splits._asdict().items():
        if counts is not None and not counts[:classes].any() and counts[VOID]:
            warnings.append(_all_void(root, split, labelmap))
    train, val, _ = (_present(counts, labelmap) for counts in splits)
    absent = [name for name in labelmap.classes if name not in train]
    if assumed:
        (warnings if train and absent else notes).append(_assumed(root, labelmap, absent, train))
    if train and splits.train is not None:
        shifted = _shifted(root, labelmap, splits.train, unknown)
        warnings += shifted
        # Labels that count from 1 make a class seem absent.
        if absent and not shifted and (not assumed or len(train) == 1):
            warnings.append(_absent(root, labelmap, splits, absent))
    if len(val) == 1 and len(train) != 1 and classes > 1:
        warnings.append(_one_class(root, val))
    elif train:
        found = _unseen(root, labelmap, splits)
        warnings += found.warnings
        notes += found.notes
    return Remarks(tuple(warnings), tuple(notes))


def about_run(train: VocFolder, samples: Sequence[Sample], val: VocFolder) -> Remarks:
    """Make the remarks that training begins with, at little cost.

    Masks are read until every class was seen: few of them where nothing is wrong.

    Args:
        train: The split to train on.
        samples: Its pictures that are trained on.
        val: The split to validate on.

    Returns:
        The remarks, as ``fcnkit data check`` makes them from all pixels.

    Raises:
        DataError: A mask is broken.
    """
    names = {sample.name for sample in val.samples}
    warnings: tuple[Remark, ...] = ()
    if shared := [sample.name for sample in samples if sample.name in names]:
        warnings = (_overlap(train.root, "train", "val", shared),)
    splits = Splits(count_labels(samples, train.labelmap), count_labels(val.samples, val.labelmap))
    found = about_labels(train.root, train.labelmap, splits)
    return Remarks(warnings + found.warnings, found.notes)


def count_labels(
    samples: Sequence[Sample], labelmap: LabelMap, *, enough: int = VOID
) -> NDArray[np.int64]:
    """Count the labels of masks until enough classes have occurred.

    Args:
        samples: Whose masks are read.
        labelmap: The classes.
        enough: Number of classes after which no further mask is read; all of them by default.

    Returns:
        Pixels by label, int64 (256,), of the masks that were read.

    Raises:
        DataError: A mask is broken.
    """
    counts, classes = np.zeros(VOID + 1, np.int64), len(labelmap.classes)
    for sample in samples:
        labels_hw = read_mask(sample.mask, labelmap)
        counts += np.bincount(labels_hw.ravel(), minlength=VOID + 1)
        if np.count_nonzero(counts[:classes]) >= min(enough, classes):
            break
    return counts


def _present(counts: NDArray[np.int64] | None, labelmap: LabelMap) -> list[str]:
    if counts is None:
        return []
    return [name for name, count in zip(labelmap.classes, counts, strict=False) if count]


def _all_void(root: Path, split: str, labelmap: LabelMap) -> Remark:
    rule, got = "some pixel must be labeled", f"masks of only {VOID}, which is void"
    remedy = f"save the labels 0..{len(labelmap.classes) - 1}"
    return Remark("void", message(f"{root}: {split}", rule, got, remedy))


def _one_class(root: Path, val: Sequence[str]) -> Remark:
    rule = "two classes or more must have pixels, or the mean IoU says nothing"
    remedy = "list pictures in val.txt that show the others"
    return Remark("one class", message(f"{root}: val", rule, f"only {val[0]}", remedy))


def _unseen(root: Path, labelmap: LabelMap, splits: Splits) -> Remarks:
    """Find classes that ``train`` has, and ``val`` or every other split lacks."""
    train, val, test = (_present(counts, labelmap) for counts in splits)
    # If test.txt exists and was not read, the class may be in it.
    unread = splits.test is None and (root / LISTS / "test.txt").exists()
    alone = [name for name in train if (val or test) and name not in (*val, *test)]
    unseen = [name for name in train if val and name not in val]
    if alone and not unread:
        unseen = [name for name in unseen if name not in alone]
        rule, got = "every class should occur in train and in val", f"only in train: {named(alone)}"
        remedy = "list pictures in val.txt that show it too, or divide them by class with "
        remedy += f"fcnkit data split {root} --force"
        warnings = [Remark("one split", message(str(root / LISTS), rule, got, remedy))]
    else:
        warnings = []
    notes = []
    if unseen:
        rule, remedy = "every class should have pixels to be scored", "list pictures that do"
        text = message(f"{root}: val", rule, f"none of {named(unseen)}", remedy)
        notes = [Remark("unseen", text)]
    return Remarks(tuple(warnings), tuple(notes))


def _assumed(root: Path, labelmap: LabelMap, absent: Sequence[str], train: Sequence[str]) -> Remark:
    rule = "names the classes of a data set"
    got = f"no such file, so the {len(labelmap.classes)} names of Pascal VOC are assumed"
    if absent and train:
        got += f": train has pixels of {named(train)}, and none of {named(absent)}"
    remedy = "for classes that are not VOC's write the file, a line name:r,g,b:: per label from 0"
    return Remark("assumed", message(str(root / LABELMAP), rule, got, remedy))


def _absent(root: Path, labelmap: LabelMap, splits: Splits, absent: Sequence[str]) -> Remark:
    """Word that classes cannot be learned, and guess why."""
    train = splits.train
    assert train is not None  # the caller's condition
    got = f"none of {named(absent)}"
    seen = _present(train, labelmap)
    if len(seen) == 1:
        got += f", only {seen[0]}"
    remedy = "list pictures in train.txt that show it"
    for split, counts in (("val", splits.val), ("test", splits.test)):
        at = labelmap.classes.index
        held = {} if counts is None else {name: int(counts[at(name)]) for name in absent}
        if moved := [f"{count} px of {name}" for name, count in held.items() if count]:
            got += f", while {split} has {named(moved)}"
    if train[VOID] >= _FREQUENT * train.sum():
        got += f", while {train[VOID] / train.sum():.1%} of the pixels are {VOID}, which is void"
        remedy += f", or if {VOID} stands for it in the masks, save its label instead"
    elif labelmap.classes[0] in absent and len(seen) > 1:
        remedy = (
            f"if the masks count from 1, subtract 1 from them or name label 0 first in {LABELMAP}"
        )
    rule = "every class should have pixels to be learned"
    return Remark("absent", message(f"{root}: train", rule, got, remedy))


def _shifted(
    root: Path, labelmap: LabelMap, train: NDArray[np.int64], unknown: Sequence[str]
) -> list[Remark]:
    """Find masks that count the classes from 1."""
    classes = len(labelmap.classes)
    if list(unknown) != [str(classes)]:
        return []
    first = 0 if train[0] else 1
    rule = f"labels are 0..{classes - 1} or {VOID}"
    remedy = f"if 0 means background, name it first in {LABELMAP}"
    remedy += f"; if it means void, save {VOID} for it and every other label less 1"
    if first:
        remedy = f"subtract 1 from every label, or name label 0 first in {LABELMAP}"
    return [Remark("shifted", message(f"{root}: train", rule, f"{first}..{classes}", remedy))]
