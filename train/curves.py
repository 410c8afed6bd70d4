"""The curves of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fcnkit.runtime.files import atomic_path

__all__ = ["save_curves"]

_MOST_CLASSES: Final = 10
"""Lines that a person can tell apart."""


def save_curves(path: Path, history: list[dict[str, Any]]) -> None:
    """Plot losses, accuracies with mean IoU, and IoU by class against the epoch.

    The best epoch is marked. Of many classes, those with the lowest IoU in that epoch are shown.

    Args:
        path: The PNG.
        history: The rows of metrics.jsonl.

    Raises:
        OSError: The file cannot be written.
    """
    figure = Figure(figsize=(13.5, 3.8), layout="constrained")
    losses, scores, classes = figure.subplots(1, 3)
    _draw(losses, history, {"loss": "training, per image", "val_loss": "val, per pixel"})
    losses.set(ylabel="loss", title="loss")
    keys = {"train_accuracy": "pixel accuracy, training crops"}
    keys |= {"pixel_accuracy": "pixel accuracy, val", "mean_iou": "mean IoU, val"}
    _draw(scores, history, keys)
    scores.set(ylim=(0, 1), title="scores, void ignored")
    scored = [row for row in history if "mean_iou" in row]
    best = max(scored, key=lambda row: row["mean_iou"], default=None)
    if best is not None:
        _draw_classes(classes, scored, best)
        text = f"best: epoch {best['epoch']}, mean IoU {best['mean_iou']:.3f}"
        for axes in (losses, scores, classes):
            axes.axvline(best["epoch"], color="0.5", linestyle=":", label=text)
    for axes in (losses, scores, classes):
        axes.grid(visible=True, alpha=0.3)
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="x-small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw(axes: Axes, history: list[dict[str, Any]], keys: dict[str, str]) -> None:
    for key, label in keys.items():
        rows = [row for row in history if key in row]
        if rows:
            epochs = [row["epoch"] for row in rows]
            axes.plot(epochs, [row[key] for row in rows], marker="o", markersize=3, label=label)


def _draw_classes(axes: Axes, scored: list[dict[str, Any]], best: dict[str, Any]) -> None:
    """Draw the IoU of classes; one that neither masks nor predictions show has none."""
    ious: dict[str, float | None] = best.get("iou", {})
    known = sorted((iou, name) for name, iou in ious.items() if iou is not None)
    shown = [name for _, name in known[:_MOST_CLASSES]]
    for name in shown:
        rows = [row for row in scored if row.get("iou", {}).get(name) is not None]
        axes.plot(
            [row["epoch"] for row in rows],
            [row["iou"][name] for row in rows],
            marker="o",
            markersize=3,
            label=name,
        )
    few = len(shown) < len(known)
    axes.set(ylim=(0, 1), title=f"IoU, the {len(shown)} lowest classes" if few else "IoU by class")
