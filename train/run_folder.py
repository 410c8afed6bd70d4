"""The files of a run: written after every epoch, so that a kill loses at most one epoch."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fcnkit.errors import ArtifactError, FcnkitError, message
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.files import atomic_write
from fcnkit.train import parallel
from fcnkit.train.checkpoint import Checkpoint, checkpoint_spec, load_checkpoint, save_checkpoint
from fcnkit.train.curves import save_curves
from fcnkit.train.data.voc import VocFolder
from fcnkit.train.recipe import Recipe

__all__ = [
    "BEST",
    "CURVES",
    "GRIDS",
    "LAST",
    "METRICS",
    "SAMPLES",
    "hold_run",
    "open_run",
    "save_epoch",
    "spec_for",
]

BEST, LAST = "best.pt", "last.pt"
METRICS, CURVES = "metrics.jsonl", "curves.png"
SAMPLES, GRIDS = "samples.png", "samples"
"""The pictures of the best epoch, and the folder of those of every epoch that was validated."""
_LOCK = ".lock"


@contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Lock a run folder; it is created, and removed again if it stays empty.

    Args:
        run: The folder.

    Raises:
        FcnkitError: Another training holds it.
        OSError: It cannot be made.
    """
    run.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32" or not parallel.is_first():
        yield
        return
    import fcntl

    path = run / _LOCK
    try:
        with path.open("ab") as file:
            try:
                # Not inherited: a worker that outlives this process for a moment must not keep the
                # lock.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another training may have ended meanwhile and removed the file that was opened
                # here.
                held = path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))
            except (BlockingIOError, PermissionError):
                held = False
            if not held:
                rule = "one training at a time writes into a run folder"
                remedy = "wait for the other one, or choose another -o"
                got = "a folder that another one holds"
                raise FcnkitError(message(str(run), rule, got, remedy))
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # not empty: the usual case
            run.rmdir()


def spec_for(architecture: str, folder: VocFolder) -> ModelSpec:
    """Return the spec of a network under training on a data set, see ``checkpoint_spec``.

    Args:
        architecture: A name that create_model knows.
        folder: The split to train on: its classes, colors, range and bands.
    """
    return checkpoint_spec(
        architecture, folder.classes, folder.palette, range=folder.range, bands=folder.bands
    )


def open_run(
    run: Path, spec: ModelSpec, recipe: Recipe, *, resume: bool
) -> tuple[list[dict[str, Any]], Checkpoint | None]:
    """Open the run folder to continue, if there is one.

    Args:
        run: The folder.
        spec: The network that will be trained.
        recipe: How it will be trained.
        resume: Continue what the folder holds, if it holds something.

    Returns:
        The rows of the finished epochs and the last checkpoint; no rows and None in a new folder.

    Raises:
        FcnkitError: The folder holds another run, or one of more epochs.
        ArtifactError: last.pt or metrics.jsonl is broken.
    """
    last = run / LAST
    if parallel.is_first():
        _sweep(run)
    if not last.exists():
        return [], None
    if not resume:
        rule = "the run folder must not hold another run"
        raise FcnkitError(message(str(run), rule, LAST, "add --resume, or choose another -o"))
    checkpoint = load_checkpoint(last)
    _check_same(last, checkpoint, spec, recipe)
    done = checkpoint.epoch
    # Not an error: the command that made a run can simply be repeated.
    if done > recipe.epochs:
        rule = f"--epochs must be at least the {done} that the run has finished"
        raise FcnkitError(message(str(run), rule, recipe.epochs, "raise --epochs or use a new -o"))
    # Rows beyond the checkpoint belong to an epoch that was cut off before it was saved.
    return [row for row in _rows(run / METRICS) if row["epoch"] <= done], checkpoint


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read a metrics.jsonl."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if all(isinstance(row["epoch"], int) and row.get("mean_iou", 0) >= 0 for row in rows):
            return rows
        got = "other lines"
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        got = str(error) or type(error).__name__
    rule, remedy = "must hold a line per epoch", "start a new run with another -o"
    raise ArtifactError(message(str(path), rule, got, remedy))


def save_epoch(
    run: Path, checkpoint: Checkpoint, history: list[dict[str, Any]], *, best: bool
) -> None:
    """Write the checkpoints, metrics.jsonl and curves.png of a finished epoch.

    Args:
        run: The run folder.
        checkpoint: The network after the epoch, with what resuming needs.
        history: A row for every epoch so far.
        best: Keep the network as best.pt too.

    Raises:
        OSError: A file cannot be written.
    """
    if best:
        save_checkpoint(run / BEST, replace(checkpoint, resume=None))
    lines = "".join(json.dumps(row) + "\n" for row in history)
    atomic_write(run / METRICS, lines.encode())
    save_curves(run / CURVES, history)
    # Written last: a resumed run that finds this epoch done finds everything else too.
    save_checkpoint(run / LAST, checkpoint)


def _check_same(last: Path, checkpoint: Checkpoint, spec: ModelSpec, recipe: Recipe) -> None:
    """Refuse to continue a run as another one; only its number of epochs may change."""
    was, now = checkpoint.recipe.to_dict(), recipe.to_dict()
    free = {"epochs", "precision"} if now["precision"] == "auto" else {"epochs"}
    changed = [key for key in now if now[key] != was[key] and key not in free]
    for what, saved, asked in (
        ("classes", checkpoint.spec.classes, spec.classes),
        ("architecture", checkpoint.spec.architecture, spec.architecture),
        *((f"recipe's {key}", was[key], now[key]) for key in changed),
    ):
        if saved != asked:
            rule = f"a resumed run keeps its {what}, {saved}"
            raise FcnkitError(message(str(last), rule, asked, "use the same options or a new -o"))


def _sweep(run: Path) -> None:
    """Remove half-written files that a kill left, see ``atomic_path``."""
    patterns = [f".{name}.*" for name in (BEST, LAST, METRICS, CURVES, SAMPLES)]
    for pattern in (*patterns, f"{GRIDS}/.*.png.*"):
        for left in run.glob(pattern):
            shutil.rmtree(left)
