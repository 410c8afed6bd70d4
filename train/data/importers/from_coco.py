"""COCO: one JSON file per split, with polygons or run lengths."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.classmap import VOID_NAME, OldClass
from fcnkit.train.data.importers.coco_masks import Annotation, draw, import_library
from fcnkit.train.data.importers.json_file import entry, load_json
from fcnkit.train.data.importers.source import (
    Dropped,
    Item,
    Source,
    below,
    pictures_below,
    split_name,
    split_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fcnkit.train.data.importers.source import Request

__all__ = ["is_coco", "is_coco_file", "open_coco"]

_PARTS: Final = ("images", "annotations", "categories")
_BACKGROUND: Final = "background"
_RELATIVE: Final = "write the path below the folder of the images"
_SHOWN, _LOOKED_AT = 3, 4


def is_coco_file(data: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a data set of COCO."""
    return all(isinstance(data.get(part), list) for part in _PARTS)


def is_coco(root: Path) -> bool:
    """Whether a folder holds a data set of COCO; only the first JSON files are looked at."""
    return any(_looks_like_coco(path) for path in _candidates(root)[:_LOOKED_AT])


def _candidates(root: Path) -> list[Path]:
    """Return the JSON files where COCO's lie: in ``annotations``, on top or one folder below."""
    folders = ("annotations/*.json", "*.json", "*/*.json")
    found = [path for pattern in folders for path in sorted(root.glob(pattern))]
    visible = dict.fromkeys(path for path in found if not path.name.startswith("."))
    instances = [path for path in visible if path.name.startswith("instances_")]
    return instances or list(visible)


def _looks_like_coco(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 24):
                if b'"segmentation"' in chunk or b'"categories"' in chunk:
                    return True
    except OSError:
        pass
    return False


def open_coco(request: Request) -> Source:
    """Read the JSON files and find the images.

    The classes are ``background`` and the categories by id. Pixels outside of every annotation
    are background.

    Args:
        request: Whose file is a JSON file, or whose root holds some.

    Returns:
        The source.

    Raises:
        MissingExtraError: pycocotools is not installed.
        DataError: A file is malformed, an image is missing, or nothing has an outline.
        OSError: A file cannot be read.
    """
    import_library()
    dropped, notes = Dropped(), ["pixels outside of every annotation are background"]
    files = [request.file] if request.file is not None else _candidates(request.root)
    loaded = {path: load_json(path) for path in files}
    loaded = {path: data for path, data in loaded.items() if is_coco_file(data)}
    if not loaded:
        rule = f"must hold a JSON file with {', '.join(_PARTS)}"
        raise DataError(message(str(request.root), rule, "none", "export it again"))
    names: dict[int, str] = {}
    for path, data in loaded.items():
        _read_categories(path, data["categories"], names)
    place_of = _places(names)
    overlaps = _Overlaps(notes)
    items = [
        item
        for path, data in loaded.items()
        for item in _items(path, data, request, place_of, dropped, overlaps)
    ]
    if loaded and not overlaps.outlines:
        rule, got = "some annotation must have a segmentation", "boxes alone"
        raise DataError(message(str(next(iter(loaded))), rule, got, "export masks or polygons"))
    ids = sorted(names)
    classes = [OldClass(_BACKGROUND)]
    classes += [OldClass(names[id], id, names[id].casefold() == VOID_NAME) for id in ids]
    used = {item.image for item in items}
    for image in pictures_below(request.images or request.root):
        if image not in used:
            dropped.add("images that no JSON file names", image.name)
    void = OldClass(VOID_NAME, None, True)
    colors = (None,) * (len(classes) + 1)
    return Source("coco", (*classes, void), colors, tuple(items), dropped, notes)


class _Overlaps:
    """Counts pixels in annotations of two classes, and keeps one note about them up to date."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._at: int | None = None
        self._pixels = 0
        self.outlines = 0
        """Number of annotations with a segmentation."""

    def add(self, pixels: int) -> None:
        """Count pixels."""
        if not pixels:
            return
        self._pixels += pixels
        if self._at is None:
            self._at = len(self._notes)
            self._notes.append("")
        text = "pixels lie in annotations of two classes: the smaller annotation counts"
        self._notes[self._at] = f"{self._pixels} {text}"


def _read_categories(path: Path, categories: list[Any], names: dict[int, str]) -> None:
    """Add the categories of a file, which must not contradict those of another."""
    for category in categories:
        id = entry(category, "id", int, f"{path}: categories")
        name = entry(category, "name", str, f"{path}: categories").strip()
        if names.setdefault(id, name) != name:
            rule, got = "an id belongs to one category", f"id {id} for {names[id]} and {name}"
            raise DataError(message(f"{path}: categories", rule, got, "number them anew"))


def _places(names: Mapping[int, str]) -> dict[int, int]:
    return {id: place for place, id in enumerate(sorted(names), start=1)}


def _items(
    path: Path,
    data: Mapping[str, Any],
    request: Request,
    place_of: Mapping[int, int],
    dropped: Dropped,
    overlaps: _Overlaps,
) -> Iterator[Item]:
    """Yield the images of a file with what draws their annotations."""
    annotations = _annotations(path, data, place_of, request)
    overlaps.outlines += sum(
        one.segmentation is not None for found in annotations.values() for one in found
    )
    split = _split(path)
    missing: list[str] = []
    ids: set[int] = set()
    finder = _Finder(path, request)
    for image in data["images"]:
        id = entry(image, "id", int, f"{path}: images")
        name = entry(image, "file_name", str, f"{path}: images")
        if id in ids:
            rule, remedy = "an image is listed once", "export it again"
            raise DataError(message(f"{path}: images", rule, f"id {id} twice", remedy))
        ids.add(id)
        file = finder.find(name)
        if file is None:
            missing.append(name)
            continue
        relative = PurePosixPath(name.replace("\\", "/")).with_suffix("")
        found_split, rest = split_of(relative)
        declared = (image.get("height"), image.get("width"))
        render = partial(
            draw,
            annotations.get(id, []),
            declared,
            f"{path}: image {name}",
            len(place_of) + 1,
            dropped,
            overlaps.add,
        )
        yield Item(rest, split or found_split, file, render, declared)
    _check_missing(path, missing, len(data["images"]), request, dropped)
    if strange := annotations.keys() - ids:
        rule, got = "annotations belong to listed images", f"image_id {min(strange)}"
        raise DataError(message(f"{path}: annotations", rule, got, "export it again"))


def _check_missing(
    path: Path, missing: list[str], images: int, request: Request, dropped: Dropped
) -> None:
    if missing and not request.skip_missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        rule, got = "every image must be there", f"{len(missing)} of {images} missing ({shown})"
        remedy = "add them, pass --images DIR, or pass --skip-missing"
        raise DataError(message(str(path), rule, got, remedy))
    for name in missing:
        dropped.add("listed images that are missing", name)


def _annotations(
    path: Path, data: Mapping[str, Any], place_of: Mapping[int, int], request: Request
) -> dict[int, list[Annotation]]:
    """Return the annotations by image, in their order."""
    found: dict[int, list[Annotation]] = defaultdict(list)
    for number, annotation in enumerate(data["annotations"]):
        where = f"{path}: annotations[{number}]"
        image = entry(annotation, "image_id", int, where)
        category = entry(annotation, "category_id", int, where)
        if category not in place_of:
            rule, remedy = "must be the id of a category", "export it again"
            raise DataError(message(f"{where}: category_id", rule, category, remedy))
        crowd = bool(annotation.get("iscrowd"))
        found[image].append(
            Annotation(
                place=place_of[category],
                segmentation=annotation.get("segmentation") or None,
                box=annotation.get("bbox"),
                void=crowd and request.crowd_is_void,
                where=where,
            )
        )
    return found


def _split(path: Path) -> str:
    """Return the split that a file's name or folder names, as COCO, Datumaro and Roboflow do."""
    stem = path.stem.removeprefix("instances_").removesuffix("_instances")
    for text in (stem, path.parent.name):
        if (split := split_name(text)) in ("train", "val", "test"):
            return split
    return ""


class _Finder:
    """Finds images where the tools put them."""

    def __init__(self, path: Path, request: Request) -> None:
        self._root = request.root
        stem = path.stem.removeprefix("instances_")
        near = [path.parent, path.parent / "images"]
        subset = [request.root / "images" / stem, request.root / stem]
        rest = [request.root / "images", request.root]
        given = request.images
        self._folders = [given / stem, given] if given else [*subset, *near, *rest]
        self._where = f"{path}: images: file_name"

    def find(self, name: str) -> Path | None:
        """Return an image's file, None where there is none."""
        for folder in self._folders:
            file = below(folder, name, self._where, _RELATIVE)
            if file.is_file():
                return file
        return None
