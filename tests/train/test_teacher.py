"""Distillation: what a teacher adds to the loss, which ones are refused, and what a run notes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fcnkit.errors import FcnkitError
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.files import sha256_of
from fcnkit.train.checkpoint import Checkpoint, checkpoint_spec, load_checkpoint, save_checkpoint
from fcnkit.train.learner import Learner
from fcnkit.train.loop import open_data, train
from fcnkit.train.losses import share_of_distance
from fcnkit.train.recipe import RECIPES, Recipe
from fcnkit.train.teacher import open_teacher
from fcnkit.train.weights import ModelOptions
from tests.refusal import refusal
from tests.train.networks import lively
from tests.train.tiny import RECIPE, TinyNet

MODERN = RECIPES["modern"]
CLASSES, PALETTE = ("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2))
SPEC = checkpoint_spec("fcn32s-resnet18", CLASSES, PALETTE)
NETWORK = "lraspp-mobilenet_v3_large"


def slow_distance(
    logits: np.ndarray[Any, Any], taught: np.ndarray[Any, Any], temperature: float
) -> float:
    """The Kullback-Leibler divergence of one pixel, times the squared temperature."""
    p, q = (np.exp(x / temperature) / np.exp(x / temperature).sum() for x in (taught, logits))
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("reduction", ["pixel-mean", "image-sum"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_distance_is_the_divergence_of_the_known_pixels(
    reduction: Any, temperature: float
) -> None:
    random = np.random.default_rng(0)
    logits, taught = random.normal(0, 2, (2, 2, 3, 1, 5)).astype(np.float64)
    labels = np.array([[[0, 1, VOID, 2, 2]], [[1, 1, 1, 0, VOID]]])
    recipe = replace(
        MODERN, reduction=reduction, teacher_weight=0.5, teacher_temperature=temperature
    )
    got = share_of_distance(
        *(torch.from_numpy(x)[:, None, :, 0] for x in (logits, taught)),
        torch.from_numpy(labels),
        recipe,
        pixels=5,
    )
    total = sum(
        slow_distance(logits[b, :, 0, x], taught[b, :, 0, x], temperature)
        for b in range(2)
        for x in range(5)
        if labels[b, 0, x] != VOID
    )
    count = 8 if reduction == "pixel-mean" else 5
    assert float(got) == pytest.approx(0.5 * total / count)


@pytest.mark.parametrize("student", ["tiny", "unet"])
def test_a_learner_adds_the_distance_to_its_teacher(student: str) -> None:
    torch.manual_seed(0)
    net = TinyNet(3) if student == "tiny" else lively("unet")
    teacher = lively("fcn8s-resnet18")
    recipe = replace(RECIPE, teacher="0" * 64, teacher_weight=2.0)
    x, labels = torch.randn(2, 3, 32, 64), torch.randint(0, 3, (2, 32, 64))
    labels[0, :9] = VOID
    with torch.no_grad():
        ours, theirs = net.train()(x).double().numpy(), teacher(x).double().numpy()
    learner = Learner(net, recipe, teacher=teacher)
    alone = Learner(TinyNet(3) if student == "tiny" else lively("unet"), recipe)
    alone.net.load_state_dict(net.state_dict())
    alone.net.train()
    known = [
        slow_distance(ours[b, :, y, i], theirs[b, :, y, i], 1.0)
        for b, y, i in np.argwhere(labels.numpy() != VOID)
    ]
    without, _, _ = alone.step(x, labels, 1e-3)
    loss, _, _ = learner.step(x, labels, 1e-3)
    assert loss - without == pytest.approx(2 * sum(known) / len(known), rel=1e-4)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def save_teacher(path: Path, **changes: Any) -> None:
    spec = replace(checkpoint_spec(NETWORK, CLASSES, PALETTE), **changes)
    net = lively(NETWORK, spec.num_classes)
    save_checkpoint(
        path,
        Checkpoint(
            spec=spec, model=net.state_dict(), resume=None, epoch=1, recipe=MODERN, scores={}
        ),
    )


@pytest.mark.parametrize(
    ("changes", "what", "ours", "theirs"),
    [
        ({"classes": ("a", "b", "d")}, "classes", CLASSES, ("a", "b", "d")),
        (
            {"palette": ((0, 0, 0), (1, 1, 1), (3, 3, 3))},
            "palette",
            PALETTE,
            ((0, 0, 0), (1, 1, 1), (3, 3, 3)),
        ),
        (
            {"input": replace(SPEC.input, std=(1.0, 1.0, 1.0))},
            "input std",
            SPEC.input.std,
            (1.0, 1.0, 1.0),
        ),
        ({"range": (0, 4095)}, "value range", None, (0, 4095)),
        ({"bands": (3, 2, 1)}, "bands", None, (3, 2, 1)),
    ],
)
def test_a_teacher_of_other_data_is_refused(
    changes: dict[str, Any], what: str, ours: object, theirs: object, tmp_path: Path
) -> None:
    save_teacher(tmp_path / "t.pt", **changes)
    with refusal(
        ValueError,
        f"--teacher: a teacher must have the {what} of the data, {ours}, got {theirs} in "
        f"{tmp_path / 't.pt'}; use a network that was trained on this data",
    ):
        open_teacher(tmp_path / "t.pt", SPEC, MODERN)


def test_settings_without_a_teacher_are_refused() -> None:
    with refusal(
        ValueError,
        "--teacher-temperature: is for a run with --teacher, got 2.0; "
        "add --teacher, or leave it out",
    ):
        open_teacher(None, SPEC, replace(MODERN, teacher_temperature=2.0))
    with refusal(
        ValueError,
        f"--teacher: the recipe's teacher has the SHA-256 {'1' * 64}, got no file; give that file",
    ):
        open_teacher(None, SPEC, replace(MODERN, teacher="1" * 64))
    assert open_teacher(None, SPEC, MODERN) == (None, MODERN)


def test_another_file_than_the_recipes_is_refused(tmp_path: Path) -> None:
    save_teacher(tmp_path / "t.pt")
    noted = sha256_of(tmp_path / "t.pt")
    net, recipe = open_teacher(tmp_path / "t.pt", SPEC, MODERN)
    assert net is not None
    assert (net.training, recipe) == (False, replace(MODERN, teacher=noted))
    with refusal(
        ValueError,
        f"--teacher: the recipe's teacher has the SHA-256 {'1' * 64}, got {noted} of "
        f"{tmp_path / 't.pt'}; use that file",
    ):
        open_teacher(tmp_path / "t.pt", SPEC, replace(MODERN, teacher="1" * 64))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"teacher": "best.pt"}, "--teacher: must be none or a SHA-256 in hexadecimal, got best.pt"
         "; leave it to training"),
        ({"teacher_weight": 0.0}, "--teacher-weight: must be positive, got 0.0; use 1"),
        ({"teacher_temperature": math.inf}, "--teacher-temperature: must be positive, got inf; "
         "use 1"),
    ],
)  # fmt: skip
def test_settings_that_cannot_teach_are_refused(changes: dict[str, Any], text: str) -> None:
    with refusal(ValueError, text):
        replace(MODERN, **changes)


def test_a_run_notes_its_teacher_and_keeps_it(shapes_folder: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1, batch=4)
    data = open_data(shapes_folder, recipe)
    data = replace(data, samples=data.samples[:8])
    save_teacher(tmp_path / "t.pt", classes=data.train.classes, palette=data.train.palette)

    def run(recipe: Recipe, **options: Any) -> None:
        model = ModelOptions(architecture=NETWORK)
        options = {"model": model, "device": "cpu", "workers": 0, **options}
        train(data, tmp_path / "run", recipe, **options)

    run(recipe, teacher=tmp_path / "t.pt")
    noted = sha256_of(tmp_path / "t.pt")
    assert load_checkpoint(tmp_path / "run" / "best.pt").recipe == replace(recipe, teacher=noted)
    more = replace(recipe, epochs=2)
    with refusal(
        FcnkitError,
        f"{tmp_path / 'run' / 'last.pt'}: a resumed run keeps its recipe's teacher, {noted}, "
        "got none; use the same options or a new -o",
    ):
        run(more, resume=True)
    run(more, teacher=tmp_path / "t.pt", resume=True)
    assert load_checkpoint(tmp_path / "run" / "last.pt").epoch == 2


def test_a_teacher_rests_in_epochs_of_half_size(shapes_folder: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=2, batch=4, half_size=0.5)
    data = open_data(shapes_folder, recipe)
    data = replace(data, samples=data.samples[:4])
    save_teacher(tmp_path / "t.pt", classes=data.train.classes, palette=data.train.palette)
    losses = []
    for teacher in (None, tmp_path / "t.pt"):
        run, model = tmp_path / f"{teacher is None}", ModelOptions(architecture=NETWORK)
        rows = train(data, run, recipe, model=model, device="cpu", workers=0, teacher=teacher)
        losses.append([row["loss"] for row in rows])
    (half, whole), (half_taught, whole_taught) = losses
    assert half_taught == half
    assert whole_taught > whole
