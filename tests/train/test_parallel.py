"""Two processes train as one does with the same batches: gloo on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fcnkit.train.checkpoint import load_checkpoint
from fcnkit.train.parallel import process_group
from fcnkit.train.recipe import Recipe
from tests.train.tiny import RECIPE, start_group, train_tiny

# Plain gradient steps: Adam would turn a gradient that is zero but for rounding into a full step.
SHARED = replace(
    RECIPE,
    optimizer="sgd",
    schedule="constant",
    ema=0.9,
    dice=0.5,
    class_weights="frequency",
    auxiliary=0.4,
)

RELATIVE = 1e-5
"""Sums over two halves round otherwise than sums over the whole, in float32."""


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def train_in_two(data: Path, run: Path, recipe: Recipe, log: Path) -> None:
    processes = start_group(data, run, recipe, world=2, log=log)
    for process in processes:
        process.join(120)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0, 0]


@pytest.mark.parametrize("reduction", ["pixel-mean", "image-sum"])
def test_two_processes_equal_one(reduction: Any, shapes_folder: Path, tmp_path: Path) -> None:
    one, two, log = tmp_path / "one", tmp_path / "two", tmp_path / "log"
    recipe = replace(SHARED, reduction=reduction, lr=0.1 if reduction == "pixel-mean" else 0.01)
    train_tiny(shapes_folder, one, recipe)
    train_in_two(shapes_folder, two, replace(recipe, epochs=2), log)
    train_in_two(shapes_folder, two, recipe, log)
    # Only the first process reports and writes.
    assert log.read_text().split() == ["start"] * 2 + ["1", "2"] + ["start"] * 2 + ["3", "4"]
    assert [row["epoch"] for row in rows(two)] == [1, 2, 3, 4]
    for a, b in zip(rows(one), rows(two), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=RELATIVE)
        assert b["pixel_accuracy"] == pytest.approx(a["pixel_accuracy"], abs=2e-3)
    a, b = (load_checkpoint(run / "last.pt").model for run in (one, two))
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, rtol=RELATIVE, atol=1e-5)
    # One process goes on where two stopped.
    longer = replace(recipe, epochs=5)
    ends = [train_tiny(shapes_folder, run, longer, resume=True)[-1]["loss"] for run in (one, two)]
    assert ends[1] == pytest.approx(ends[0], rel=RELATIVE)


def test_torchrun_starts_the_command(shapes_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2"]
    options = ["--recipe", "modern", "--crop", "32x32", "--batch", "8", "--workers", "0"]
    command = [*torchrun, "-m", "fcnkit.train", str(shapes_folder), "-o", str(run), *options]
    for number in (1, 2):  # and resumes
        done = subprocess.run(
            [*command, "--epochs", str(number), "--device", "cpu", "--resume"],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        *read, epoch, last = done.stdout.splitlines()
        assert read == ["read 16 examples", "read 4 examples of val"]
        assert epoch.startswith(f"epoch {number}: loss ")
        assert last.startswith(f"wrote {run}: best.pt")
        assert load_checkpoint(run / "last.pt").epoch == number


def test_one_gpu_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as caught, process_group("cuda:1"):
        pass
    assert str(caught.value) == (
        "--device: must leave the choice of GPUs to torchrun when several processes train, "
        "got cuda:1; use --device cuda"
    )
