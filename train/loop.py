"""The training loop: a VOC-layout folder and a recipe in, a run folder out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fcnkit.errors import DataError, FcnkitError, message
from fcnkit.runtime.files import atomic_write
from fcnkit.runtime.segmenter import Segmenter
from fcnkit.runtime.spec import VOID, ModelSpec
from fcnkit.train.backend import TorchBackend
from fcnkit.train.checkpoint import Checkpoint, checkpoint_spec, load_checkpoint, save_checkpoint
from fcnkit.train.curves import save_curves
from fcnkit.train.dataset import training_loader
from fcnkit.train.device import pick_device
from fcnkit.train.evaluate import evaluate
from fcnkit.train.grid import save_grid
from fcnkit.train.recipe import Recipe
from fcnkit.train.voc import Sample, VocFolder, drop_smaller, open_voc
from fcnkit.train.weights import LoadedWeights, ModelOptions, initial_model

__all__ = ["EpochResult", "TrainingData", "learning_rate", "open_training_data", "train"]

BEST, LAST = "best.pt", "last.pt"
METRICS, CURVES, SAMPLES = "metrics.jsonl", "curves.png", "samples.png"
CHAPTERS_MODEL = ModelOptions()


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The two splits of a run."""

    train: VocFolder
    val: VocFolder
    samples: Sequence[Sample]
    """What is trained on."""
    dropped: int
    """Pictures of the training split left out because they are smaller than the crop."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What an epoch gave; the loss as the recipe defines it, per picture."""

    epoch: int
    loss: float
    pixel_accuracy: float
    mean_iou: float
    images_per_second: float
    """Of training alone, without validation."""
    best: bool


def open_training_data(root: Path, recipe: Recipe) -> TrainingData:
    """Open the train and val splits and apply the recipe's rule for small pictures.

    Args:
        root: A VOC-layout folder.
        recipe: The recipe.

    Returns:
        The data of a run.

    Raises:
        DataError: The folder is not in VOC layout, or no picture is left to train on.
    """
    train_split, val_split = open_voc(root, split="train"), open_voc(root, split="val")
    samples, dropped = train_split.samples, 0
    if recipe.drop_smaller:
        sifted = drop_smaller(samples, *recipe.crop)
        samples, dropped = sifted.kept, len(sifted.dropped)
    if not samples:
        rule = f"some picture must be at least {recipe.crop[0]}x{recipe.crop[1]}"
        raise DataError(message(str(root), rule, f"{dropped} smaller ones", "use a smaller --crop"))
    return TrainingData(train=train_split, val=val_split, samples=samples, dropped=dropped)


def train(
    data: TrainingData,
    run: Path,
    recipe: Recipe,
    *,
    model: ModelOptions = CHAPTERS_MODEL,
    device: str = "auto",
    workers: int = 1,
    resume: bool = False,
    on_weights: Callable[[LoadedWeights], None] | None = None,
    on_step: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> list[dict[str, Any]]:
    """Train a network and write best.pt, last.pt, metrics.jsonl, curves.png and samples.png.

    Args:
        data: What to train and validate on.
        run: The run folder; it is created.
        recipe: How to train.
        model: Which network, and from what weights.
        device: See pick_device.
        workers: Processes that read pictures.
        resume: Continue after the last finished epoch of this folder, if there is one.
        on_weights: Called with what came from the file that the model starts from, if any.
        on_step: Called with (epoch, step, steps) after every step.
        on_epoch: Called after every epoch, its files written.

    Returns:
        The rows of metrics.jsonl, one per epoch.

    Raises:
        FcnkitError: The run folder holds another run, or training diverged.
        ValueError: The model's options are unknown or exclude each other.
        ArtifactError: The file that the model starts from does not fit.
        DataError: A picture or mask is broken.
    """
    where = pick_device(device)
    history = _finished_epochs(run, resume=resume)
    spec = checkpoint_spec(model.architecture, data.train.classes, data.train.palette)
    torch.manual_seed(recipe.seed)
    # A resumed run goes on from last.pt, whatever it once started from.
    start = replace(model, pretrained=False, init_from=None) if history else model
    net, loaded = initial_model(start, spec.num_classes)
    run.mkdir(parents=True, exist_ok=True)
    if loaded and on_weights:
        on_weights(loaded)
    net = net.to(where)
    if recipe.precision == "bf16":
        net = net.to(memory_format=torch.channels_last)
    optimizer = _optimizer(net, recipe)
    done = _restore(run / LAST, spec, recipe, net, optimizer) if history else 0
    if done >= recipe.epochs:
        rule = f"--epochs must be more than the {done} that the run has finished"
        raise FcnkitError(message(str(run), rule, recipe.epochs, "raise --epochs or use a new -o"))
    loader, sampler = training_loader(data.samples, data.train.labelmap, recipe, workers=workers)
    for epoch in range(done + 1, recipe.epochs + 1):
        sampler.epoch = epoch
        net.train()
        loss, rate = _train_epoch(net, optimizer, loader, spec, recipe, epoch, on_step)
        with Segmenter(TorchBackend(net, spec, device=where), cover="pad") as segmenter:
            scores = evaluate(segmenter, data.val)
            best = scores.mean_iou > max((row["mean_iou"] for row in history), default=-1.0)
            row = {"epoch": epoch, "loss": loss, "images_per_second": rate, **scores.to_dict()}
            history.append(row)
            _save_epoch(run, spec, net, optimizer, recipe, history, best=best)
            if best:
                save_grid(run / SAMPLES, segmenter, data.val)
        if on_epoch:
            on_epoch(_result(row, best=best))
    return history


def _train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[tuple[Tensor, Tensor]],
    spec: ModelSpec,
    recipe: Recipe,
    epoch: int,
    on_step: Callable[[int, int, int], None] | None,
) -> tuple[float, float]:
    """Train for one epoch; return the mean loss per picture and pictures per second."""
    device = next(net.parameters()).device
    started, loss_sum, seen = time.perf_counter(), 0.0, 0
    for step, (image_bchw, labels_bhw) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, (epoch - 1) * len(loader) + step, len(loader))
        x = _normalise(image_bchw.to(device, non_blocking=True), spec, recipe)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits_bkhw = net(x)
        loss = _loss(logits_bkhw.float(), labels_bhw.to(device, non_blocking=True), recipe)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        # The one place where a GPU is waited for.
        value = loss.item()
        if not math.isfinite(value):
            rule = f"the loss of epoch {epoch}, step {step + 1} must be finite"
            remedy = "lower --lr; last.pt holds the epoch before"
            raise FcnkitError(message("training", rule, value, remedy))
        loss_sum += value if recipe.loss == "image-sum" else value * len(image_bchw)
        seen += len(image_bchw)
        if on_step:
            on_step(epoch, step + 1, len(loader))
    return loss_sum / seen, seen / (time.perf_counter() - started)


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, a function of the step alone so that runs can resume.

    Args:
        recipe: Peak rate, schedule and epochs.
        step: Number of steps done before this one.
        steps_per_epoch: Steps in an epoch.

    Returns:
        The rate.
    """
    if recipe.schedule == "constant":
        return recipe.lr
    total = recipe.epochs * steps_per_epoch
    warmup = max(1, total // 20)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    return recipe.lr * math.pow(1 - (step - warmup) / (total - warmup + 1), 0.9)


def _normalise(image_bchw: Tensor, spec: ModelSpec, recipe: Recipe) -> Tensor:
    mean = torch.tensor(spec.input.mean, device=image_bchw.device).view(3, 1, 1)
    std = torch.tensor(spec.input.std, device=image_bchw.device).view(3, 1, 1)
    x = (image_bchw / 255 - mean) / std
    return x.contiguous(memory_format=torch.channels_last) if recipe.precision == "bf16" else x


def _loss(logits_bkhw: Tensor, labels_bhw: Tensor, recipe: Recipe) -> Tensor:
    if recipe.loss == "pixel-mean":
        total = F.cross_entropy(logits_bkhw, labels_bhw, ignore_index=VOID, reduction="sum")
        return total / (labels_bhw != VOID).sum().clamp(min=1)
    pixels = F.cross_entropy(logits_bkhw, labels_bhw, ignore_index=VOID, reduction="none")
    return pixels.mean((1, 2)).sum()


def _optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)


def _finished_epochs(run: Path, *, resume: bool) -> list[dict[str, Any]]:
    """Return the rows of the epochs that the run folder holds."""
    if not (run / LAST).exists():
        return []
    if not resume:
        rule = "the run folder must not hold another run"
        raise FcnkitError(message(str(run), rule, LAST, "add --resume, or choose another -o"))
    # Rows beyond the checkpoint belong to an epoch that was cut off before it was saved.
    epoch = load_checkpoint(run / LAST).epoch
    lines = (run / METRICS).read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["epoch"] <= epoch]


def _restore(
    last: Path, spec: ModelSpec, recipe: Recipe, net: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Load the last checkpoint of the same run and return its number of finished epochs."""
    checkpoint = load_checkpoint(last)
    for what, saved, asked in (
        ("classes", checkpoint.spec.classes, spec.classes),
        ("architecture", checkpoint.spec.architecture, spec.architecture),
        ("recipe", replace(checkpoint.recipe, epochs=recipe.epochs), recipe),
    ):
        if saved != asked:
            rule = f"a resumed run keeps its {what}, {saved}"
            raise FcnkitError(message(str(last), rule, asked, "use the same options or a new -o"))
    net.load_state_dict(checkpoint.model)
    if checkpoint.optimizer is None:
        raise FcnkitError(message(str(last), "must hold the optimizer", "none", "use last.pt"))
    optimizer.load_state_dict(checkpoint.optimizer)
    return checkpoint.epoch


def _save_epoch(
    run: Path,
    spec: ModelSpec,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    history: list[dict[str, Any]],
    *,
    best: bool,
) -> None:
    checkpoint = Checkpoint(
        spec=spec,
        model={key: value.cpu() for key, value in net.state_dict().items()},
        optimizer=optimizer.state_dict(),
        epoch=history[-1]["epoch"],
        recipe=recipe,
        scores=history[-1],
    )
    if best:
        save_checkpoint(run / BEST, replace(checkpoint, optimizer=None))
    lines = "".join(json.dumps(row) + "\n" for row in history)
    atomic_write(run / METRICS, lines.encode())
    save_curves(run / CURVES, history)
    # Last, so that everything else is there when a resumed run finds this epoch done.
    save_checkpoint(run / LAST, checkpoint)


def _result(row: dict[str, Any], *, best: bool) -> EpochResult:
    return EpochResult(
        epoch=row["epoch"],
        loss=row["loss"],
        pixel_accuracy=row["pixel_accuracy"],
        mean_iou=row["mean_iou"],
        images_per_second=row["images_per_second"],
        best=best,
    )
