"""The ablation: its table, and that runs are made once, go on, and are scored as eval scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ablation
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.train.backend import open_checkpoint
from fcnkit.train.data.voc import open_voc
from fcnkit.train.evaluation import measure
from fcnkit.train.models.foreign import register_factory

FACTORY = """
from torch import nn

def make(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4), nn.Conv2d(4, num_classes, 1))
"""


def run(row: str, seed: int, mean_iou: float) -> dict[str, Any]:
    return {
        "row": row,
        "seed": seed,
        "options": ["--seed", str(seed)],
        "epochs": 3,
        "seconds_per_image": 0.25,
        "looks_at_val": 1,
        "mean_iou": mean_iou,
        "pixel_accuracy": 0.9,
        "iou": {},
    }


def test_the_table_has_every_seed_the_mean_the_spread_and_the_gain() -> None:
    runs = [
        run("baseline", 1, 0.5),
        run("baseline", 2, 0.52),
        run("OHEM", 1, 0.53),
        run("OHEM", 2, 0.56),
        run("class mix", 2, 0.5),
    ]
    assert ablation.summary(runs) == (
        "| row | seed 1 | seed 2 | mean | spread | against baseline |\n"
        "|---|---|---|---|---|---|\n"
        "| baseline | 0.500 | 0.520 | 0.510 | 0.020 | - |\n"
        "| OHEM | 0.530 | 0.560 | 0.545 | 0.030 | +0.035 |\n"
        "| class mix | - | 0.500 | 0.500 | - | -0.020 |\n"
        "\n"
        "Runs: 5. Looks at `val`: 5. The spread is the largest mean IoU less the smallest, over "
        "the seeds. The last column is the mean over the seeds that both have."
    )
    assert ablation.cells(runs[0]) == {
        "row": "baseline",
        "seed": "1",
        "epochs": "3",
        "milliseconds_per_image": "250",
        "mean_iou": "0.5000",
        "pixel_accuracy": "0.9000",
        "looks_at_val": "1",
        "options": "--seed 1",
    }


def test_a_dearer_row_gets_fewer_steps(shapes_folder: Path, tmp_path: Path) -> None:
    plan = ablation.Plan(data=shapes_folder, runs=tmp_path, model="unet", steps=48)
    assert plan.epochs("baseline") == 12  # 16 images are 4 steps
    assert plan.epochs("no half-size epochs") == 8
    assert plan.options("OHEM", 7)[-10:] == [
        *("--loss", "ohem", "--model", "unet", "--seed", "7"),
        *("--epochs", "12", "--validate-every", "12"),
    ]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["ablation", *map(str, arguments)])
    ablation.main()


def test_runs_are_made_once_and_go_on(
    shapes_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "nets.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    command = [shapes_folder, runs, "--model", "nets:make", "--rows", "baseline", "class weights"]
    command += ["--seeds", "3", "--steps", "8"]
    # What a run that was stopped after its first epoch leaves.
    plan = ablation.Plan(data=shapes_folder, runs=runs, model="nets:make", steps=8)
    cut = [*plan.options("baseline", 3), "--epochs", "1"]
    program = [sys.executable, "-m", "fcnkit.train", shapes_folder, "-o", runs / "baseline-3"]
    subprocess.run([*map(str, program), *cut], check=True, stdout=subprocess.DEVNULL)
    [first] = (runs / "baseline-3" / "metrics.jsonl").read_text().splitlines()

    call(monkeypatch, *command)
    out = capsys.readouterr().out
    assert out.startswith("baseline, seed 3: mean IoU 0.")
    assert "| row | seed 3 | mean | spread | against baseline |" in out
    rows = [json.loads(file.read_text()) for file in sorted(runs.glob("*.json"))]
    assert [row["row"] for row in rows] == ["baseline", "class weights"]
    assert [row["epochs"] for row in rows] == [2, 2]
    assert (runs / "baseline-3" / "metrics.jsonl").read_text().splitlines()[0] == first
    assert not list(runs.glob("*/last.pt"))
    register_factory("nets:make")
    with Segmenter(open_checkpoint(runs / "class-weights-3" / "best.pt")) as segmenter:
        scores = measure(segmenter, open_voc(shapes_folder, split="val")).scores
    assert rows[1]["mean_iou"] == scores.mean_iou
    assert rows[1]["iou"] == scores.iou

    before = {file: file.stat().st_mtime_ns for file in runs.rglob("*")}
    call(monkeypatch, *command)
    assert capsys.readouterr().out == out
    assert {file: file.stat().st_mtime_ns for file in runs.rglob("*")} == before
    call(monkeypatch, shapes_folder, runs, "--table")
    assert capsys.readouterr().out == out.partition("\n")[2].partition("\n")[2]
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, *command, "--steps", "12")
    result = runs / "baseline-3.json"
    wanted = ablation.Plan(data=shapes_folder, runs=runs, model="nets:make", steps=12)
    assert caught.value.code == (
        f"{result} must be of {' '.join(wanted.options('baseline', 3))}, "
        f"got {' '.join(plan.options('baseline', 3))}; use other RUNS"
    )


def test_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, tmp_path, tmp_path / "runs", "--table")
    assert caught.value.code == (
        f"{tmp_path / 'runs'} must hold finished runs, got none; leave --table out"
    )
    with pytest.raises(SystemExit):
        call(monkeypatch, tmp_path, tmp_path / "runs", "--rows", "teacher")
    assert "error: the row teacher needs --teacher run/best.pt\n" in capsys.readouterr().err
