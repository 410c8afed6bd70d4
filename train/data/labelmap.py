"""Which classes a data set has, and the color of each in a mask.

A data set in VOC layout may name its classes in ``labelmap.txt``, one ``name:r,g,b::`` line each
as CVAT writes them; without that file the 21 classes of Pascal VOC apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.classmap import VOID_NAME
from fcnkit.runtime.artifacts.plain import is_text
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.pixels.palette import VOC_CLASSES, VOID_COLOR, voc_palette

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "Color",
    "LabelColors",
    "LabelMap",
    "choose_colors",
    "is_class_name",
    "read_export_labelmap",
    "read_labelmap",
    "read_lines",
    "voc_labelmap",
    "write_labelmap",
]

_BACKGROUND = "background"

_MAX_BYTES = 64 << 20
"""Of a label map or a list of names; ImageNet's list has 40 MB."""

Color = tuple[int, int, int]
"""Red, green and blue, 0..255."""


@dataclass(frozen=True)
class LabelMap:
    """Class names and colors; a class's label is its place in both."""

    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    void_color: Color = VOID_COLOR
    """Color of void pixels in RGB masks. In index masks void is 255, always."""

    @property
    def has_background(self) -> bool:
        """Whether class 0 is named background, in any case; only then can void count as class 0."""
        return self.classes[0].casefold() == _BACKGROUND


class LabelColors(NamedTuple):
    """Colors that all differ."""

    palette: tuple[Color, ...]
    void_color: Color


def voc_labelmap() -> LabelMap:
    """Return the 21 classes of Pascal VOC with their colors."""
    colors = [(red, green, blue) for red, green, blue in voc_palette(len(VOC_CLASSES)).tolist()]
    return LabelMap(VOC_CLASSES, tuple(colors))


def read_labelmap(path: Path) -> LabelMap:
    """Read ``labelmap.txt``: ``name:r,g,b::`` lines, ``#`` comments and blank lines.

    A last line named ``void`` is not a class: it gives the color that void has in RGB masks, which
    is (224, 224, 192) otherwise.

    Args:
        path: The file, UTF-8.

    Returns:
        The classes in the order of the lines.

    Raises:
        DataError: A line is malformed, a name or color occurs twice, void is not the last line,
            or there are no classes or more than 255.
        OSError: The file cannot be read.
    """
    colors: dict[str, Color] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line or line.startswith("#"):
            continue
        where = f"{path}:{number}"
        name, color = _parse_line(line, where)
        if VOID_NAME in colors and name != VOID_NAME:
            got = f"{name} after it"
            raise DataError(message(where, "void must be the last line", got, "move it to the end"))
        _check_new(name, color, colors, where)
        colors[name] = color
    void_color = colors.pop(VOID_NAME, VOID_COLOR)
    if not 1 <= len(colors) <= VOID:
        rule = f"must name 1 to {VOID} classes"
        raise DataError(message(str(path), rule, f"{len(colors)}", "add name:r,g,b:: lines"))
    if void_color in colors.values():
        name = next(name for name, color in colors.items() if color == void_color)
        rule = f"no class may have the color of void, {_written(void_color)}"
        raise DataError(message(str(path), rule, name, "add a last line void:r,g,b::"))
    return LabelMap(tuple(colors), tuple(colors.values()), void_color)


def read_export_labelmap(path: Path) -> LabelMap:
    """Read a ``labelmap.txt`` as annotation tools write it.

    Unlike in ``read_labelmap``, void may stand on any line and counts as a class here, because
    masks of numbers count its line too. Colors may be missing (``name:::``): then they are those
    of Pascal VOC by line, as Datumaro assumes.

    Args:
        path: The file, UTF-8.

    Returns:
        The lines as classes.

    Raises:
        DataError: A line is malformed, a name or color occurs twice, or there are no classes or
            more than 255.
        OSError: The file cannot be read.
    """
    lines = [
        (f"{path}:{number}", line)
        for number, line in enumerate(read_lines(path), start=1)
        if line and not line.startswith("#")
    ]
    if not 1 <= len(lines) <= VOID:
        rule = f"must name 1 to {VOID} classes"
        raise DataError(message(str(path), rule, f"{len(lines)}", "add name:r,g,b:: lines"))
    palette = voc_palette(len(lines)).tolist()
    colors: dict[str, Color] = {}
    for (where, line), assumed in zip(lines, palette, strict=True):
        fields = line.split(":")
        if len(fields) > 1 and not fields[1].strip():
            fields[1] = ",".join(map(str, assumed))
        name, color = _parse_line(":".join(fields), where)
        _check_new(name, color, colors, where)
        colors[name] = color
    return LabelMap(tuple(colors), tuple(colors.values()), _free_color(set(colors.values())))


def is_class_name(name: str) -> bool:
    """Whether a line of ``labelmap.txt`` can hold a class of this name."""
    plain = bool(name) and name == name.strip() and is_text(name)
    return plain and ":" not in name and not name.startswith("#") and name != VOID_NAME


def choose_colors(wanted: Sequence[Color | None]) -> LabelColors:
    """Give every class a color that no other class and not void has.

    Args:
        wanted: A color per class, None for any.

    Returns:
        The wanted color where it is still free, else the next free one of Pascal VOC; and the
        color of void.
    """
    chosen: dict[int, Color] = {}
    for place, color in enumerate(wanted):
        if color is not None and color != VOID_COLOR and color not in chosen.values():
            chosen[place] = color
    free = (
        (red, green, blue)
        for red, green, blue in voc_palette().tolist()
        if (red, green, blue) not in {*chosen.values(), VOID_COLOR}
    )
    palette = tuple(
        chosen[place] if place in chosen else next(free) for place in range(len(wanted))
    )
    return LabelColors(palette, _free_color(set(palette)))


def _free_color(taken: set[Color]) -> Color:
    """Return a color for void that no class has."""
    others = ((value, value, value) for value in range(255, -1, -1))
    return next(color for color in (VOID_COLOR, *others) if color not in taken)


def write_labelmap(path: Path, labelmap: LabelMap) -> None:
    """Write ``labelmap.txt``.

    Args:
        path: The file.
        labelmap: The classes; their names pass ``is_class_name``.

    Raises:
        OSError: The file cannot be written.
    """
    lines = ["# label:color_rgb:parts:actions"]
    pairs = list(zip(labelmap.classes, labelmap.palette, strict=True))
    if labelmap.void_color != VOID_COLOR:
        pairs.append((VOID_NAME, labelmap.void_color))
    lines += [f"{name}:{_written(color)}::" for name, color in pairs]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_lines(path: Path) -> list[str]:
    """Read a text file's lines, blanks at both ends removed.

    Args:
        path: A UTF-8 file, with or without a byte order mark.

    Returns:
        The lines.

    Raises:
        DataError: The file is not a regular file, larger than 64 MB, or not UTF-8.
        OSError: The file cannot be read.
    """
    if path.exists() and not path.is_file():
        # Opening a pipe would wait for a writer that may never come.
        raise DataError(message(str(path), "must be a text file", "no regular file", "replace it"))
    size = path.stat().st_size
    if size > _MAX_BYTES:
        rule, remedy = f"must have at most {_MAX_BYTES} bytes", "list names only, one per line"
        raise DataError(message(str(path), rule, size, remedy))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        got = f"byte {error.object[error.start]:#04x} at position {error.start}"
        raise DataError(message(str(path), "must be UTF-8 text", got, "save it as UTF-8")) from None
    return [line.strip() for line in text.split("\n")]


def _parse_line(line: str, where: str) -> tuple[str, Color]:
    fields = line.split(":")
    parts = [part.strip() for part in fields[1].split(",")] if len(fields) in (2, 3, 4) else []
    name = fields[0].strip()
    if name and is_text(name) and len(parts) == 3 and all(_is_byte(part) for part in parts):
        return name, (int(parts[0]), int(parts[1]), int(parts[2]))
    raise DataError(
        message(where, "a class is written name:r,g,b:: with 0..255", repr(line), "mend the line")
    )


def _is_byte(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255


def _check_new(name: str, color: Color, colors: dict[str, Color], where: str) -> None:
    if name in colors:
        raise DataError(message(where, "class names must differ", f"{name} again", "rename one"))
    for other, taken in colors.items():
        if taken == color:
            got = f"{_written(color)} for {other} and {name}"
            raise DataError(message(where, "class colors must differ", got, "change one"))


def _written(color: Color) -> str:
    return ",".join(str(value) for value in color)
