from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import training_parts
from benchmarks.training import CLASSES, chapter_net
from fcnkit.train.models import create_model
from fcnkit.train.recipe import RECIPES

PEERS = {"ours-given-back", "chapter", "chapter-bf16", "chapter-like"}
ROOT = Path(__file__).parents[2]


def test_the_contenders_compute_the_same() -> None:
    torch.manual_seed(0)
    ours, chapter = create_model("fcn32s-resnet18", CLASSES).eval(), chapter_net().eval()
    weights = list(ours.state_dict().values())
    keys = list(chapter.state_dict())
    assert len(keys) == len(weights)
    chapter.load_state_dict(dict(zip(keys, weights, strict=True)))
    x = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(ours(x), chapter(x), rtol=1e-4, atol=1e-4)


def test_it_runs_and_says_what_it_measured(tmp_path: Path) -> None:
    options = ["--size", "32x64", "--batch", "2", "--rounds", "1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", *options, "--json", tmp_path / "x.json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("training step of FCN-32s/ResNet-18, 2x32x64, cpu (")
    result = json.loads((tmp_path / "x.json").read_text())
    assert set(result["median_seconds"]) == {"ours", *PEERS}
    assert set(result["ours_faster_than"]) == PEERS
    assert result["threads"] == torch.get_num_threads()


def test_the_parts_of_a_step_add_up(
    shapes_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_parts, "SIDE", 64)
    options = ["ddrnet23slim", "--size", "64x64", "--batch", "2", "--rounds", "1"]
    options += ["--data", str(shapes_folder)]
    monkeypatch.setattr("sys.argv", ["training_parts", *options])
    training_parts.main()
    out = capsys.readouterr().out
    assert re.match("steps of 2x64x64 in (fp32|bf16), ", out)
    row = r"^\| ddrnet23slim \| \d+ \| \d+\.\d \| \d+ \| -?\d+ % \| \d+\.\d % \|$"
    assert re.search(row, out, re.M)
    note = r"^An image takes \d+\.\d ms to read and decode, and -?\d+\.\d ms to augment, in one "
    assert re.search(note, out, re.M)


def test_the_work_of_a_step_is_that_of_its_convolutions() -> None:
    recipe = replace(RECIPES["modern"], batch=2, precision="fp32")
    [step] = training_parts.steps_of(("fcn32s-resnet18",), recipe, (64, 64), rounds=1, rate=1000.0)
    with torch.device("meta"):
        net = create_model("fcn32s-resnet18", training_parts.CLASSES)
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(2, 3, 64, 64))
    forward = counter.get_total_flops() / 2e9
    # Backward computes as much again for the weights and for the inputs, but not for the image.
    assert 2.8 * forward < step.gmac < 3.1 * forward
    assert step.full_speed_seconds == step.gmac / 1000
    part = training_parts.Step(network="x", seconds=2.0, gmac=1.0, full_speed_seconds=0.5)
    assert part.rest == 0.75
