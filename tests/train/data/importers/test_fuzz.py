"""JSON files with anything in any place: read, or refused in one line, and nothing left behind."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcnkit.errors import DataError
from tests.train.data.importers.sources import (
    Coco,
    box,
    imported,
    noise,
    nothing_left,
    packed,
    polygon,
    save,
    write_labelme,
)

ODD = st.sampled_from(
    [None, True, -1, 0, 3, 1.5, 1e308, 2**70, "", "..", "a.png", "\ud800", [], [[]], {}, [1, 2]]
) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value."""
    yield path
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from places(value, (*path, key))


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return the data with another value at a path."""
    if not path:
        return value
    changed = copy.deepcopy(data)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@pytest.fixture(params=["coco", "labelme"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    """A healthy source of one JSON file, and what is in the file."""
    root = tmp_path / "in"
    if request.param == "coco":
        pytest.importorskip("pycocotools")
        coco = Coco(root, "cat", "dog").image("a.png").add(1, [box(0, 0, 4, 4)])
        coco.add(2, {"counts": [3, 40, 5], "size": [6, 8]}, bbox=[0, 0, 1, 1]).write()
        return root / "annotations" / "instances_default.json", coco.data
    save(root / "a.png", noise())
    mask = {"label": "b", "points": [[1, 1], [2, 2]], "mask": packed(noise()[:2, :2, 0])}
    circle = {"label": "c", "points": [[4, 4], [5, 5]], "shape_type": "circle"}
    shapes = [polygon("a", (0, 0), (4, 0), (4, 4)), {**mask, "shape_type": "mask"}, circle]
    write_labelme(root / "a.json", "a.png", shapes, (6, 8))
    return root / "a.json", json.loads((root / "a.json").read_text())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(data=st.data())
def test_anything_in_any_place(
    source: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file, healthy = source
    path = data.draw(st.sampled_from(list(places(healthy))))
    file.write_text(json.dumps(replaced(healthy, path, data.draw(ODD))))
    root = next(folder for folder in file.parents if folder.name == "in")
    out = tmp_path_factory.mktemp("out")
    kind = "coco" if file.name.startswith("instances") else "labelme"
    try:
        imported(root, out / "made", format=kind)
    except (DataError, ValueError) as error:
        assert "\n" not in str(error)
        nothing_left(out)
    else:
        nothing_left(out, "made")
