"""A measure as a folder to look at: scores, confusion matrix, the worst pictures."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fcnkit.runtime.files import atomic_path, atomic_write
from fcnkit.runtime.page import document, table
from fcnkit.runtime.pixels.palette import readable_palette
from fcnkit.runtime.predict.legend import font_families
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.train.data.voc import VocFolder
from fcnkit.train.evaluation import Measure, PictureScore
from fcnkit.train.sample_grid import GridRow, save_rows

__all__ = ["worst_apart", "write_report"]

_FOUR = ("pixel_accuracy", "class_accuracy", "mean_iou", "frequency_weighted_iou")


def write_report(
    report: Path,
    measure: Measure,
    segmenter: Segmenter,
    folder: VocFolder,
    *,
    facts: dict[str, Any],
    worst: int = 8,
) -> None:
    """Write index.html, report.json, confusion.csv, confusion.png, pictures.csv and worst.png.

    Args:
        report: The folder; it is created. Files of these names are replaced.
        measure: What was measured.
        segmenter: With what; it predicts the worst pictures once more.
        folder: On what.
        facts: What to say about the measure, such as the model's name; JSON values.
        worst: Number of pictures to show, see worst_apart.

    Raises:
        DataError: A file is broken.
        OSError: A file cannot be written.
    """
    report.mkdir(parents=True, exist_ok=True)
    ranked = sorted(measure.pictures, key=lambda picture: picture.mean_iou)
    rows = [[p.sample.name, f"{p.pixel_accuracy:.6f}", f"{p.mean_iou:.6f}"] for p in ranked]
    _write_csv(report / "pictures.csv", [["picture", "pixel_accuracy", "mean_iou"], *rows])
    counts = measure.confusion.tolist()
    rows = [[name, *row] for name, row in zip(measure.classes, counts, strict=True)]
    _write_csv(report / "confusion.csv", [["truth \\ prediction", *measure.classes], *rows])
    _plot_confusion(report / "confusion.png", measure)
    shown = worst_apart(measure.pictures, worst)
    pictures = (GridRow(p.sample.name, *measure.protocol.read(p.sample, folder)) for p in shown)
    save_rows(report / "worst.png", segmenter, pictures)
    content = {
        **facts,
        **measure.scores.to_dict(),
        "absent": _absent(measure),
        "classes": measure.classes,
        "confusion": counts,
    }
    atomic_write(report / "report.json", json.dumps(content, indent=2).encode())
    # Written last, so that a page is never incomplete.
    palette = readable_palette(segmenter.spec.palette)
    atomic_write(report / "index.html", _page(measure, shown, facts, palette).encode())


def worst_apart(pictures: Sequence[PictureScore], count: int) -> list[PictureScore]:
    """Return the pictures with the lowest mean IoU that are not neighbors of each other.

    Frames of one drive look alike, and the eight worst would often be one scene. So a picture
    within a twentieth of the split of a worse one is passed over, as long as others are left.

    Args:
        pictures: In the split's order.
        count: How many at most.

    Returns:
        The pictures, the worst first.
    """
    ranked = sorted(range(len(pictures)), key=lambda place: pictures[place].mean_iou)
    gap = len(pictures) // 20
    chosen: list[int] = []
    for place in ranked:
        if len(chosen) < count and all(abs(place - other) > gap for other in chosen):
            chosen.append(place)
    rest = [place for place in ranked if place not in chosen]
    chosen = sorted(chosen + rest[: max(0, count - len(chosen))], key=ranked.index)
    return [pictures[place] for place in chosen]


def _absent(measure: Measure) -> list[str]:
    """Return the classes without an IoU: in neither a truth nor a prediction."""
    return [name for name, value in measure.scores.iou.items() if value is None]


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    atomic_write(path, text.getvalue().encode())


def _plot_confusion(path: Path, measure: Measure) -> None:
    """Draw each row of the confusion matrix as shares of the class's pixels."""
    totals = measure.confusion.sum(axis=1, keepdims=True)
    shares = measure.confusion / np.maximum(totals, 1)
    count = len(measure.classes)
    figure = Figure(figsize=(3 + 0.45 * count, 2.5 + 0.45 * count), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    families = font_families("".join(measure.classes))
    # Numbers where no font has the glyphs; the page lists them with the names.
    names = measure.classes if families else [str(number) for number in range(count)]
    style: dict[str, Any] = {"parse_math": False, "fontfamily": families or None}
    axes.set_xticks(range(count), names, rotation=90, **style)
    axes.set_yticks(range(count), names, **style)
    axes.set(xlabel="prediction", ylabel="truth")
    for row, column in np.argwhere(shares >= 0.005).tolist():
        share = shares[row, column]
        color = "white" if share > 0.5 else "black"
        text = f"{100 * share:.0f}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    figure.colorbar(picture, label="share of the true class's pixels", shrink=0.8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _page(
    measure: Measure, worst: list[PictureScore], facts: dict[str, Any], palette: NDArray[np.uint8]
) -> str:
    scores = measure.scores
    pixels = measure.confusion.sum(axis=1).tolist()
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in palette.tolist()]
    classes = [
        [str(number), name, "absent" if value is None else f"{value:.4f}", f"{count:,}"]
        for number, ((name, value), count) in enumerate(
            zip(scores.iou.items(), pixels, strict=True)
        )
    ]
    shown = [[p.sample.name, f"{p.mean_iou:.4f}", f"{p.pixel_accuracy:.4f}"] for p in worst]
    body = [
        f"<h1>{html.escape(str(facts.get('model', 'model')))}</h1>",
        table((), [[key, _shown(value)] for key, value in facts.items() if value != []]),
        "<h2>Scores</h2>",
        table(
            (),
            [
                [name.replace("_", " ").replace("iou", "IoU"), f"{getattr(scores, name):.4f}"]
                for name in _FOUR
            ],
        ),
        "<h2>Classes</h2>",
        table(("label", "class", "IoU", "true pixels", "color"), classes, colors=colors),
        "<h2>Confusion</h2><p>Percent of the true class's pixels; counts in "
        '<a href="confusion.csv">confusion.csv</a>.</p>',
        _figure("confusion.png", "confusion matrix"),
        "<h2>Worst images</h2><p>Those with the lowest mean IoU that are not neighbors in the "
        'split. All of them are in <a href="pictures.csv">pictures.csv</a>.</p>',
        table(("image", "mean IoU", "pixel accuracy"), shown),
        _figure("worst.png", "image, prediction, truth, errors"),
    ]
    return document("fcnkit eval", body)


def _figure(name: str, words: str) -> str:
    """Show an image file beside the page, not larger than it is."""
    return f'<figure class="own-size"><img src="{name}" alt="{words}"></figure>'


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
