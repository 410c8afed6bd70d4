"""``fcnkit data import``, ``split`` and ``show``: what they print, and that training takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fcnkit.train.data.importers.importing import import_data
from tests.cli.shell import called, refused
from tests.corpus.make_exports import EXPORTS, FOLDER
from tests.train.data.importers.sources import ade20k, export, folders, labelme, listed

VOC = FOLDER / "voc.zip"


def test_import_says_what_it_made(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = called("data", "import", VOC, "-o", out, "--map", "tree=void")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"{out}: 4 train, 1 val, 1 test images, read as voc",
        "images: 6 unpacked",
        "background: 8544 pixels",
        "road: 7680 pixels",
        "car: 1008 pixels",
        "void: 1200 pixels of tree, void",
        "note: 6 names changed: see fcnkit-import.json",
        "note: no lists train and val in the source: images were divided 70/10/20; if they are "
        "frames of videos, keep each together with fcnkit data split --force --group REGEX",
    ]
    assert done.stderr.endswith(f"import: 6 of 6\nnext: fcnkit data check {out}\n")


def test_import_answers_with_json(tmp_path: Path) -> None:
    done = called(
        "data", "import", VOC, "-o", tmp_path / "out", "--json", "--keep", "car,background"
    )
    report = import_data(VOC, tmp_path / "again").to_dict()
    found = json.loads(done.stdout)
    assert found.keys() == report.keys()
    assert list(found["classes"]) == ["background", "car", "void"]


def test_import_by_rules_of_a_file(tmp_path: Path) -> None:
    rules = tmp_path / "rules.txt"
    rules.write_text("# streets\nroad=ground\n*=background\n")
    done = called("data", "import", VOC, "-o", tmp_path / "out", "--map", f"@{rules}")
    assert "background: 10752 pixels of background, car, tree\nground: 7680" in done.stdout


def test_import_refuses_in_one_line(tmp_path: Path) -> None:
    text = (
        "--map: must name a class that there is, got 'bus'; the classes are background (id 0), "
        "road (id 1), car (id 2), tree (id 3), void (id 255)"
    )
    done = called("data", "import", VOC, "-o", tmp_path / "out", "--map", "bus=car")
    assert done.stderr.splitlines()[-1] == f"error: {text}"
    assert not list(tmp_path.iterdir())
    text = "SOURCE: must be given, got nothing; pass a folder or file, or --images and --masks"
    refused(called("data", "import", "-o", tmp_path / "out"), text)


@pytest.mark.parametrize("name", [*EXPORTS, "labelme", "ade20k", "folders"])
def test_what_is_imported_passes_the_check_and_is_trained_on(name: str, tmp_path: Path) -> None:
    drawn = {"labelme": labelme, "ade20k": ade20k, "folders": folders}
    source = drawn[name](tmp_path / "in") if name in drawn else export(name)
    options = ["--images", "pictures", "--masks", "truth"] if name == "folders" else []
    data = tmp_path / "data"
    assert called("data", "import", source, "-o", data, *options).returncode == 0
    checked = called("data", "check", data, "--strict")
    assert checked.stdout.splitlines()[-1] == "ok"
    run = tmp_path / "run"
    trained = called(
        "train", data, "-o", run, "--epochs", 1, "--crop", "64x64", "--batch", 2,
        "--workers", 0, "--device", "cpu", "--recipe", "modern",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert (run / "best.pt").exists()
    assert "epoch 1: loss " in trained.stdout


def test_split_says_what_each_list_got(tmp_path: Path) -> None:
    data = tmp_path / "data"
    called("data", "import", VOC, "-o", data)
    text = (
        f"{data}/ImageSets/Segmentation: lists are not replaced, got train.txt, val.txt, test.txt; "
        "pass --force to replace them"
    )
    refused(called("data", "split", data), text)
    done = called("data", "split", data, "--force", "--group", "^(cam.)_")
    assert done.stdout.splitlines() == [
        "train: 3 images in 1 groups; images with background 3, road 3, car 3, tree 3",
        "val: 3 images in 1 groups; images with background 3, road 3, car 3, tree 3",
    ]
    assert done.stderr.endswith(f"read: 6 of 6\nnext: fcnkit data check {data}\n")
    assert set(listed(data)) == {"train", "val"}
    done = called("data", "split", data, "--force", "--group", "^(c)", "--json")
    assert json.loads(done.stdout)["splits"] == {
        "train": {
            "images": 6,
            "groups": 1,
            "classes": {"background": 6, "road": 6, "car": 6, "tree": 6},
        }
    }
    done = called("data", "split", data, "--force", "--group", "^(c)")
    assert done.stdout.splitlines()[1] == (
        "note: too few images or groups for val.txt, which training needs"
    )


def test_show_draws_images_and_what_training_sees(tmp_path: Path) -> None:
    data = tmp_path / "data"
    called("data", "import", VOC, "-o", data)
    done = called("data", "show", data, "-o", tmp_path / "sheets", "--count", 3)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/sheets: 3 images of train\n")
    names = [path.name for path in sorted((tmp_path / "sheets").iterdir())]
    assert len(names) == 3
    assert all(name.removesuffix(".png") in listed(data)["train"] for name in names)
    done = called(
        "data", "show", data, "-o", tmp_path / "crops", "--augmented", "--recipe", "modern",
        "--crop", "64x64", "--split", "val",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/crops: 1 images of val\n")
    [crop] = (tmp_path / "crops").iterdir()
    with Image.open(crop) as sheet:
        assert sheet.width == 3 * (448 + 8) + 8


def test_show_refuses_in_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    called("data", "import", VOC, "-o", data)
    text = "--recipe: must be one of d2l, modern, long, got big; choose one of these"
    done = called("data", "show", data, "-o", tmp_path / "x", "--augmented", "--recipe", "big")
    refused(done, text)
    text = f"{data}: must be a new or empty folder, got one with other files; choose another folder"
    refused(called("data", "show", data, "-o", data), text)
