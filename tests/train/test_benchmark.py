from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.training import CLASSES, chapter_net
from fcnkit.train.models import create_model

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
