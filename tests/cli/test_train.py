"""``fcnkit train``: its options and what its help says."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from fcnkit.cli import app
from fcnkit.runtime.files import sha256_of
from fcnkit.train.checkpoint import load_checkpoint
from fcnkit.train.recipe import recipe_lines
from tests.cli.shell import called, refused


def test_help_shows_the_values_of_the_recipes() -> None:
    done = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "100"})
    assert done.exit_code == 0
    shown = " ".join(done.stdout.split())
    for line in recipe_lines():
        assert line in shown


def test_options_change_the_recipe_and_resume_goes_on(shapes_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--recipe", "modern", "--crop", "32x32", "--batch", 16, "--workers", 0, "--lr", 0.01]
    options += ["--class-weights", "frequency", "--dice", 0.5, "--ema", 0.9, "--color", 0.1]
    options += ["--scale", "0.5..2", "--loss", "ohem", "--no-flip", "--weight-decay", 0.001]
    options += ["--model", "fcn16s", "--backbone", "resnet18", "--optimizer", "momentum"]
    options += ["--balanced-crops", 0.5, "--class-mix", 0.25]
    command = ["train", shapes_folder, "-o", run, *options, "--auxiliary", 0.4]
    done = called(*command, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert "epoch 1: 16 of 16 images" in done.stderr
    told = done.stdout.splitlines()
    assert told[:2] == ["read 16 examples", "read 4 examples of val"]
    figures = r"loss [\d.]+, training accuracy 0\.\d{4}, validation loss [\d.]+, pixel accuracy "
    assert re.match(rf"epoch 1: {figures}", told[2])
    saved = load_checkpoint(run / "best.pt")
    recipe = saved.recipe
    assert (saved.spec.architecture, recipe.optimizer) == ("fcn16s-resnet18", "momentum")
    assert (recipe.class_weights, recipe.dice) == ("frequency", 0.5)
    assert (recipe.loss, recipe.flip, recipe.weight_decay) == ("ohem", False, 0.001)
    assert (recipe.balanced_crops, recipe.class_mix, recipe.auxiliary) == (0.5, 0.25, 0.4)
    assert (recipe.ema, recipe.scale, recipe.color) == (0.9, (0.5, 2.0), 0.1)
    done = called(*command, "--epochs", 2, "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2].startswith("epoch 2: loss ")
    other = {"fcn16s": "lraspp", "resnet18": "mobilenet_v3_large"}
    options = [other.get(str(option), option) for option in options]
    taught = ["--teacher", run / "best.pt", "--teacher-weight", 0.5, "--teacher-temperature", 2]
    small = tmp_path / "small"
    done = called("train", shapes_folder, "-o", small, *options, *taught, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    saved = load_checkpoint(small / "best.pt")
    assert saved.spec.architecture == "lraspp-mobilenet_v3_large"
    assert saved.recipe.teacher == sha256_of(run / "best.pt")
    assert (saved.recipe.teacher_weight, saved.recipe.teacher_temperature) == (0.5, 2.0)
    refused(
        called("train", shapes_folder, "-o", run, "--recipe", "modern", "--ema", 1),
        "--ema: must be at least 0 and below 1, got 1.0; use 0 to turn it off",
    )
    refused(
        called("train", shapes_folder, "-o", run, "--model", "unet-resnet18", "--backbone", "x"),
        "--backbone: is given by itself or in --model, got both, x and unet-resnet18; drop one",
    )
    finished = (run / "last.pt").read_bytes()
    done = called(*command, "--epochs", 2, "--resume")
    assert done.returncode == 0, done.stderr
    assert "epoch" not in done.stdout
    assert (run / "last.pt").read_bytes() == finished
    done = called(*command, "--epochs", 1, "--resume")
    assert done.stderr == (
        f"error: {run}: --epochs must be at least the 2 that the run has finished, got 1; "
        "raise --epochs or use a new -o\n"
    )
