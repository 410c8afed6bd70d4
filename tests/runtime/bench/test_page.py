"""The page: whole, loading nothing, silent in a browser, with its plots drawn."""

from __future__ import annotations

import copy
import html.parser
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import MissingExtraError
from fcnkit.runtime.bench.drawing import check_matplotlib, draw, save_figure
from fcnkit.runtime.bench.page import latency_page, throughput_page
from fcnkit.runtime.bench.plots import FOLDER_PLOTS, PLOTS
from fcnkit.runtime.bench.statistics import summarize
from tests.refusal import refusal
from tests.runtime.bench.browser import open_page


def folder_report(report: dict[str, Any]) -> dict[str, Any]:
    import dataclasses

    def under(rate: float, keeps_up: bool) -> dict[str, Any]:
        times = np.random.default_rng(int(rate)).exponential(0.01 * rate, 200)
        return {
            "title": "openvino fp32, 1 stream of 2 threads",
            "rate": rate,
            "requests": 200,
            "latency": dataclasses.asdict(summarize(times)),
            "busy": rate / 40,
            "keeps_up": keeps_up,
            "warnings": [] if keeps_up else ["the queue grew"],
        }

    run = {
        "title": "openvino fp32, 1 stream of 2 threads",
        "pictures": 100,
        "seconds": [2.0, 2.1, 2.2],
        "images_per_second": 47.6,
        "warnings": [],
    }
    return {
        "created": report["created"],
        "environment": report["environment"],
        "model": "m.onnx",
        "data": "pictures",
        "runs": [run, {**run, "title": "onnxruntime fp32, 2 streams of 1 thread"}],
        "loads": [under(10, True), under(20, True), under(39, False)],
    }


class Outside(html.parser.HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "srcset", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Outside:
    parser = Outside()
    parser.feed(page)
    return parser


@pytest.fixture(scope="module")
def pages(report: dict[str, Any]) -> dict[str, str]:
    """The two pages; a model in the first has a name that would run where it is not escaped."""
    evil = copy.deepcopy(report)
    evil["cases"][-1]["model"] = "<script>alert(1)</script>.onnx"
    return {"latency": latency_page(evil), "throughput": throughput_page(folder_report(report))}


def test_pages_load_nothing_and_hold_everything(
    report: dict[str, Any], pages: dict[str, str]
) -> None:
    page = read(pages["latency"])
    assert page.loads
    assert all(target.startswith("data:") for target in page.loads)
    assert "script" not in page.tags
    text = " ".join(page.text)
    assert "labels.onnx, onnxruntime fp32, 1 threads, 1x40x50" in text
    assert "no GPU: its figures are missing" in text or report["environment"]["gpus"]
    for word in ("decode", "host to device", "missing", "p99.9", "First call", "Environment"):
        assert word in text, word
    other = read(pages["throughput"])
    assert all(target.startswith("data:") for target in other.loads)
    assert "keeps up" in " ".join(other.text)


def test_names_from_outside_are_escaped(pages: dict[str, str]) -> None:
    assert "<script" not in pages["latency"]
    assert "&lt;script&gt;alert(1)" in pages["latency"]


def test_pages_are_silent_in_chromium(pages: dict[str, str], tmp_path: Path) -> None:
    for name, text in pages.items():
        page, shot = tmp_path / f"{name}.html", tmp_path / f"{name}.png"
        page.write_text(text, encoding="utf-8")
        assert open_page(page, tmp_path / f"{name}-profile", screenshot=shot) == []
        with Image.open(shot) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        # The plots are there: the orange of the stage "compute", or the blue of the bars.
        wanted = (0xD9, 0x82, 0x2B) if name == "latency" else (0x2F, 0x6F, 0xB5)
        assert (pixels == wanted).all(axis=2).sum() > 500


def test_the_browser_test_can_fail(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('planted')</script><img src='nothing.png'>")
    lines = open_page(page, tmp_path / "profile", screenshot=tmp_path / "bad.png")
    assert any("planted" in line for line in lines)


def test_every_plot_that_has_data_is_drawn(report: dict[str, Any]) -> None:
    assert set(draw(report, PLOTS)) == set(PLOTS)
    assert set(draw(folder_report(report), FOLDER_PLOTS)) == set(FOLDER_PLOTS)
    single = {**report, "cases": report["cases"][:1]}
    assert set(draw(single, PLOTS)) == {"distribution", "stages", "over-time"}
    bare = copy.deepcopy(single)
    bare["cases"][0]["stages"] = bare["cases"][0]["stages"][:1]
    assert set(draw(bare, PLOTS)) == {"distribution", "over-time"}


def test_figures_are_files(report: dict[str, Any]) -> None:
    figure = draw({**report, "cases": report["cases"][:1]}, PLOTS)["stages"]
    assert save_figure(figure, kind="png").startswith(b"\x89PNG")
    assert b"<script" not in save_figure(figure, kind="svg")


@pytest.mark.parametrize("longest", [0.3, 7.0, 41.0, 93.0, 260.0, 900.0, 1234.5, 40000.0])
def test_a_figure_saved_twice_is_the_same_file(report: dict[str, Any], longest: float) -> None:
    report = {**report, "cases": copy.deepcopy(report["cases"][:1])}
    for stage in report["cases"][0]["stages"]:
        stage["samples_ms"] = np.linspace(longest / 10, longest, 20).tolist()
    for figure in draw(report, PLOTS).values():
        save_figure(figure, kind="png")
        assert save_figure(figure, kind="svg") == save_figure(figure, kind="svg")


def test_matplotlib_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = (
        "fcnkit bench: needs the package matplotlib, got no such package; "
        "pip install 'fcnkit[plots]'"
    )
    with refusal(MissingExtraError, text):
        check_matplotlib("fcnkit bench")
