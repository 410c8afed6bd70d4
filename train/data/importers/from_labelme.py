"""LabelMe: a JSON file of shapes beside each image, drawn as LabelMe's own converter draws them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import math
import struct
import zlib
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, ImageDraw

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.classmap import VOID_NAME, OldClass
from fcnkit.train.data.importers.json_file import check_outline, entry, load_json
from fcnkit.train.data.importers.source import (
    Dropped,
    Item,
    Source,
    below,
    check_size,
    pictures_below,
    split_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from fcnkit.train.data.importers.source import Request, Size

__all__ = ["is_labelme", "is_labelme_file", "open_labelme"]

_IGNORED: Final = "__ignore__"
_BACKGROUND: Final = ("background", "_background_")
_WITHOUT_AREA: Final = ("line", "linestrip", "point", "points")
_MOST_SHAPES: Final = 100_000
_LOOKED_AT: Final = 4


def is_labelme_file(data: Mapping[str, Any]) -> bool:
    """Whether a JSON object is one of LabelMe's."""
    return isinstance(data.get("shapes"), list) and "imagePath" in data


def is_labelme(root: Path) -> bool:
    """Whether a folder holds a JSON file of LabelMe; only the first ones below it are read."""
    for path in islice(_json_files(root), _LOOKED_AT):
        with contextlib.suppress(DataError, OSError):
            if is_labelme_file(load_json(path)):
                return True
    return False


def _json_files(root: Path) -> Iterator[Path]:
    return (
        path
        for path in sorted(root.rglob("*.json"))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def open_labelme(request: Request) -> Source:
    """Read the labels of all JSON files and find their images.

    The classes are ``background`` and the labels in order of name; ``__ignore__`` is void. Where
    shapes overlap, the later one in the file counts.

    Args:
        request: Whose root holds the JSON files.

    Returns:
        The source.

    Raises:
        DataError: A file is malformed, or its image is missing or outside of root.
        OSError: A file cannot be read.
    """
    dropped = Dropped()
    found: list[tuple[Path, Path, tuple[object, object]]] = []
    labels: set[str] = set()
    for path in _json_files(request.root):
        data = load_json(path)
        if not is_labelme_file(data):
            dropped.add("JSON files without shapes", path.name)
            continue
        image = _image(data, path, request, dropped)
        if image is not None:
            labels |= {
                entry(shape, "label", str, f"{path}: shapes") for shape in _shapes(data, path)
            }
            found.append((path, image, _declared(data)))
    names = sorted(
        name for name in labels if name not in (*_BACKGROUND, _IGNORED) and not _is_void(name)
    )
    place_of = {name: place for place, name in enumerate(names, start=1)}
    place_of |= dict.fromkeys(_BACKGROUND, 0)
    place_of |= {name: len(names) + 1 for name in labels if name == _IGNORED or _is_void(name)}
    items = []
    for path, image, declared in found:
        name = path.relative_to(request.root).with_suffix("").as_posix()
        split, rest = split_of(PurePosixPath(name))
        draw = partial(_draw, path, place_of, dropped)
        items.append(Item(rest, split, image, draw, declared))
    used = {image for _, image, _ in found}
    for image in pictures_below(request.images or request.root):
        if image not in used:
            dropped.add("images without a JSON file", image.name)
    classes = (OldClass("background"), *map(OldClass, names), OldClass(VOID_NAME, None, True))
    notes = ["pixels outside of every shape are background"]
    colors = (None,) * len(classes)
    return Source("labelme", classes, colors, tuple(items), dropped, notes)


def _declared(data: Mapping[str, Any]) -> tuple[object, object]:
    """Return the height and width of the image that was labeled."""
    return data.get("imageHeight"), data.get("imageWidth")


def _is_void(name: str) -> bool:
    return name.casefold() == VOID_NAME


def _shapes(data: Mapping[str, Any], path: Path) -> list[Any]:
    shapes: list[Any] = entry(data, "shapes", list, str(path))
    if len(shapes) > _MOST_SHAPES:
        rule = f"must hold at most {_MOST_SHAPES} shapes"
        raise DataError(message(str(path), rule, len(shapes), "do not use this file"))
    return shapes


def _image(data: Mapping[str, Any], path: Path, request: Request, dropped: Dropped) -> Path | None:
    """Return the image of a JSON file: the one it names, or the one inside of it."""
    where = f"{path}: imagePath"
    name = entry(data, "imagePath", str, str(path))
    folder = path.parent.relative_to(request.root).as_posix()
    if request.images is not None:
        bare = PurePosixPath(name.replace("\\", "/")).name
        image = request.images / folder / bare
        image = image if image.is_file() else request.images / bare
    else:
        image = below(request.root, name, where, "pass --images DIR", folder=folder)
    if image.is_file():
        return image
    inside = data.get("imageData")
    if isinstance(inside, str) and inside:
        relative = path.relative_to(request.root).with_suffix(image.suffix or ".png")
        copy = request.work / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(_decoded(inside, f"{path}: imageData"))
        return copy
    if request.skip_missing:
        dropped.add("JSON files without an image", path.name)
        return None
    remedy = "add it, pass --images DIR, or pass --skip-missing"
    raise DataError(message(where, "must name an image", f"{name}, no such file", remedy))


def _decoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        remedy = "save the file again in LabelMe"
        raise DataError(message(where, "must be Base64", "something else", remedy)) from None


def _draw(
    path: Path, place_of: Mapping[str, int], dropped: Dropped, size: Size
) -> NDArray[np.uint16]:
    """Draw the shapes of a file, each over those before it."""
    data = load_json(path)
    check_size(_declared(data), size, str(path))
    canvas = Image.new("I", (size[1], size[0]))
    for number, shape in enumerate(_shapes(data, path)):
        where = f"{path}: shapes[{number}]"
        place = place_of[entry(shape, "label", str, where)]
        kind = shape.get("shape_type") or "polygon"
        if kind in _WITHOUT_AREA:
            dropped.add(f"shapes of type {kind}, which have no area", path.name)
        elif kind == "mask":
            _paste(canvas, shape, place, where)
        else:
            points = _points(shape, size, where)
            if kind == "polygon" and len(points) < 3:
                dropped.add("polygons of fewer than 3 points", path.name)
            else:
                _draw_shape(ImageDraw.Draw(canvas), kind, points, place, where)
    return np.array(canvas).astype(np.uint16)


def _points(shape: Mapping[str, Any], size: Size, where: str) -> list[tuple[float, float]]:
    points = entry(shape, "points", list, where)
    if not all(isinstance(point, list) and len(point) == 2 for point in points):
        rule = "points are pairs [x, y]"
        raise DataError(message(where, rule, "something else", "save the file again in LabelMe"))
    flat = check_outline([value for point in points for value in point], size, where)
    return list(zip(flat[0::2], flat[1::2], strict=True))


def _draw_shape(
    draw: ImageDraw.ImageDraw, kind: str, points: list[tuple[float, float]], place: int, where: str
) -> None:
    """Draw a shape as LabelMe's ``shape_to_mask`` does."""
    if kind == "polygon" or (kind == "oriented_rectangle" and len(points) == 4):
        draw.polygon(points, fill=place, outline=place)
    elif kind == "rectangle" and len(points) == 2:
        (left, right), (top, bottom) = (sorted(axis) for axis in zip(*points, strict=True))
        draw.rectangle((left, top, right, bottom), fill=place, outline=place)
    elif kind == "circle" and len(points) == 2:
        (x, y), radius = points[0], math.dist(*points)
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=place, outline=place)
    else:
        rule = "a shape is a polygon, rectangle, circle or mask"
        got, remedy = f"{kind!r} of {len(points)} points", "draw it as a polygon"
        raise DataError(message(where, rule, got, remedy))


def _paste(canvas: Image.Image, shape: Mapping[str, Any], place: int, where: str) -> None:
    """Draw a shape that is a small its own image, at its place."""
    size = (canvas.height, canvas.width)
    points = _points(shape, size, where)
    content = _decoded(entry(shape, "mask", str, where), f"{where}: mask")
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as mask:
            fits = mask.width * mask.height <= canvas.width * canvas.height
            got = f"{mask.height}x{mask.width}"
            on = np.array(mask.convert("L")) > 0 if fits else None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        got, remedy = str(error) or type(error).__name__, "save the file again in LabelMe"
        raise DataError(message(f"{where}: mask", "must be a PNG file", got, remedy)) from None
    if on is None or len(points) != 2:
        rule, remedy = "a mask fits into the image", "save the file again in LabelMe"
        raise DataError(message(where, rule, got, remedy))
    left, top = (int(value) for value in points[0])
    canvas.paste(place, (left, top), Image.fromarray(on.astype(np.uint8) * 255))
