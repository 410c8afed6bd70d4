"""The training loop: a VOC-layout folder and a recipe in, a run folder out."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcnkit.errors import ArtifactError, DataError, FcnkitError, message
from fcnkit.runtime.artifacts.spec import VOID, ModelSpec
from fcnkit.runtime.checks import check_flag, check_int, check_type
from fcnkit.runtime.files import atomic_write
from fcnkit.runtime.predict.bands import Bands
from fcnkit.runtime.predict.levels import Range, RangeWarner
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.train import parallel
from fcnkit.train.checkpoint import Checkpoint
from fcnkit.train.data.masks import read_image_levels
from fcnkit.train.data.remarks import count_labels
from fcnkit.train.data.voc import Sample, VocFolder, drop_smaller, no_labels, open_voc
from fcnkit.train.dataset import training_loader
from fcnkit.train.evaluation import measure
from fcnkit.train.frozen import frozen_copy
from fcnkit.train.learner import Learner
from fcnkit.train.losses import frequency_weights, given_weights
from fcnkit.train.memory import kept_memory
from fcnkit.train.precision import with_precision
from fcnkit.train.reading import Loader, batches, worker_errors
from fcnkit.train.recipe import Recipe, learning_rate
from fcnkit.train.run_folder import GRIDS, SAMPLES, hold_run, open_run, save_epoch, spec_for
from fcnkit.train.sample_grid import save_grid
from fcnkit.train.teacher import open_teacher
from fcnkit.train.tensorboard_log import open_board
from fcnkit.train.validation_loss import LossBackend
from fcnkit.train.weights import LoadedWeights, ModelOptions, initial_model

__all__ = ["EpochResult", "TrainingData", "open_data", "train"]

OnStep = Callable[[int, int, int], None]
CHAPTERS_MODEL = ModelOptions()
MOST_WORKERS = 256
_LOOKED_AT = 16
"""Training pictures whose value range is checked before training."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The two splits of a run."""

    train: VocFolder
    val: VocFolder
    samples: Sequence[Sample]
    """What is trained on."""
    dropped: int
    """Pictures of the training split left out because they are smaller than the crop."""
    val_smaller: int = 0
    """Pictures of val that the recipe would leave out of training for the same reason."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What an epoch gave; the loss as the recipe defines it, per picture."""

    epoch: int
    loss: float
    train_accuracy: float | None
    """Share of the pixels of the training crops that were labeled right, void ignored, each
    before the step that learned from it. None for an epoch of an older version of fcnkit."""
    val_loss: float | None
    """Mean cross-entropy per pixel of val, void ignored; None where it was not validated."""
    pixel_accuracy: float | None
    """None, as the mean IoU, where the epoch was not validated."""
    mean_iou: float | None
    images_per_second: float
    """Of training alone, without validation."""
    best: bool
    """Whether the network was kept as best.pt."""
    without_truth: tuple[str, ...] = ()
    """Classes that no mask of val shows."""
    tells: bool = True
    """Whether the scores say something; see ``Measure.tells``."""


def open_data(
    root: Path, recipe: Recipe, *, range: Range | None = None, bands: Bands | None = None
) -> TrainingData:
    """Open the train and val splits and apply the recipe's rule for small pictures.

    Args:
        root: A VOC-layout folder.
        recipe: The recipe.
        range: The values that become 0 and 255 in pictures of more than 8 bits; the model keeps
            it. By default all that a file can hold, with a PictureWarning where the first
            pictures use a quarter of that or less; under torchrun the first process warns.
        bands: The stored samples that are red, green and blue; the model keeps them. By default
            what each file says.

    Returns:
        The data of a run.

    Raises:
        TypeError: range is not a pair of integers, or bands are not integers.
        ValueError: range is not 0 <= low < high <= 65535, or bands are not three of 1..65535.
        DataError: The folder is not in VOC layout, no picture is left to train on, or the masks
            of a split are void all over.
    """
    train_split = open_voc(root, split="train", range=range, bands=bands)
    val_split = open_voc(root, split="val", range=range, bands=bands)
    samples, dropped, val_smaller = train_split.samples, 0, 0
    if recipe.drop_smaller:
        sifted = drop_smaller(samples, *recipe.crop)
        samples, dropped = sifted.kept, len(sifted.dropped)
        val_smaller = len(drop_smaller(val_split.samples, *recipe.crop).dropped)
    if not samples:
        rule = f"some picture must be at least {recipe.crop[0]}x{recipe.crop[1]}"
        remedy = "use a smaller --crop, or leave it out"
        raise DataError(message(str(root), rule, f"{dropped} smaller ones", remedy))
    for split, chosen in ((train_split, samples), (val_split, val_split.samples)):
        # Otherwise validation would fail after the first epoch.
        if not count_labels(chosen, split.labelmap, enough=1)[:VOID].any():
            raise no_labels(split, len(chosen))
    if parallel.is_first():
        _warn_of_range(samples[:_LOOKED_AT])
    return TrainingData(
        train=train_split,
        val=val_split,
        samples=samples,
        dropped=dropped,
        val_smaller=val_smaller,
    )


def _warn_of_range(samples: Sequence[Sample]) -> None:
    """Warn if pictures of more than 8 bits use only a part of the range."""
    warn = RangeWarner("if {0} means white, add --range 0..{0}")
    for sample in samples:
        with contextlib.suppress(DataError):  # training reports it
            read = read_image_levels(sample.image, range=sample.range, bands=sample.bands)
            warn(str(sample.image), read.seen)


def train(
    data: TrainingData,
    run: Path,
    recipe: Recipe,
    *,
    model: ModelOptions = CHAPTERS_MODEL,
    teacher: Path | None = None,
    device: str = "auto",
    workers: int = 1,
    resume: bool = False,
    compiled: bool = False,
    validate_every: int = 1,
    on_weights: Callable[[LoadedWeights], None] | None = None,
    on_step: OnStep | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> list[dict[str, Any]]:
    """Train a network and write best.pt, last.pt, metrics.jsonl, curves.png and samples.png.

    Under torchrun every process calls it alike; the first validates, writes and calls back.

    Args:
        data: What to train and validate on.
        run: The run folder; it is created.
        recipe: How to train.
        model: Which network, and from what weights.
        teacher: A trained network whose probabilities it learns too, see open_teacher.
        device: See pick_device.
        workers: Processes that read pictures, for each that trains.
        resume: Continue after the last finished epoch of this folder, if there is one.
        compiled: Compile the training step with torch.compile.
        validate_every: Epochs from one validation to the next; the last epoch always has one.
            What is trained does not depend on it.
        on_weights: Called with what came from the file that the model starts from, if any.
        on_step: Called with (epoch, pictures done, pictures of the epoch) after every step.
        on_epoch: Called after every epoch, its files written.

    Returns:
        The rows of metrics.jsonl, one per epoch; in other processes than the first those that
        were there before.

    Raises:
        FcnkitError: The run folder holds another run or is held by one, training diverged, or a
            process that reads pictures has died.
        TypeError: An argument is of another type.
        ValueError: The model's options are unknown or exclude each other, the recipe's batch
            cannot be shared among the processes, the teacher does not fit, or workers or
            validate_every is out of range.
        ArtifactError: The file that the model starts from does not fit.
        DataError: A picture or mask is broken.
        OSError: A file of the run cannot be written; the files of the epoch before are whole.
    """
    check_type("train: data", data, TrainingData)
    check_type("train: recipe", recipe, Recipe)
    check_type("train: model", model, ModelOptions)
    workers = check_int("--workers", workers, 0, MOST_WORKERS)
    validate_every = check_int("--validate-every", validate_every, 1, 2**31 - 1)
    for name, flag in (("resume", resume), ("compiled", compiled)):
        check_flag(f"train: {name}", flag)
    recipe = recipe.for_classes(data.train.labelmap)
    with (
        worker_errors(),
        parallel.process_group(device) as where,
        hold_run(run),
        kept_memory(),
    ):
        spec = spec_for(model.architecture, data.train)
        taught_by, recipe = open_teacher(teacher, spec, recipe)
        history, last = open_run(run, spec, recipe, resume=resume)
        recipe = with_precision(recipe, where, began=last.recipe if last else None)
        loader, sampler = training_loader(
            data.samples,
            data.train.labelmap,
            recipe,
            workers=workers,
            rank=parallel.rank(),
            world=parallel.world(),
        )
        torch.manual_seed(recipe.seed)
        # A resumed run goes on from last.pt, whatever it once started from.
        start = replace(model, pretrained=False, init_from=None) if last else model
        net, loaded = initial_model(start, spec.num_classes)
        if loaded and on_weights and parallel.is_first():
            on_weights(loaded)
        weights = _class_weights(data, recipe, last)
        learner = Learner(
            net.to(where), recipe, class_weights=weights, teacher=taught_by, compiled=compiled
        )
        if last:
            learner.load(last)
        done = last.epoch if last else 0
        with open_board(run, done=done) as write:

            def finish(row: dict[str, Any], val: VocFolder | None) -> None:
                result = _finish_epoch(learner, spec, val, run, row, history)
                write(row)
                if on_epoch:
                    on_epoch(result)

            unscored = bool(history) and "mean_iou" not in history[-1]
            # The last run planned more epochs, so its final epoch was never validated.
            if unscored and done == recipe.epochs and parallel.is_first():
                finish(history.pop(), data.val)
            for epoch in range(done + 1, recipe.epochs + 1):
                sampler.epoch = epoch
                trained = _train_epoch(learner, loader, spec, epoch, on_step)
                if parallel.is_first():
                    row = {"epoch": epoch, **trained}
                    due = epoch % validate_every == 0 or epoch == recipe.epochs
                    finish(row, data.val if due else None)
                parallel.wait()
    return history


def _train_epoch(
    learner: Learner,
    loader: Loader[tuple[Tensor, Tensor]],
    spec: ModelSpec,
    epoch: int,
    on_step: OnStep | None,
) -> dict[str, float]:
    """Train for one epoch; return its part of the row of metrics.jsonl."""
    recipe, world = learner.recipe, parallel.world()
    pictures = len(loader.sampler) * world  # type: ignore[arg-type]
    started, loss_sum, seen, right, known = time.perf_counter(), 0.0, 0, 0, 0
    # Dropout draws the same numbers with or without resuming, and different ones in each process.
    key = np.random.SeedSequence((recipe.seed, epoch, parallel.rank()))
    torch.manual_seed(int(key.generate_state(1)[0]))
    learner.net.train()
    # A teacher was trained at the whole size, and labels images of half the size worse.
    taught = not recipe.is_half_size(epoch)
    for step, (image_bchw, labels_bhw) in enumerate(batches(loader)):
        x_bchw = _normalize(image_bchw.to(learner.device, non_blocking=True), spec)
        y_bhw = labels_bhw.to(learner.device, non_blocking=True)
        lr = learning_rate(recipe, (epoch - 1) * len(loader) + step, len(loader))
        loss, *counts = learner.step(x_bchw, y_bhw, lr, taught=taught)
        if not math.isfinite(loss):
            raise _diverged(f"the loss of epoch {epoch}, step {step + 1} must be finite", loss)
        batch = len(image_bchw) * world
        loss_sum += loss if recipe.reduction == "image-sum" else loss * batch
        seen, right, known = seen + batch, right + counts[0], known + counts[1]
        if on_step:
            on_step(epoch, seen, pictures)
    if not learner.is_finite():
        raise _diverged(f"the weights after epoch {epoch} must be finite", "others")
    return {
        "loss": loss_sum / seen,
        "train_accuracy": right / max(1, known),
        "images_per_second": seen / (time.perf_counter() - started),
    }


def _diverged(rule: str, got: object) -> FcnkitError:
    remedy = "lower --lr; last.pt, if there is one, holds the epoch before"
    return FcnkitError(message("training", rule, got, remedy))


def _finish_epoch(
    learner: Learner,
    spec: ModelSpec,
    val: VocFolder | None,
    run: Path,
    row: dict[str, Any],
    history: list[dict[str, Any]],
) -> EpochResult:
    """Validate if there is something to, append the epoch's row and write the run's files."""
    best = val is not None and _validate(learner, spec, val, run, row, history)
    without_truth = tuple(row.get("without_truth", ()))
    history.append(row)
    checkpoint = Checkpoint(
        spec=spec,
        model=learner.model(),
        resume=learner.state(),
        epoch=row["epoch"],
        recipe=learner.recipe,
        scores=row,
    )
    save_epoch(run, checkpoint, history, best=best)
    return EpochResult(
        epoch=row["epoch"],
        loss=row["loss"],
        train_accuracy=row.get("train_accuracy"),
        val_loss=row.get("val_loss"),
        pixel_accuracy=row.get("pixel_accuracy"),
        mean_iou=row.get("mean_iou"),
        images_per_second=row["images_per_second"],
        best=best,
        without_truth=without_truth,
        tells=len(spec.classes) - len(without_truth) > 1,
    )


def _validate(
    learner: Learner,
    spec: ModelSpec,
    val: VocFolder,
    run: Path,
    row: dict[str, Any],
    history: list[dict[str, Any]],
) -> bool:
    """Add the scores to an epoch's row and draw it; return whether it is the best so far."""
    net = frozen_copy(learner.deployed).to(memory_format=torch.channels_last)
    backend = LossBackend(net, spec, device=learner.device)
    with Segmenter(backend) as segmenter:
        try:
            measured = measure(
                segmenter, val, before=lambda y: backend.expect(y, segmenter.plan(*y.shape))
            )
        except ArtifactError as error:  # Finite weights can still give infinite logits.
            rule = f"the logits on val after epoch {row['epoch']} must be finite"
            raise _diverged(rule, "NaN") from error
        scores = measured.scores
        row["val_loss"] = backend.loss
        row |= scores.to_dict() | {"without_truth": list(measured.without_truth)}
        before = (past["mean_iou"] for past in history if "mean_iou" in past)
        best = scores.mean_iou > max(before, default=-1.0)
        grid = run / GRIDS / f"{row['epoch']:04}.png"
        grid.parent.mkdir(exist_ok=True)
        save_grid(grid, segmenter, val)
        if best:
            atomic_write(run / SAMPLES, grid.read_bytes())
    return best


def _class_weights(data: TrainingData, recipe: Recipe, last: Checkpoint | None) -> Tensor | None:
    """Return the run's class weights: those it began with, or new ones from the masks."""
    if recipe.class_weights == "none":
        return None
    if recipe.class_weights != "frequency":
        return given_weights(recipe.class_weights, data.train.classes)
    if last and last.resume:
        return torch.tensor(last.resume["class_weights"])
    void_as_background = recipe.void_as_background
    return frequency_weights(
        data.samples, data.train.labelmap, void_as_background=void_as_background
    )


def _normalize(image_bchw: Tensor, spec: ModelSpec) -> Tensor:
    mean = torch.tensor(spec.input.mean, device=image_bchw.device).view(3, 1, 1)
    std = torch.tensor(spec.input.std, device=image_bchw.device).view(3, 1, 1)
    return (image_bchw / 255 - mean) / std
