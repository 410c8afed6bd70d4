"""Writes the lists of a data set: which images are for training, validation and testing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcnkit.errors import BadValueError, DataError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.checks import check_int
from fcnkit.runtime.files import atomic_write
from fcnkit.train.data.masks import read_mask
from fcnkit.train.data.stratify import RATIOS, SPLITS, Ratios, deal
from fcnkit.train.data.voc import LISTS, FileIndex, read_labelmap_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from fcnkit.train.data.labelmap import LabelMap

__all__ = ["SplitCounts", "SplitResult", "group_of", "split_folder", "write_lists"]


@dataclass(frozen=True)
class SplitCounts:
    """What a split got."""

    images: int
    groups: int
    classes: dict[str, int]
    """Images in which each class occurs."""


@dataclass(frozen=True)
class SplitResult:
    """What ``split_folder`` wrote."""

    root: Path
    splits: dict[str, SplitCounts]
    without_mask: int
    """Images that have no mask and are on no list."""

    @property
    def lacking(self) -> dict[str, list[str]]:
        """Classes that occur in the data set and in no image of a split."""
        every = {name for split in self.splits.values() for name, n in split.classes.items() if n}
        return {
            name: lacking
            for name, split in self.splits.items()
            if (
                lacking := [label for label, n in split.classes.items() if not n and label in every]
            )
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return {
            "root": str(self.root),
            "splits": {
                name: {"images": split.images, "groups": split.groups, "classes": split.classes}
                for name, split in self.splits.items()
            },
            "without_mask": self.without_mask,
            "lacking": self.lacking,
        }


def split_folder(
    root: Path,
    *,
    ratios: Ratios = RATIOS,
    group: str | None = None,
    seed: int = 0,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SplitResult:
    """Divide the labeled images of a data set and write ``train.txt``, ``val.txt``, ``test.txt``.

    Every class gets its share of each split where that is possible. The same arguments give the
    same lists.

    Args:
        root: The folder that holds ``JPEGImages/``.
        ratios: The shares; no list is written for a share of 0.
        group: A regular expression with one group, searched in every name. Images for which it
            finds the same text stay together.
        seed: Which of many equally good divisions.
        force: Replace lists. A ``test.txt`` that has no share is removed.
        progress: Called with the masks read so far and the number of all.

    Returns:
        What each split got.

    Raises:
        ValueError: group is no such expression, or the seed is out of range.
        DataError: There are lists and force is False; a name does not match group; no image has
            a mask; or a mask is broken.
        OSError: A file cannot be read or written.
    """
    seed = check_int("--seed", seed, 0, 2**63 - 1)
    find = group_of(group)
    labelmap = read_labelmap_of(root)
    images, masks = FileIndex.of_images(root), FileIndex.of_masks(root)
    names = [name for name in images.names() if name in masks]
    if not names:
        rule, remedy = "some image must have a mask", "name masks like their images"
        raise DataError(message(str(root), rule, "none", remedy))
    _check_lists(root, force)
    groups = [find(name) for name in names]
    presence = []
    for number, name in enumerate(names, start=1):
        images.only(name)
        labels = np.unique(read_mask(masks.only(name), labelmap)).tolist()
        presence.append({label for label in labels if label != VOID})
        if progress is not None:
            progress(number, len(names))
    chosen = deal(presence, groups, ratios, seed)
    lists = {
        split: [n for n, s in zip(names, chosen, strict=True) if s == split] for split in SPLITS
    }
    write_lists(root, {split: listed for split, listed in lists.items() if listed})
    counts = {
        split: _counts(split, chosen, groups, presence, labelmap)
        for split in SPLITS
        if lists[split]
    }
    return SplitResult(root, counts, len(images.names()) - len(names))


def group_of(group: str | None) -> Callable[[str], str]:
    """Return what finds the group of a name.

    Args:
        group: A regular expression with one group; None makes every image its own group.

    Raises:
        ValueError: group is not a regular expression, or does not have one group.
    """
    if group is None:
        return str
    try:
        pattern = re.compile(group)
    except re.error as error:
        rule, got = "must be a regular expression", f"{group}, {error}"
        raise BadValueError(message("--group", rule, got, "write '^(drive[0-9]+)_'")) from None
    if pattern.groups != 1:
        rule, got = "must have one group in parentheses", f"{pattern.groups} in {group}"
        raise BadValueError(message("--group", rule, got, "write '^(drive[0-9]+)_'"))

    def find(name: str) -> str:
        match = pattern.search(name)
        if match is None or match[1] is None:
            rule, remedy = f"every name must match {group}", "change --group"
            raise DataError(message("--group", rule, name, remedy))
        return match[1]

    return find


def _check_lists(root: Path, force: bool) -> None:
    there = [f"{split}.txt" for split in SPLITS if (root / LISTS / f"{split}.txt").exists()]
    if there and not force:
        rule, remedy = "lists are not replaced", "pass --force to replace them"
        raise DataError(message(str(root / LISTS), rule, ", ".join(there), remedy))


def write_lists(root: Path, lists: Mapping[str, Sequence[str]]) -> None:
    """Write the lists of a data set, and remove those of train, val and test that are not given.

    A kill in between leaves a list missing, which training refuses, and never lists that do not
    belong together.

    Args:
        root: The data set.
        lists: The names of each split.

    Raises:
        OSError: They cannot be written.
    """
    folder = root / LISTS
    folder.mkdir(parents=True, exist_ok=True)
    for split in reversed(SPLITS):
        (folder / f"{split}.txt").unlink(missing_ok=True)
    for split, names in lists.items():
        content = "".join(f"{name}\n" for name in names).encode()
        atomic_write(folder / f"{split}.txt", content)


def _counts(
    split: str,
    chosen: Sequence[str],
    groups: Sequence[str],
    presence: Sequence[AbstractSet[int]],
    labelmap: LabelMap,
) -> SplitCounts:
    inside = [index for index, name in enumerate(chosen) if name == split]
    found = Counter(label for index in inside for label in presence[index])
    classes = {name: found[label] for label, name in enumerate(labelmap.classes)}
    return SplitCounts(len(inside), len({groups[index] for index in inside}), classes)
