"""One picture's files, read and judged; and what is odd about many of them together."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train.data.alike import NEAR, look_of, matches
from fcnkit.train.data.masks import (
    MANY,
    ON_ITS_SIDE,
    decode_mask,
    orientation_of,
    read_image_levels,
    unknown_text,
)
from fcnkit.train.data.remarks import Remark, Remarks, named, shared_text
from fcnkit.train.data.voc import IMAGES, LISTS, MASKS, FileIndex, Sample, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fcnkit.runtime.predict.bands import Bands
    from fcnkit.runtime.predict.levels import LevelsSeen, Range
    from fcnkit.train.data.labelmap import LabelMap
    from fcnkit.train.data.masks import DecodedMask

__all__ = ["Picture", "Problem", "ProblemKind", "about_pictures", "inspect_picture"]

ProblemKind = Literal["missing", "unreadable", "unknown", "size"]


class Problem(NamedTuple):
    """Something to fix in one picture's files."""

    kind: ProblemKind
    name: str
    text: str


class Picture(NamedTuple):
    """What one name's files hold."""

    name: str
    problems: tuple[Problem, ...] = ()
    size: tuple[int, int] | None = None
    """Height and width as it is read; None where it cannot be."""
    orientation: int = 1
    """EXIF's, 1..8."""
    digest: bytes = b""
    """Of the pixels; empty where there is one color only, which many pictures may share."""
    look: bytes = b""
    """See ``alike.look_of``."""
    mask: DecodedMask | None = None
    """Without its labels."""
    counts: NDArray[np.int64] = np.zeros(VOID + 1, np.int64)
    """Pixels by label, (256,)."""
    swapped: bool = False
    """Whether the picture reads as a mask and the mask does not."""
    seen: LevelsSeen | None = None
    """Which values a picture of more than 8 bits holds."""
    path: Path | None = None
    """The picture's file."""

    @property
    def unknown(self) -> Counter[str]:
        """Pixels by unknown color or label."""
        return Counter(self.mask.unknown if self.mask else {})


def inspect_picture(
    name: str,
    images: FileIndex,
    masks: FileIndex,
    labelmap: LabelMap,
    range: Range | None = None,
    bands: Bands | None = None,
) -> Picture:
    """Read a listed name's picture and mask.

    Args:
        name: As listed.
        images: The pictures of the data set.
        masks: Its masks.
        labelmap: Its classes.
        range: The values that become 0 and 255 in pictures of more than 8 bits.
        bands: The stored samples that are red, green and blue.

    Returns:
        What they hold, and every problem.
    """
    problems: list[Problem] = []
    image, mask = (_find(index, name, problems) for index in (images, masks))
    found = Picture(name, path=image)
    if image is not None:
        try:
            image_hwc, seen = read_image_levels(image, range=range, bands=bands)
        except (DataError, OSError) as error:
            problems.append(Problem("unreadable", name, str(error)))
        else:
            height, width, _ = image_hwc.shape
            found = found._replace(
                size=(height, width),
                orientation=orientation_of(image),
                digest=_digest(image_hwc),
                look=look_of(image_hwc),
                seen=seen,
            )
    if mask is not None:
        try:
            decoded = decode_mask(mask, labelmap)
        except (DataError, OSError) as error:
            problems.append(Problem("unreadable", name, str(error)))
        else:
            labels_hw = decoded.labels_hw
            counts = np.bincount(labels_hw.ravel(), minlength=VOID + 1)
            found = found._replace(mask=decoded._replace(labels_hw=labels_hw[:0]), counts=counts)
            if decoded.unknown:
                text = unknown_text(mask, decoded.unknown, labelmap)
                problems.append(Problem("unknown", name, text))
            if image is not None and found.size is not None and found.size != labels_hw.shape:
                text = size_text(Sample(name, image, mask), found.size, labels_hw.shape)
                problems.append(Problem("size", name, text))
    no_mask = found.mask is None or len(found.mask.unknown) > MANY
    swapped = no_mask and image is not None and _reads_as_mask(image, labelmap)
    return found._replace(problems=tuple(problems), swapped=swapped)


def _find(index: FileIndex, name: str, problems: list[Problem]) -> Path | None:
    try:
        return index.only(name)
    except DataError as error:
        problems.append(Problem("missing", name, str(error)))
        return None


def _digest(image_hwc: NDArray[np.uint8]) -> bytes:
    if (image_hwc == image_hwc[0, 0]).all():
        return b""
    return hashlib.blake2b(repr(image_hwc.shape).encode() + image_hwc.tobytes()).digest()


def _reads_as_mask(image: Path, labelmap: LabelMap) -> bool:
    try:
        decoded = decode_mask(image, labelmap)
    except (DataError, OSError):
        return False
    # One label all over could be a picture of one color.
    return not decoded.unknown and len(np.unique(decoded.labels_hw)) > 1


def about_pictures(
    root: Path, listed: Mapping[str, Sequence[str]], pictures: Mapping[str, Picture]
) -> Remarks:
    """Look at what was read of all pictures together.

    Args:
        root: The data set.
        listed: The names of each split.
        pictures: What was read of each name.

    Returns:
        Warnings, and a note where splits hold images that look alike.
    """
    every = list(pictures.values())
    checks = (_void, _transparent, _repainted, _turned, _mixed, _swapped)
    found = [remark for check in checks for remark in check(root, every)]
    warnings, notes = list(found), list[Remark]()
    splits = [
        _Split(split, [pictures[name] for name in listed[split]])
        for split in ("train", "val", "test")
        if split in listed
    ]
    for first, second in combinations(splits, 2):
        warnings += _copies(root, first, second)
        notes += _alike(root, first, second)
    return Remarks(tuple(warnings), tuple(notes))


def _named(pictures: Sequence[Picture]) -> str:
    return f"{len(pictures)} ({named([picture.name for picture in pictures])})"


def _with(pictures: Sequence[Picture], holds: Callable[[DecodedMask], object]) -> list[Picture]:
    return [p for p in pictures if p.mask is not None and holds(p.mask)]


def _void(root: Path, pictures: Sequence[Picture]) -> Iterator[Remark]:
    void = [p for p in _with(pictures, lambda m: not m.unknown) if not p.counts[:VOID].any()]
    # If all are, the warning is about the splits.
    if void and any(picture.counts[:VOID].any() for picture in pictures):
        rule, remedy = "a mask should have labeled pixels", "label them, or take them off the list"
        got = f"only void in {_named(void)}"
        yield Remark("void", message(str(root / MASKS), rule, got, remedy))


def _transparent(root: Path, pictures: Sequence[Picture]) -> Iterator[Remark]:
    if clear := _with(pictures, lambda mask: mask.transparent):
        rule = "transparent pixels of a mask are read by their color"
        got, remedy = f"some in {_named(clear)}", "save the masks opaque, in the color of a class"
        yield Remark("alpha", message(str(root / MASKS), rule, got, remedy))


def _repainted(root: Path, pictures: Sequence[Picture]) -> Iterator[Remark]:
    if painted := _with(pictures, lambda mask: mask.repainted):
        rule = "a mask's palette should have the label map's colors"
        first = next(picture.mask.repainted for picture in painted if picture.mask)
        got = f"{_named(painted)} with other colors, such as {first}"
        remedy = "check that the numbers are the label map's, then give it the palette's colors"
        yield Remark("palette", message(str(root / MASKS), rule, got, remedy))


def _turned(root: Path, pictures: Sequence[Picture]) -> Iterator[Remark]:
    """Find pictures that EXIF turns without changing their size, which would tell of the masks."""
    unclear, fitting = [], 0
    for picture in pictures:
        if picture.orientation > 1 and picture.size and picture.mask:
            tells = picture.orientation >= ON_ITS_SIDE and picture.size[0] != picture.size[1]
            fitting += tells and not any(p.kind == "size" for p in picture.problems)
            if not tells:
                unclear.append(picture)
    # If other masks fit their turned pictures, these were probably drawn on turned pictures too.
    if unclear and not fitting:
        rule = "pictures are turned and mirrored as EXIF says, and masks are not"
        got = f"{_named(unclear)} whose size does not change"
        remedy = "check that the masks are drawn on what a viewer shows, or remove the EXIF tag"
        yield Remark("exif", message(str(root / IMAGES), rule, got, remedy))


def _mixed(root: Path, pictures: Sequence[Picture]) -> Iterator[Remark]:
    """Find masks of 0 and 255 among others of 0..K-1, where 255 cannot well mean void."""

    def split_by(objects: bool, void: bool) -> list[Picture]:
        return [
            p for p in pictures
            if p.counts[1:VOID].any() == objects and (p.counts[VOID] > 0) == void and not p.unknown
        ]  # fmt: skip

    scaled = [p for p in split_by(objects=False, void=True) if p.counts[0]]
    if len(scaled) > 1 and len(split_by(True, False)) > 1 and not split_by(True, True):
        rule = f"{VOID} is void in every mask"
        got = f"{_named(scaled)} with only 0 and {VOID}, while no other mask has {VOID}"
        remedy = f"if {VOID} stands for a class in them, save that class's label instead"
        yield Remark("mixed", message(str(root / MASKS), rule, got, remedy))


def _swapped(root: Path, pictures: Sequence[Picture]) -> Iterator[Remark]:
    if swapped := [picture for picture in pictures if picture.swapped]:
        rule = f"pictures belong in {IMAGES} and masks in {MASKS}"
        got = f"{_named(swapped)} the other way round"
        remedy = "exchange them"
        yield Remark("swapped", message(str(root), rule, got, remedy))


class _Split(NamedTuple):
    """The pictures on one list."""

    name: str
    pictures: Sequence[Picture]

    def not_on(self, other: _Split) -> list[Picture]:
        """Return the pictures whose names are not on another list."""
        names = {picture.name for picture in other.pictures}
        return [picture for picture in self.pictures if picture.name not in names]


def _copies(root: Path, first: _Split, second: _Split) -> Iterator[Remark]:
    """Find pictures that two splits share under different names."""
    digests = {picture.digest: picture.name for picture in first.pictures if picture.digest}
    pairs = [
        f"{digests[picture.digest]} = {picture.name}"
        for picture in second.not_on(first)
        if picture.digest in digests
    ]
    if pairs:
        got = f"{len(pairs)} identical under two names ({named(pairs)})"
        yield Remark("copies", shared_text(root, first.name, second.name, got))


def _alike(root: Path, first: _Split, second: _Split) -> Iterator[Remark]:
    """Find pictures of two splits that look alike. Shared names and copies have a warning."""
    held = {picture.digest for picture in first.pictures}
    others = [picture for picture in second.not_on(first) if picture.digest not in held]
    found = matches(
        {picture.name: picture.look for picture in first.pictures},
        {picture.name: picture.look for picture in others},
    )
    if found:
        rule = f"pictures of {first.name}.txt and {second.name}.txt should not look alike"
        shown = named([f"{name} like {other}" for other, name in found])
        got = f"{len(found)} of {len(second.pictures)} in {second.name}.txt that do ({shown}): "
        got += f"at most {NEAR} of the 64 bits of a hash differ"
        remedy = "if they are frames of one scene, keep them on one list with fcnkit data split "
        remedy += "--force --group REGEX"
        yield Remark("alike", message(str(root / LISTS), rule, got, remedy))
