"""Every format: small exports whose masks are known, imported and checked."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fcnkit.errors import DataError
from fcnkit.train.data.check import check_folder
from fcnkit.train.data.importers.formats import FORMATS
from tests.corpus.make_exports import EXPORTS, IMAGES, NAMES, labels_of, name_of
from tests.train.data.importers.sources import (
    ade20k,
    export,
    folders,
    imported,
    labelme,
    labels_in,
    listed,
    nothing_left,
    zipped,
)

CASES: dict[str, dict[str, Any]] = {
    **{name: {} for name in (*EXPORTS, "labelme", "ade20k")},
    "folders": {
        "images": Path("pictures"),
        "masks": Path("truth"),
    },
}


def source(name: str, folder: Path) -> Path:
    """Return a source: Datumaro's zip file, or a folder that is drawn."""
    if name in EXPORTS:
        return export(name)
    drawn = {"labelme": labelme, "ade20k": ade20k, "folders": folders}[name]
    return drawn(folder / name)


def test_every_format_has_a_case() -> None:
    assert {"coco" if name.startswith("coco") else name for name in CASES} == set(FORMATS)


@pytest.mark.parametrize("name", CASES)
def test_the_masks_are_those_of_the_source(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = imported(source(name, tmp_path), out, **CASES[name])
    assert report.format == ("coco" if name.startswith("coco") else name)
    shown = [f"class_{n}" for n in range(4)] if name == "folders" else NAMES
    assert set(report.classes) == {*shown, "void"}
    found = labels_in(out)
    for number in range(IMAGES):
        plain = f"A_{number}" if name == "ade20k" else name_of(number).replace("/", "_")
        assert found.pop(plain) == [[shown[label] for label in row] for row in labels_of(number)]
    assert not found
    assert sum(old.pixels for old in report.classes["void"]) == 0
    record = json.loads((out / "fcnkit-import.json").read_text())
    assert record["classes"] == report.to_dict()["classes"]
    assert len(record["images"]) == IMAGES


@pytest.mark.parametrize("name", CASES)
def test_the_result_passes_the_check_without_a_warning(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    imported(source(name, tmp_path), out, **CASES[name])
    report = check_folder(out)
    assert (report.ok, report.warnings) == (True, ())
    assert {"train", "val"} <= {split.split for split in report.splits}


@pytest.mark.parametrize(
    ("name", "member"),
    [*((name, "../../evil.png") for name in CASES), ("folders", "bomb.png")],
)
def test_a_hostile_member_of_any_format_is_refused(name: str, member: str, tmp_path: Path) -> None:
    made = source(name, tmp_path)
    archive = tmp_path / "hostile.zip"
    if made.is_dir():
        zipped(made, archive)
        shutil.rmtree(made)
    else:
        shutil.copy(made, archive)
    size = (1 << 28) + (1 << 26) if member == "bomb.png" else 10
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(member, bytes(size))
    with pytest.raises(DataError) as caught:
        imported(archive, tmp_path / "out", **CASES[name])
    text = str(caught.value)
    if member == "bomb.png":
        assert text.startswith(f"{archive}: must unpack to at most ")
    else:
        assert text == (
            f"{archive}: {member}: names must be relative paths that stay inside the source, "
            f"got '{member}'; do not use this archive"
        )
    nothing_left(tmp_path, "hostile.zip")


@pytest.mark.parametrize("name", ["labelme", "ade20k", "folders"])
def test_a_zip_file_of_any_format_in_a_folder_of_its_own(name: str, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    source(name, outer / "inner")
    archive = zipped(outer, tmp_path / "source.zip")
    options = {option: Path("inner", name, path) for option, path in CASES[name].items()}
    report = imported(archive, tmp_path / "out", **options)
    assert report.placed == {"unpacked": IMAGES}
    assert sum(report.splits.values()) == IMAGES
    # Nothing points to where it was unpacked.
    assert all(not path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_lists_of_the_source_stay_as_they_are(tmp_path: Path) -> None:
    imported(export("coco_polygons"), tmp_path / "out")
    assert listed(tmp_path / "out") == {
        "train": ["cam0_0000", "cam1_0001", "cam0_0002", "cam1_0003"],
        "val": ["cam0_0004", "cam1_0005"],
    }


def test_a_source_without_lists_is_divided_and_says_so(tmp_path: Path) -> None:
    report = imported(export("voc"), tmp_path / "out")
    assert report.splits == {"train": 4, "val": 1, "test": 1}
    assert report.notes[-1] == (
        "no lists train and val in the source: images were divided 70/10/20; if they are "
        "frames of videos, keep each together with fcnkit data split --force --group REGEX"
    )
