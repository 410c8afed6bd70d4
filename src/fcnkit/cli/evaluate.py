"""``fcnkit eval``: score a checkpoint or an exported model on a labelled folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fcnkit.cli.options import Backend, Json, Threads

if TYPE_CHECKING:
    from fcnkit.runtime import Cover
    from fcnkit.runtime.metrics import Scores

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="best.pt, or a model that was exported.")],
    data: Annotated[Path, typer.Argument(help="Folder in VOC layout.")],
    *,
    split: Annotated[str, typer.Option(help="Which list.")] = "val",
    cover: Annotated[str | None, typer.Option(help="average or pad; see fcnkit predict.")] = None,
    backend: Backend = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Score a model on full pictures; void pixels count for nothing."""
    import fcnkit
    from fcnkit.cli.progress import progress_of
    from fcnkit.train.evaluate import evaluate as score
    from fcnkit.train.voc import open_voc

    folder = open_voc(data, split=split)
    opened = fcnkit.load(model, backend=backend, threads=threads, cover=cast("Cover | None", cover))
    with opened as segmenter, progress_of() as advance:
        scores = score(
            segmenter, folder, on_picture=lambda done, total: advance("evaluate", done, total)
        )
        facts = {"model": str(model), "data": str(data), "split": split, "cover": segmenter.cover}
    if as_json:
        typer.echo(json.dumps({**facts, "pictures": len(folder.samples), **scores.to_dict()}))
    else:
        _print(scores)


def _print(scores: Scores) -> None:
    for name in ("pixel_accuracy", "class_accuracy", "mean_iou", "frequency_weighted_iou"):
        typer.echo(f"{name}: {getattr(scores, name):.4f}")
    for name, value in scores.iou.items():
        typer.echo(f"iou {name}: {'absent' if value is None else f'{value:.4f}'}")
