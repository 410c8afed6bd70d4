"""The page at the end of ``make demo``: one file that holds what the commands before it made."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.shell import called
from tests.runtime.bench.browser import open_page

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(
    run_folder: Path,
    exported: dict[str, Path],
    shapes_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a demo whose network is the tests' tiny one."""
    out = tmp_path_factory.mktemp("demo") / "out"
    out.mkdir()
    (out / "run").symlink_to(run_folder)
    for head in ("labels", "scene"):
        shutil.copy(exported[head], out)
    images = (shapes_folder / "JPEGImages").glob("val_*")
    predict = ("predict", out / "scene.onnx", *images, "-o", out / "overlay", "--format", "overlay")
    bench = ("bench", "latency", out / "labels.onnx", "--shape", "64x64", "--runs", 5)
    for command in (
        ("eval", out / "run" / "best.pt", shapes_folder, "--report", out / "report"),
        predict,
        (*bench, "-o", out / "latency"),
    ):
        done = called(*command)
        assert done.returncode == 0, done.stderr
    script = ROOT / "docs" / "examples" / "demo_page.py"
    subprocess.run([sys.executable, script, out, shapes_folder], check=True)
    return out


def images_of(page: str) -> dict[str, Image.Image]:
    """The images of a page by their descriptions, decoded."""
    found = re.findall(r'<img src="data:image/\w+;base64,([^"]+)" alt="([^"]+)">', page)
    assert len(found) == page.count("<img")
    return {words: Image.open(io.BytesIO(base64.b64decode(data))) for data, words in found}


def test_it_holds_samples_scores_curves_and_latency(made: Path) -> None:
    page = (made / "index.html").read_text("utf-8")
    # Nothing is loaded; the one link leads to the page for the browser.
    assert re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page) == ["site/index.html"]
    images = images_of(page)
    assert list(images) == [
        "image, prediction, truth and errors of three images of val",
        "confusion matrix",
        "image, prediction, truth and errors",
        "loss, pixel accuracy and mean IoU over the epochs",
        *(f"val_{number:05} under its labels" for number in range(4)),
        "time of every stage",
    ]
    with Image.open(made / "demo.png") as first:
        assert np.array_equal(first, next(iter(images.values())))
    report = json.loads((made / "report" / "report.json").read_bytes())
    assert f"<td>mean IoU</td><td>{report['mean_iou']:.4f}</td>" in page
    for name, iou in report["iou"].items():
        assert f"<td>{name}</td><td>{iou:.4f}</td>" in page
    (case,) = json.loads((made / "latency" / "report.json").read_bytes())["cases"]
    times = {stage["name"]: stage["summary"] for stage in case["stages"]}
    assert f"<td>infer</td><td>{times['infer']['p50_ms']:.2f}</td>" in page
    for row in (("labels.onnx", "labels", "fp32"), ("scene.onnx", "scene", "fp32")):
        cells = zip(("file", "head", "precision"), row, strict=True)
        assert "".join(f'<td data-name="{name}">{cell}</td>' for name, cell in cells) in page


def test_a_browser_opens_it(made: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    assert open_page(made / "index.html", tmp_path / "profile", screenshot=picture) == []
    with Image.open(picture) as shown:
        assert len(np.unique(np.asarray(shown.convert("RGB")).reshape(-1, 3), axis=0)) > 50
