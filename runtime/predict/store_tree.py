"""Folders on a store that are searched for pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from fcnkit.runtime.predict.parts import is_manifest
from fcnkit.runtime.predict.picture_file import SUFFIXES
from fcnkit.runtime.predict.stores import Store
from fcnkit.runtime.predict.tree import HIDDEN, NO_ENDING, RESULTS, ending_of, looked_at
from fcnkit.runtime.predict.urls import Url

__all__ = ["pictures_on"]


def pictures_on(
    root: Url, out: Path | Url, passed: Counter[str], on_data_set: Callable[[Url], object]
) -> Iterator[tuple[Url, list[Url]]]:
    """Yield the folders that hold pictures and their pictures, as ``Tree.pictures`` does.

    Objects are known by their endings alone: to look at their first bytes would take a request for
    each.

    Args:
        root: The folder that is searched.
        out: The output folder, which is left out.
        passed: Counts what is passed over, as for ``Tree``.
        on_data_set: Called with each folder in VOC layout.

    Raises:
        FcnkitError: As for ``Store``.
        OSError: The store does not answer.
    """
    for name, folders, objects in Store(root).walk():
        folder = root / name
        if folder == out or (name and any(map(is_manifest, objects))):
            passed[RESULTS] += folder != out
            folders.clear()
            continue
        folders[:], names, is_data_set = looked_at(folders, list(objects), passed)
        if is_data_set:
            on_data_set(folder)
        taken = []
        for one in names:
            ending = "" if one.startswith(".") else ending_of(one)
            if ending not in SUFFIXES:
                passed[HIDDEN if one.startswith(".") else ending or NO_ENDING] += 1
                continue
            url = folder / one
            url.stamp = objects[one]
            taken.append(url)
        if taken:
            yield folder, taken
