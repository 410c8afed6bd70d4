from __future__ import annotations

import csv
import html
import json
import shutil
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties
from PIL import Image

import fcnkit
from fcnkit.runtime.pixels.palette import readable_palette
from fcnkit.runtime.predict.legend import font_families
from fcnkit.train.data.voc import Sample, open_voc
from fcnkit.train.evaluation import PictureScore, measure
from fcnkit.train.report import worst_apart, write_report
from tests.cli import shell
from tests.cli.shell import called, refused
from tests.train.folders import empty_folder


@pytest.mark.parametrize("kind", ["checkpoint", "onnx"])
def test_a_report_is_complete(
    kind: str,
    run_folder: Path,
    exported: dict[str, Path],
    shapes_folder: Path,
    tmp_path: Path,
) -> None:
    model = run_folder / "best.pt" if kind == "checkpoint" else exported["labels"]
    folder = open_voc(shapes_folder, split="val")
    with fcnkit.load(model, cover="pad") as segmenter:
        measured = measure(segmenter, folder)
        # A class that nothing shows and nothing predicts has no IoU, and is named.
        gone = folder.classes[3]
        measured.confusion[3] = measured.confusion[:, 3] = 0
        write_report(tmp_path / "r", measured, segmenter, folder, facts={"model": "<m>"}, worst=2)
    names = ["confusion.csv", "confusion.png", "index.html", "pictures.csv"]
    names += ["report.json", "worst.png"]
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == names
    content = json.loads((tmp_path / "r" / "report.json").read_text())
    assert content["absent"] == [gone]
    assert content["iou"][gone] is None
    assert content["confusion"] == measured.confusion.tolist()
    assert content["mean_iou"] == measured.scores.mean_iou
    with (tmp_path / "r" / "confusion.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["truth \\ prediction", *folder.classes]
    assert np.array_equal(np.array([row[1:] for row in rows], int), measured.confusion)
    with (tmp_path / "r" / "pictures.csv").open(newline="") as file:
        ranked = [float(row[2]) for row in list(csv.reader(file))[1:]]
    assert ranked == sorted(ranked)
    assert len(ranked) == 4
    for name in ("confusion.png", "worst.png"):
        with Image.open(tmp_path / "r" / name) as picture:
            picture.load()
            assert min(picture.size) > 200


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = [value for key, value in attrs if key in ("src", "href") and value]
        self.links += [link for link in found if link != "data:,"]  # the empty icon


def test_the_page_shows_what_is_there(
    run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r"
    done = called("eval", run_folder / "best.pt", shapes_folder, "--report", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"wrote {out}: look at index.html"
    text = (out / "index.html").read_text()
    page = Page()
    page.feed(text)
    assert sorted(page.links) == ["confusion.csv", "confusion.png", "pictures.csv", "worst.png"]
    assert all((out / link).is_file() for link in page.links)
    assert "full pictures, void ignored" in text


def test_the_chapters_protocol_needs_its_size(run_folder: Path, shapes_folder: Path) -> None:
    refused(
        called("eval", run_folder / "best.pt", shapes_folder, "--d2l-protocol"),
        f"{shapes_folder}: some picture must be at least 320x480, got 4 smaller ones; "
        "measure full pictures",
    )


def test_the_chapters_protocol_on_the_command_line(run_folder: Path, tmp_path: Path) -> None:
    from fcnkit.train.data.shapes import SHAPES

    root = tmp_path / "data"
    lines = [
        f"{name}:{','.join(map(str, color))}::"
        for name, color in zip(SHAPES.classes, SHAPES.palette, strict=True)
    ]
    empty_folder(root, "\n".join(lines) + "\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("a\n")
    Image.new("RGB", (500, 330), (9, 9, 9)).save(root / "JPEGImages/a.png")
    Image.new("L", (500, 330), 255).save(root / "SegmentationClass/a.png")
    done = called("eval", run_folder / "best.pt", root, "--d2l-protocol", "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "d2l protocol: random crops, void counted as background, smaller pictures left out; "
        "not comparable with scores on full pictures, nor with other seeds (seed 3)"
    )
    done = called("eval", run_folder / "best.pt", root, "--d2l-protocol", "--json")
    assert "not comparable" in json.loads(done.stdout)["protocol"]


def test_a_missing_package_is_named_before_anything_is_measured(
    run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    block = "import sys; sys.modules['matplotlib.figure'] = None\n"
    refused(
        shell.fcnkit(
            "eval", run_folder / "best.pt", shapes_folder, "--report", tmp_path, before=block
        ),
        "fcnkit eval --report: needs the package matplotlib.figure, got no such package; "
        "pip install 'fcnkit[train]'",
    )


@pytest.mark.parametrize(
    "names",
    [
        ("背景", "裂缝", "$\\frac", "a_b"),
        ("\U000e0001", "\u0378", "x", "y"),
        ("Ⓐ", "b", "$c$", "d"),
    ],
)
def test_class_names_of_any_script(
    names: tuple[str, ...], run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    folder = open_voc(shapes_folder, split="val")
    with fcnkit.load(run_folder / "best.pt") as segmenter:
        measured = measure(segmenter, folder)
        # The names alone differ from the ones that were trained.
        names += folder.classes[len(names) :]
        renamed = replace(measured, classes=names)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            write_report(tmp_path / "r", renamed, segmenter, folder, facts={}, worst=1)
    page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    for number, name in enumerate(names):
        assert f"<tr><td>{number}</td><td>{html.escape(name)}</td>" in page


def test_names_are_drawn_where_a_font_has_them() -> None:
    assert font_families("background, void") == [FontProperties().get_name()]
    default, *others = font_families("background, Ⓐ")  # which matplotlib's own STIX has
    assert default == FontProperties().get_name()
    assert others != []
    assert font_families("\u0378") == []  # no character has this number


def test_one_class_is_no_success(run_folder: Path, shapes_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(shapes_folder, root)
    for path in (root / "SegmentationClass").iterdir():
        with Image.open(path) as mask:
            size = mask.size
        Image.new("L", size, 0).save(path)
    done = called("eval", run_folder / "best.pt", root)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("warning: ")] == [
        f"warning: {root}: val: two classes or more must have pixels, or the scores say nothing, "
        "got only background; choose a --split whose masks show others"
    ]
    answer = json.loads(called("eval", run_folder / "best.pt", root, "--json").stdout)
    assert answer["without_truth"] == list(open_voc(root, split="val").classes[1:])
    assert len(answer["warnings"]) == 1
    for path in (root / "SegmentationClass").iterdir():
        with Image.open(path) as mask:
            size = mask.size
        Image.new("L", size, 255).save(path)
    done = called("eval", run_folder / "best.pt", root)
    assert done.stderr.splitlines()[-1] == (
        f"error: {root}: val: some pixel must be labeled, got 4 masks with only void; "
        f"save the labels 0..{len(open_voc(root, split='val').classes) - 1}, because 255 is void"
    )


def test_the_worst_are_not_neighbors() -> None:
    sample = Sample("a", Path("a.png"), Path("a.png"))
    scores = [0.9] * 100
    scores[40:60] = [0.1 + 0.01 * step for step in range(20)]
    scores[80] = 0.3
    pictures = [PictureScore(sample=sample, pixel_accuracy=1.0, mean_iou=s) for s in scores]
    places = [pictures.index(p) for p in worst_apart(pictures, 4)]
    assert [scores[place] for place in places] == pytest.approx([0.1, 0.16, 0.22, 0.28])
    # Where all are neighbors, the worst all the same.
    assert worst_apart(pictures[:3], 2) == pictures[:2]
    assert len(worst_apart(pictures, 100)) == 100


def test_colors_that_nobody_can_tell_apart_are_replaced() -> None:
    gray = tuple((i, i, i) for i in range(3))
    assert readable_palette(gray).tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    fine = ((0, 0, 0), (255, 0, 0), (250, 100, 0))
    assert readable_palette(fine).tolist() == [list(color) for color in fine]
