"""A data set in Pascal VOC layout: where the files of a split are.

The layout is ``JPEGImages/`` (JPEG, PNG or TIFF), ``SegmentationClass/*.png``,
``ImageSets/Segmentation/{split}.txt`` (a name per line, without extension) and, for other classes
than VOC's, ``labelmap.txt``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from fcnkit.errors import DataError, message
from fcnkit.runtime.checks import check_type
from fcnkit.runtime.predict.bands import Bands, check_bands
from fcnkit.runtime.predict.levels import Range, check_range
from fcnkit.train.data.labelmap import Color, LabelMap, read_labelmap, read_lines, voc_labelmap
from fcnkit.train.data.masks import ON_ITS_SIDE, orientation_of, read_image, read_mask, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from fcnkit.runtime.artifacts.spec import ModelSpec

__all__ = [
    "IMAGES",
    "LABELMAP",
    "LISTS",
    "MASKS",
    "FileIndex",
    "Sample",
    "Sifted",
    "VocFolder",
    "drop_smaller",
    "no_labels",
    "open_voc",
    "read_labelmap_of",
    "read_pair",
    "read_split",
    "size_text",
    "split_names",
]

IMAGES = "JPEGImages"
MASKS = "SegmentationClass"
LISTS = "ImageSets/Segmentation"
LABELMAP = "labelmap.txt"

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
_MASK_SUFFIXES = (".png",)
_JPEG = (".jpg", ".jpeg")
_SHOWN = 3
"""Missing names that an error lists."""


@dataclass(frozen=True)
class Sample:
    """One labeled picture."""

    name: str
    image: Path
    mask: Path
    range: Range | None = None
    """The values that become 0 and 255 in pictures of more than 8 bits."""
    bands: Bands | None = None
    """The stored samples that are red, green and blue; None for what the file says."""


class Sifted(NamedTuple):
    """Samples kept and dropped by a rule, each in their order."""

    kept: tuple[Sample, ...]
    dropped: tuple[Sample, ...]


@dataclass(frozen=True)
class VocFolder:
    """One split of a data set in VOC layout."""

    root: Path
    split: str
    labelmap: LabelMap
    samples: tuple[Sample, ...]
    range: Range | None = None
    """As every sample has it."""
    bands: Bands | None = None
    """As every sample has them."""

    def seen_by(self, spec: ModelSpec) -> VocFolder:
        """Return the split with its pictures read as a model reads them."""
        range, bands = spec.range, spec.bands
        samples = tuple(replace(sample, range=range, bands=bands) for sample in self.samples)
        return replace(self, samples=samples, range=range, bands=bands)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a class's label is its place."""
        return self.labelmap.classes

    @property
    def palette(self) -> tuple[Color, ...]:
        """The color of each class."""
        return self.labelmap.palette


def open_voc(
    root: Path, *, split: str, range: Range | None = None, bands: Bands | None = None
) -> VocFolder:
    """Find the pictures and masks of a split.

    Nothing is decoded yet; every file named in the split's list exists.

    Args:
        root: The folder that holds ``JPEGImages/``.
        split: The list's name: ``train``, ``val``.
        range: As for ``fcnkit.runtime.read_picture``.
        bands: As for ``fcnkit.runtime.read_picture``.

    Returns:
        The split.

    Raises:
        TypeError: split is not a str, or range or bands are not integers.
        ValueError: range is not 0 <= low < high <= 65535, or bands are not three of 1..65535.
        DataError: A folder or list is missing, the list is empty or malformed, a picture or mask
            is missing, or ``labelmap.txt`` is malformed.
        OSError: A folder or file cannot be read.
    """
    check_type("open_voc: split", split, str)
    range, bands = check_range("--range", range), check_bands("--bands", bands)
    labelmap = read_labelmap_of(root)
    names = read_split(root, split)
    images, masks = FileIndex.of_images(root), FileIndex.of_masks(root)
    for index in (images, masks):
        _check_all_there(index, names, root, split)
    samples = tuple(
        Sample(name, images.only(name), masks.only(name), range, bands) for name in names
    )
    return VocFolder(root, split, labelmap, samples, range, bands)


def read_pair(
    sample: Sample, labelmap: LabelMap, *, void_as_background: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read a picture and its mask.

    Args:
        sample: Where they are.
        labelmap: The classes and their colors.
        void_as_background: As for ``read_mask``.

    Returns:
        uint8 arrays: the picture (H, W, 3) RGB, and its labels (H, W), void 255.

    Raises:
        DataError: A file is damaged, a color or label is unknown, or the sizes differ.
    """
    image_hwc = read_image(sample.image, range=sample.range, bands=sample.bands)
    labels_hw = read_mask(sample.mask, labelmap, void_as_background=void_as_background)
    if image_hwc.shape[:2] != labels_hw.shape:
        raise DataError(size_text(sample, image_hwc.shape[:2], labels_hw.shape))
    return image_hwc, labels_hw


def size_text(sample: Sample, image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    """Word the error for a mask of another size than its picture, both (height, width)."""
    rule, got = f"a mask has its picture's size, {image[0]}x{image[1]}", f"{mask[0]}x{mask[1]}"
    remedy = f"make it again for {sample.image.name}"
    orientation = orientation_of(sample.image)
    if orientation >= ON_ITS_SIDE and image == mask[::-1]:
        rule += f" after EXIF orientation {orientation} turned it"
        got += ", the size before"
        remedy = f"turn the mask likewise, or remove the EXIF orientation of {sample.image.name}"
    return message(str(sample.mask), rule, got, remedy)


def no_labels(folder: VocFolder, masks: int) -> DataError:
    """Word that every mask of a split is void all over."""
    rule, got = "some pixel must be labeled", f"{masks} masks with only void"
    remedy = f"save the labels 0..{len(folder.classes) - 1}, because 255 is void"
    return DataError(message(f"{folder.root}: {folder.split}", rule, got, remedy))


def drop_smaller(samples: Sequence[Sample], height: int, width: int) -> Sifted:
    """Separate the pictures that are smaller than the crop, as the d2l.ai chapter does.

    Args:
        samples: The samples; of each only the picture's header is read.
        height: The crop's height in pixels.
        width: The crop's width in pixels.

    Returns:
        The samples at least that large, and the others.

    Raises:
        DataError: A picture is damaged.
    """
    kept: list[Sample] = []
    dropped: list[Sample] = []
    for sample in samples:
        high, wide = size_of(sample.image)
        (kept if high >= height and wide >= width else dropped).append(sample)
    return Sifted(tuple(kept), tuple(dropped))


def read_labelmap_of(root: Path) -> LabelMap:
    """Read a data set's ``labelmap.txt``, or take VOC's classes where there is none.

    Args:
        root: The folder that holds ``JPEGImages/``.

    Returns:
        The classes and their colors.

    Raises:
        DataError: root is not a folder, or the label map is malformed.
    """
    if not root.is_dir():
        got = "a file" if root.exists() else "no such folder"
        raise DataError(message(str(root), "a data set is a folder", got, "check the path"))
    path = root / LABELMAP
    return read_labelmap(path) if path.exists() else voc_labelmap()


def split_names(root: Path) -> tuple[str, ...]:
    """Return the names of a data set's splits, train and val first; hidden files are skipped.

    Args:
        root: The folder that holds ``ImageSets/``.

    Returns:
        At least one name.

    Raises:
        DataError: There is no list.
    """
    folder = _folder(root, LISTS)
    names = {path.stem for path in folder.glob("*.txt") if not _is_hidden(path)}
    if not names:
        remedy = "write train.txt and val.txt, a picture name per line"
        raise DataError(message(str(folder), "must hold a list per split", "none", remedy))
    return tuple(sorted(names, key=lambda name: (name != "train", name != "val", name)))


def read_split(root: Path, split: str) -> tuple[str, ...]:
    """Read the names listed for a split.

    Args:
        root: The folder that holds ``ImageSets/``.
        split: The list's name: ``train``, ``val``.

    Returns:
        The names, in the list's order.

    Raises:
        DataError: The list is missing, empty, holds a name twice or something that is not a
            plain file name.
    """
    names_there = split_names(root)
    if split not in names_there:
        remedy = f"there are: {', '.join(names_there)}"
        what = str(root / LISTS)
        raise DataError(message(what, "must hold the split's list", f"no {split}.txt", remedy))
    path = root / LISTS / f"{split}.txt"
    names: dict[str, None] = {}
    for number, name in enumerate(read_lines(path), start=1):
        if not name:
            continue
        _check_name(name, names, f"{path}:{number}")
        names[name] = None
    if not names:
        rule = "a split must list at least one picture"
        raise DataError(message(str(path), rule, "none", "write a picture name per line"))
    return tuple(names)


class FileIndex:
    """The files of one folder by the name they are listed under; hidden files are skipped."""

    def __init__(self, folder: Path, suffixes: tuple[str, ...]) -> None:
        self.folder = folder
        self._suffixes = suffixes
        self._paths: dict[str, list[Path]] = {}
        self._others: dict[str, list[Path]] = {}
        """Files of the other suffixes, to be named where one of these is missing."""
        for path in sorted(folder.iterdir()):
            if not _is_hidden(path):
                fits = path.suffix.lower() in suffixes
                (self._paths if fits else self._others).setdefault(path.stem, []).append(path)

    @classmethod
    def of_images(cls, root: Path) -> FileIndex:
        """Index a data set's pictures.

        Raises:
            DataError: There is no such folder.
        """
        return cls(_folder(root, IMAGES), _IMAGE_SUFFIXES)

    @classmethod
    def of_masks(cls, root: Path) -> FileIndex:
        """Index a data set's masks.

        Raises:
            DataError: There is no such folder.
        """
        return cls(_folder(root, MASKS), _MASK_SUFFIXES)

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def names(self) -> list[str]:
        """Return the names, in order."""
        return list(self._paths)

    def only(self, name: str) -> Path:
        """Return the one file of that name.

        Raises:
            DataError: There is none, or more than one.
        """
        paths = self._paths.get(name, [])
        if len(paths) == 1:
            return paths[0]
        what, suffixes = str(self.folder / name), ", ".join(self._suffixes)
        if paths:
            got, remedy = ", ".join(path.name for path in paths), "take the others away"
        elif others := self._others.get(name):
            got = f"none with {suffixes} but {', '.join(path.name for path in others)}"
            remedy = "make it again as .png"
            if others[0].suffix.lower() in _JPEG and self._suffixes == _MASK_SUFFIXES:
                remedy += " from the labels, because JPEG has changed them"
        elif name.rpartition(".")[0] in self._paths:
            got, remedy = f"none with {suffixes}", "list the name without its extension"
        else:
            got, remedy = f"none with {suffixes}", "add it, or take the name off the list"
        raise DataError(message(what, "must be one file", got, remedy))


def _is_hidden(path: Path) -> bool:
    """Whether to skip a file: macOS puts a ``._name`` beside every ``name``."""
    return path.name.startswith(".")


def _folder(root: Path, name: str) -> Path:
    folder = root / name
    if folder.is_dir():
        return folder
    remedy = f"a data set holds {IMAGES}/, {MASKS}/ and {LISTS}/"
    nested = root / "VOCdevkit" / "VOC2012"
    if nested.is_dir():
        remedy = f"pass {nested}"
    raise DataError(message(str(root), f"must hold {name}/", "no such folder", remedy))


def _check_name(name: str, names: dict[str, None], where: str) -> None:
    # Listed names become paths: none may lead out of the data set.
    if "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
        rule = "a listed name is a plain file name without extension"
        raise DataError(message(where, rule, repr(name), "write the bare name"))
    if name in names:
        rule = "a name is listed once"
        raise DataError(message(where, rule, f"{name} again", "take the line out"))


def _check_all_there(index: FileIndex, names: Sequence[str], root: Path, split: str) -> None:
    missing = [name for name in names if name not in index]
    if not missing:
        return
    shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    raise DataError(
        message(
            str(index.folder),
            f"must hold every name listed in {split}.txt",
            f"{len(missing)} missing ({shown})",
            f"run fcnkit data check {root}; names are listed without extension",
        )
    )
