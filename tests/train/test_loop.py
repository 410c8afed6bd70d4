from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

import fcnkit
import fcnkit.train.loop
from fcnkit.errors import DataError, FcnkitError
from fcnkit.train.checkpoint import load_checkpoint
from fcnkit.train.data.masks import size_of
from fcnkit.train.data.voc import open_voc
from fcnkit.train.evaluation import evaluate
from fcnkit.train.loop import open_data, train
from fcnkit.train.models.upsample import bilinear_kernel
from fcnkit.train.recipe import RECIPES, Recipe, learning_rate
from fcnkit.train.weights import LoadedWeights, ModelOptions
from tests.refusal import refusal
from tests.train.tiny import train_tiny

TINY = replace(
    RECIPES["modern"], epochs=3, batch=8, crop=(64, 64), precision="fp32", scale=(1.0, 1.0)
)


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_a_run_leaves_what_it_promises(run_folder: Path, shapes_folder: Path) -> None:
    names = sorted(path.name for path in run_folder.iterdir())
    expected = ["best.pt", "curves.png", "last.pt", "metrics.jsonl", "samples", "samples.png"]
    assert names == expected + ["tensorboard"] * (find_spec("tensorboard") is not None)
    grids = sorted(path.name for path in (run_folder / "samples").iterdir())
    assert grids == ["0001.png", "0002.png"]
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    for key in ("loss", "pixel_accuracy", "mean_iou", "images_per_second", "iou"):
        assert key in rows[0]
    for name in ("curves.png", "samples.png"):
        with Image.open(run_folder / name) as picture:
            picture.load()
            assert min(picture.size) > 200
    # The score in the file is the score of the file.
    best = max(row["mean_iou"] for row in rows)
    (epoch,) = (row["epoch"] for row in rows if row["mean_iou"] == best)
    grid = run_folder / "samples" / f"{epoch:04}.png"
    assert grid.read_bytes() == (run_folder / "samples.png").read_bytes()
    with fcnkit.load(run_folder / "best.pt", cover="pad") as segmenter:
        scores = evaluate(segmenter, open_voc(shapes_folder, split="val"))
    assert scores.mean_iou == pytest.approx(best, abs=1e-6)


def test_one_training_at_a_time(shapes_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = "import sys; from pathlib import Path; from fcnkit.train.run_folder import hold_run\n"
    code += "with hold_run(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        rule = "one training at a time writes into a run folder"
        got, remedy = "a folder that another one holds", "wait for the other one, or choose another"
        with refusal(FcnkitError, f"{run}: {rule}, got {got}; {remedy} -o"):
            train_tiny(shapes_folder, run, TINY)
        other.kill()
    # What a kill leaves is held by nobody.
    train_tiny(shapes_folder, run, replace(TINY, epochs=1))
    assert not (run / ".lock").exists()


def test_validating_less_often_trains_the_same(shapes_folder: Path, tmp_path: Path) -> None:
    every = train_tiny(shapes_folder, tmp_path / "every", TINY)
    seldom = train_tiny(shapes_folder, tmp_path / "seldom", TINY, validate_every=2)
    assert [row["loss"] for row in seldom] == [row["loss"] for row in every]
    # Epoch 2, and 3 because it is the last.
    assert [row.get("mean_iou") for row in seldom] == [None, *(r["mean_iou"] for r in every[1:])]
    best = max(every[1:], key=lambda row: float(row["mean_iou"]))
    assert load_checkpoint(tmp_path / "seldom" / "best.pt").epoch == best["epoch"]
    longer = replace(TINY, epochs=4)
    train_tiny(shapes_folder, tmp_path / "seldom", longer, resume=True, validate_every=9)
    assert load_checkpoint(tmp_path / "seldom" / "last.pt").epoch == 4
    data = open_data(shapes_folder, TINY)
    with refusal(
        ValueError,
        f"--validate-every: must be 1..{2**31 - 1}, got 0; pass a value from 1 to {2**31 - 1}",
    ):
        train(data, tmp_path / "none", TINY, validate_every=0)
    with refusal(TypeError, "--workers: must be an integer, got str; pass an int"):
        train(data, tmp_path / "none", TINY, workers="2")  # type: ignore[arg-type]
    with refusal(TypeError, "train: recipe: must be of type Recipe, got one of type str; pass one"):
        train(data, tmp_path / "none", "modern")  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


def test_training_learns(shapes_folder: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, epochs=25, crop=(96, 96), flip=False)
    data = open_data(shapes_folder, recipe)
    rows = train(data, tmp_path / "run", recipe, workers=0, validate_every=25)
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    # Only background would score at most 1 / classes.
    folder = open_voc(shapes_folder, split="train")
    with fcnkit.load(tmp_path / "run" / "last.pt", cover="pad") as segmenter:
        scores = evaluate(segmenter, folder)
    assert scores.mean_iou > 2 / len(folder.classes)


def test_a_resumed_run_equals_an_uninterrupted_one(shapes_folder: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, half_size=0.4)  # The first epoch of three.
    train_tiny(shapes_folder, tmp_path / "whole", recipe)

    class Stop(Exception):
        pass

    def stop_in_epoch_3(epoch: int, step: int, steps: int) -> None:
        if epoch == 3:
            raise Stop

    with pytest.raises(Stop):
        train_tiny(shapes_folder, tmp_path / "cut", recipe, on_step=stop_in_epoch_3)
    assert len(losses(tmp_path / "cut")) == 2
    train_tiny(shapes_folder, tmp_path / "cut", recipe, resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    a, b = (torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("whole", "cut"))
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])


def test_chapter_recipe_counts_what_it_leaves_out(shapes_folder: Path) -> None:
    recipe = replace(RECIPES["d2l"], crop=(128, 160))
    data = open_data(shapes_folder, recipe)
    sizes = [size_of(sample.image) for sample in data.train.samples]
    kept = sum(height >= 128 and width >= 160 for height, width in sizes)
    assert 0 < kept < len(sizes)
    assert (len(data.samples), data.dropped) == (kept, len(sizes) - kept)
    with pytest.raises(DataError) as caught:
        open_data(shapes_folder, RECIPES["d2l"])
    assert str(caught.value) == (
        f"{shapes_folder}: some picture must be at least 320x480, got 16 smaller ones; "
        "use a smaller --crop, or leave it out"
    )


def test_learning_rate() -> None:
    recipe = replace(RECIPES["modern"], epochs=10, lr=1.0)
    rates = [learning_rate(recipe, step, 10) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a > b > 0 for a, b in pairwise(rates[5:]))
    assert learning_rate(RECIPES["d2l"], 3, 10) == 1e-3


def test_another_run_is_not_overwritten(run_folder: Path, shapes_folder: Path) -> None:
    data = open_data(shapes_folder, TINY)
    with pytest.raises(FcnkitError) as caught:
        train(data, run_folder, TINY, workers=0)
    assert str(caught.value) == (
        f"{run_folder}: the run folder must not hold another run, got last.pt; "
        "add --resume, or choose another -o"
    )


def test_another_recipe_does_not_resume(run_folder: Path, shapes_folder: Path) -> None:
    data = open_data(shapes_folder, TINY)
    with pytest.raises(FcnkitError) as caught:
        train(data, run_folder, TINY, workers=0, resume=True)
    assert str(caught.value) == (
        f"{run_folder}/last.pt: a resumed run keeps its recipe's crop, (96, 96), got (64, 64); "
        "use the same options or a new -o"
    )


def test_a_diverging_run_stops_and_keeps_the_last_good_checkpoint(
    shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def soar(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
        return 1e-3 if step < steps_per_epoch else 1e38

    monkeypatch.setattr(fcnkit.train.loop, "learning_rate", soar)
    with pytest.raises(FcnkitError) as caught:
        train_tiny(shapes_folder, run, replace(TINY, optimizer="sgd"))
    text = str(caught.value)
    assert text in [
        f"training: the loss of epoch 2, step 2 must be finite, got {value}; "
        "lower --lr; last.pt, if there is one, holds the epoch before"
        for value in ("nan", "inf")
    ]
    for name in ("best.pt", "last.pt"):
        checkpoint = load_checkpoint(run / name)
        assert checkpoint.epoch == 1
        assert all(value.isfinite().all() for value in checkpoint.model.values())
    assert len(losses(run)) == 1


@pytest.mark.parametrize(
    ("rate", "rule"),
    [
        (float("inf"), "the weights after epoch 1 must be finite, got others"),
        (1e20, "the logits on val after epoch 1 must be finite, got NaN"),
    ],
)
def test_what_diverged_in_the_last_step_is_not_saved(
    rate: float, rule: str, shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TINY, optimizer="sgd", batch=16)
    monkeypatch.setattr(fcnkit.train.loop, "learning_rate", lambda *_: rate)
    remedy = "lower --lr; last.pt, if there is one, holds the epoch before"
    with refusal(FcnkitError, f"training: {rule}; {remedy}"):
        train_tiny(shapes_folder, tmp_path / "run", recipe)
    assert list((tmp_path / "run").glob("*.pt")) == []


def test_a_compiled_step_trains_alike(shapes_folder: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, epochs=1)
    plain = train_tiny(shapes_folder, tmp_path / "plain", recipe)
    compiled = train_tiny(shapes_folder, tmp_path / "compiled", recipe, compiled=True)
    assert compiled[0]["loss"] == pytest.approx(plain[0]["loss"], rel=1e-3)


def test_a_device_that_is_not_there_is_refused(shapes_folder: Path, tmp_path: Path) -> None:
    data = open_data(shapes_folder, TINY)
    with pytest.raises(FcnkitError) as caught:
        train(data, tmp_path / "run", TINY, device="cuda:99")
    count = torch.cuda.device_count()
    assert str(caught.value) == (
        f"--device: cuda:99 must be a GPU that torch sees, got {count} GPUs; use --device cpu"
    )
    with pytest.raises(ValueError, match="is auto, cpu, cuda or cuda:N, got tpu"):
        train(data, tmp_path / "run", TINY, device="tpu")


def test_a_run_starts_from_another_and_resumes_without_it(
    run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    origin = tmp_path / "origin.pt"
    origin.write_bytes((run_folder / "best.pt").read_bytes())
    model = ModelOptions(architecture="fcn8s-resnet18", init_from=origin, freeze_upsample=True)
    recipe = replace(TINY, epochs=1)
    data = open_data(shapes_folder, recipe)
    reports: list[LoadedWeights] = []
    train(data, tmp_path / "run", recipe, model=model, workers=0, on_weights=reports.append)
    assert [report.architecture for report in reports] == ["fcn32s-resnet18"]
    # What is frozen did not move, and the rest did.
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
    classes = len(last["final_conv.bias"])
    assert torch.equal(last["transpose_conv.weight"], bilinear_kernel(classes, 16))
    theirs = torch.load(origin, weights_only=True)["model"]
    assert not torch.equal(last["final_conv.weight"], theirs["final_conv.weight"])
    origin.unlink()
    more = replace(recipe, epochs=2)
    rows = train(
        data,
        tmp_path / "run",
        more,
        model=model,
        workers=0,
        resume=True,
        on_weights=reports.append,
    )
    assert [row["epoch"] for row in rows] == [1, 2]
    assert len(reports) == 1


def test_a_refused_model_leaves_no_folder(shapes_folder: Path, tmp_path: Path) -> None:
    data = open_data(shapes_folder, TINY)
    for model in (ModelOptions(architecture="vgg"), ModelOptions(init_from=tmp_path / "no.pt")):
        with pytest.raises(ValueError):
            train(data, tmp_path / "run", TINY, model=model, workers=0)
    assert list(tmp_path.iterdir()) == []
