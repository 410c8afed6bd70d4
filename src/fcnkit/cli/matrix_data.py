"""What ``fcnkit bench matrix`` scores on: a split with truth, pictures, or made-up ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.bench.matrix_folder import MatrixFolder, files_key, key_of
from fcnkit.runtime.bench.stages import example_picture
from fcnkit.runtime.predict.inputs import search

__all__ = ["MatrixData", "open_matrix_data"]

_MADE_UP: Final = 8
"""Pictures where no data is given."""
_MOST: Final = 100
"""Pictures without truth whose labels are compared."""


@dataclass(frozen=True, kw_only=True)
class MatrixData:
    """Pictures, and what is known about them."""

    name: str | None
    """None where the pictures are made up."""
    pictures: tuple[Path, ...]
    key: str
    """Changes where the pictures or their masks do."""
    root: Path | None = None
    """The folder; None where there is none."""
    split: str | None = None
    """The list with truth; None where labels are compared with those of the source."""
    calibration_key: str = ""
    """Changes where anything of the folder does that int8 may be calibrated on."""

    def describe(self) -> dict[str, Any]:
        """Return what a report says about the data."""
        about = {"name": self.name, "split": self.split, "pictures": len(self.pictures)}
        return {**about, "truth": self.split is not None}


def open_matrix_data(
    root: Path | None,
    *,
    split: str | None,
    classes: tuple[str, ...],
    size: tuple[int, int],
    folder: MatrixFolder,
) -> MatrixData:
    """Find the pictures to score on.

    Args:
        root: A folder in VOC layout, a folder of pictures, or None.
        split: Which list of a folder in VOC layout; None is ``val``.
        classes: The models'.
        size: Height and width of made-up pictures.
        folder: Where made-up pictures are written.

    Returns:
        All pictures of a split; of a folder of pictures 100 at most, evenly spread.

    Raises:
        DataError: The folder in VOC layout is broken, or its classes are not the models'.
        ValueError: The folder holds no picture, or a split is named of a folder without lists.
    """
    from fcnkit.train.data.voc import LISTS

    if root is not None and (root / LISTS).is_dir():
        return _labeled(root, split or "val", classes)
    if split is not None:
        rule, got = "is a list of a folder in VOC layout", "no folder" if not root else str(root)
        remedy = "leave it out, or give such a folder as DATA"
        raise BadValueError(message("--split", rule, f"{split} of {got}", remedy))
    if root is None:
        return _made_up(size, folder)
    found = [job.file for job in search([str(root)], folder.root).jobs]
    chosen = tuple(found[:: -(-len(found) // _MOST)])
    every, key = files_key(found), files_key(chosen)
    return MatrixData(name=root.name, pictures=chosen, key=key, root=root, calibration_key=every)


def _made_up(size: tuple[int, int], folder: MatrixFolder) -> MatrixData:
    paths = tuple(folder.work / f"{number}.jpg" for number in range(_MADE_UP))
    for number, path in enumerate(paths):
        example_picture(*size, seed=number).save(path, quality=90)
    key = key_of(made_up=len(paths), size=size)
    return MatrixData(name=None, pictures=paths, key=key)


def _labeled(root: Path, split: str, classes: tuple[str, ...]) -> MatrixData:
    from fcnkit.train.data.voc import LABELMAP, open_voc, split_names
    from fcnkit.train.evaluation import check_classes

    opened = open_voc(root, split=split)
    check_classes(classes, opened)
    every = [sample for name in split_names(root) for sample in open_voc(root, split=name).samples]
    labelmap = [root / LABELMAP] if (root / LABELMAP).is_file() else []

    def key(samples: Sequence[Any]) -> str:
        return files_key(
            [*labelmap, *(path for sample in samples for path in (sample.image, sample.mask))]
        )

    return MatrixData(
        name=root.name,
        pictures=tuple(sample.image for sample in opened.samples),
        key=key_of(split=split, files=key(opened.samples)),
        root=root,
        split=split,
        calibration_key=key(every),
    )
