"""Names and colors of the classes of an adopted network."""

from __future__ import annotations

from dataclasses import dataclass

from fcnkit.errors import BadValueError, message
from fcnkit.export.adopt.claims import Claims
from fcnkit.runtime.pixels.palette import voc_palette
from fcnkit.train.data.labelmap import Color, read_labelmap, voc_labelmap

__all__ = ["Names", "name_classes"]


@dataclass(frozen=True, kw_only=True)
class Names:
    """The classes of a network."""

    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    fact: str
    """Where the names come from, for a person."""


def name_classes(claims: Claims, found: int | None, *, voc: bool, where: str) -> Names:
    """Name the classes by what is said, or by what was found.

    Args:
        claims: What the user says.
        found: Number of classes of the network; None where it does not show.
        voc: Whether 21 classes are those of Pascal VOC, and other numbers must be named: so it is
            with layouts whose usual training set is VOC.
        where: The source, for errors.

    Returns:
        The names.

    Raises:
        ValueError: The number of classes is another than the network's, or must be said.
        DataError: The label map is broken.
    """
    if claims.labelmap is not None:
        read = read_labelmap(claims.labelmap)
        _check_count("--labelmap", len(read.classes), found)
        fact = f"{len(read.classes)} classes of {claims.labelmap.name}"
        return Names(classes=read.classes, palette=read.palette, fact=fact)
    if claims.classes is not None:
        _check_count("--classes", claims.classes, found)
        return _numbered(claims.classes, "as said")
    if voc and found == 21:
        map_ = voc_labelmap()
        fact = "21 classes, taken for those of Pascal VOC; name others with --labelmap"
        return Names(classes=map_.classes, palette=map_.palette, fact=fact)
    if found is None or voc:
        rule = "the names of the classes must be known"
        got = "a graph that takes the argmax itself" if found is None else f"{found} classes"
        remedy = "name them with --labelmap labelmap.txt, or count them with --classes "
        raise BadValueError(message(where, rule, got, remedy + str(found or 21)))
    return _numbered(found, "as the network gives scores for; name them with --labelmap")


def _numbered(count: int, why: str) -> Names:
    palette = tuple((red, green, blue) for red, green, blue in voc_palette(count).tolist())
    classes = tuple(f"class {number}" for number in range(count))
    return Names(classes=classes, palette=palette, fact=f"{count} classes, {why}")


def _check_count(option: str, said: int, found: int | None) -> None:
    if found is not None and said != found:
        rule = f"the network gives scores for {found} classes"
        remedy = f"give {found} classes, or another network"
        raise BadValueError(message(option, rule, f"{said} classes", remedy))
