"""One HTML page of what ``make demo`` made, to open in a browser.

python docs/examples/demo_page.py OUT DATA, after the commands of ``demo`` in the Makefile: OUT is
the folder that they wrote into, DATA the data set. Writes OUT/index.html, which holds its images,
and OUT/demo.png, the first of them.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

import fcnkit
from fcnkit.runtime import describe
from fcnkit.runtime.bench.report import case_title, read_report, stage_rows
from fcnkit.runtime.page import document, table
from fcnkit.runtime.pixels.palette import readable_palette
from fcnkit.train.data import open_voc
from fcnkit.train.sample_grid import save_grid

LONGEST = 360
"""Longest side of an overlay in the page, pixels."""


def figure(path: Path, words: str) -> str:
    """Put an image file into the page."""
    return shown(path.read_bytes(), "png", words)


def shown(content: bytes, kind: str, words: str) -> str:
    """Put an image into the page; it is not drawn larger than it is."""
    data = base64.b64encode(content).decode("ascii")
    source = f"data:image/{kind};base64,{data}"
    return f'<figure class="own-size"><img src="{source}" alt="{escape(words)}"></figure>'


def overlays(out: Path, names: list[str]) -> Iterator[str]:
    """Show a few overlays, small, beside each other."""
    yield '<div class="row">'
    for name in names:
        with Image.open(out / "overlay" / f"{name}.png") as image:
            small = image.convert("RGB")
        small.thumbnail((LONGEST, LONGEST))
        content = io.BytesIO()
        small.save(content, "WEBP", quality=90)
        yield shown(content.getvalue(), "webp", f"{name} under its labels")
    yield "</div>"


def scores(report: dict[str, Any], palette: Any) -> Iterator[str]:
    """Show the scores of ``fcnkit eval --report``."""
    names = ("mean_iou", "pixel_accuracy", "class_accuracy", "frequency_weighted_iou")
    words = [name.replace("_", " ").replace("iou", "IoU") for name in names]
    rows = [(word, f"{report[name]:.4f}") for word, name in zip(words, names, strict=True)]
    yield '<div class="half">'
    yield table((), rows)
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in palette.tolist()]
    classes = [
        (name, "absent" if iou is None else f"{iou:.4f}") for name, iou in report["iou"].items()
    ]
    yield table(("class", "IoU", "color"), classes, colors=colors)
    yield "</div>"


def latency(report: dict[str, Any]) -> Iterator[str]:
    """Show the times of ``fcnkit bench latency``, in milliseconds."""
    for case in report["cases"]:
        yield f'<p class="dim">{escape(case_title(case))}; milliseconds</p>'
        rows = [
            (name.replace("_", " "), *(f"{times[f'{figure}_ms']:.2f}" for figure in ("p50", "p99")))
            for name, times in stage_rows(case)
            if times is not None
        ]
        yield '<div class="half">'
        yield table(("stage", "p50", "p99"), rows, strong=("infer", "end to end"))
        yield "</div>"


def files(out: Path) -> Iterator[str]:
    """List the model files, and how each compares with the checkpoint."""
    rows = []
    for path in (*sorted(out.glob("*.onnx")), *sorted(out.glob("*.engine"))):
        facts = describe(path)
        spec, megabytes = facts["spec"], f"{facts['bytes'] / 1e6:.1f} MB"
        parity = (spec["source"]["parity"] or "not compared here").split(" (")[0]
        rows.append((path.name, spec["head"], spec["precision"], megabytes, parity))
    head = ("file", "head", "precision", "size", "compared with its source")
    yield table(head, rows, cards=True)


def commands(out: Path) -> Iterator[str]:
    """Name the commands that use the files."""
    lines = (
        ("Label your images", f"fcnkit predict {out}/scene.onnx images/ -o labels/"),
        ("Label images in the browser", f"python -m http.server --directory {out}/site"),
        ("Use your own data", "make demo DATA=path/to/your/folder EPOCHS=3"),
    )
    yield table((), [(title, command) for title, command in lines])
    yield '<p>The page for the browser is in <a href="site/index.html">site</a>.</p>'


def page(out: Path, data: Path) -> str:
    """Return the page, and write OUT/demo.png."""
    folder = open_voc(data, split="val")
    with fcnkit.load(out / "scene.onnx") as segmenter:
        save_grid(out / "demo.png", segmenter, folder, pictures=3)
        spec = segmenter.spec
    report = json.loads((out / "report" / "report.json").read_bytes())
    times = read_report(out / "latency" / "report.json")
    names = [sample.name for sample in folder.samples]
    machine = times["environment"]["cpu"]
    time = datetime.fromisoformat(times["created"]).strftime("%Y-%m-%d %H:%M UTC")
    about = f"{spec.architecture}, {report['pictures']} images of val, {machine['model']}"
    body = [
        f"<h1>The demo on {escape(data.name)}</h1>",
        f'<p class="dim">{escape(about)}, {time}, fcnkit {fcnkit.__version__}</p>',
        figure(out / "demo.png", "image, prediction, truth and errors of three images of val"),
        "<h2>Scores</h2>",
        *scores(report, readable_palette(spec.palette)),
        figure(out / "report" / "confusion.png", "confusion matrix"),
        "<h2>Worst images</h2>",
        figure(out / "report" / "worst.png", "image, prediction, truth and errors"),
        "<h2>Training</h2>",
        figure(out / "run" / "curves.png", "loss, pixel accuracy and mean IoU over the epochs"),
        "<h2>Labels over images</h2>",
        *overlays(out, names[:: max(1, len(names) // 5)][:5]),
        "<h2>Model files</h2>",
        *files(out),
        "<h2>Latency</h2>",
        *latency(times),
        figure(out / "latency" / "stages.png", "time of every stage"),
        "<h2>Next steps</h2>",
        *commands(out),
    ]
    return document(f"make demo: {data.name}", body)


if __name__ == "__main__":
    made, given = map(Path, sys.argv[1:])
    (made / "index.html").write_text(page(made, given), encoding="utf-8")
