"""The curves of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fcnkit.runtime.files import atomic_path

__all__ = ["save_curves"]


def save_curves(path: Path, history: list[dict[str, Any]]) -> None:
    """Plot loss, pixel accuracy and mean IoU against the epoch.

    Args:
        path: The PNG.
        history: The rows of metrics.jsonl.

    Raises:
        OSError: The file cannot be written.
    """
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["loss"] for row in history], marker="o", markersize=3)
    left.set(xlabel="epoch", ylabel="training loss per picture")
    scored = [row for row in history if "mean_iou" in row]
    epochs = [row["epoch"] for row in scored]
    for key, label in (("pixel_accuracy", "pixel accuracy"), ("mean_iou", "mean IoU")):
        right.plot(epochs, [row[key] for row in scored], marker="o", markersize=3, label=label)
    right.set(xlabel="epoch", ylabel="validation, void ignored", ylim=(0, 1))
    right.legend()
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
