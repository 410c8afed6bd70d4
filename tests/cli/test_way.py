"""The way through as a shell sees it: train, eval, export, engine, info, predict, bench."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.shell import called, fcnkit, refused

TINY = ("--recipe", "modern", "--epochs", 1, "--crop", "64x64", "--batch", 8, "--workers", 0)


def test_the_whole_way(shapes_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = fcnkit("train", shapes_folder, "-o", run, *TINY)
    assert done.returncode == 0, done.stderr
    *read, epoch, last = done.stdout.splitlines()
    assert read == ["read 16 examples", "read 4 examples of val"]
    assert epoch.startswith("epoch 1: loss ")
    assert epoch.endswith(" images/s (best)")
    assert last.startswith(f"wrote {run}: best.pt")

    onnx, engine = tmp_path / "m.onnx", tmp_path / "m.engine"
    done = called("export", "onnx", run / "best.pt", "-o", onnx, "--head", "labels")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{onnx}: label agreement ")
    done = called("info", onnx)
    assert done.returncode == 0, done.stderr
    assert "32*h" in done.stdout
    assert "fcn32s-resnet18" in done.stdout

    # The exported model scores what the checkpoint scores.
    cover = ("--cover", "pad", "--json")
    scores = [
        json.loads(called("eval", model, shapes_folder, *cover).stdout)
        for model in (run / "best.pt", onnx)
    ]
    assert scores[0]["mean_iou"] == pytest.approx(scores[1]["mean_iou"], abs=1e-4)
    assert scores[0]["pictures"] == 4

    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    done = called("export", "engine", onnx, "-o", engine, "--max", "1x256x256")
    assert done.returncode == 0, done.stderr
    assert "the engine was built but not run" in done.stdout
    assert json.loads(called("info", engine, "--json").stdout)["spec"]["head"] == "labels"
    done = called("predict", engine, shapes_folder / "JPEGImages", "-o", tmp_path / "out")
    assert done.returncode == 0 or "a CUDA driver and a GPU are needed" in done.stderr


def test_predict_runs_a_checkpoint(run_folder: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((45, 70, 3), np.uint8)).save(tmp_path / "a.png")
    done = fcnkit("predict", run_folder / "best.pt", tmp_path / "a.png", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "a.png") as labels:
        assert (labels.mode, labels.size) == ("P", (70, 45))
    assert json.loads(called("info", run_folder / "best.pt", "--json").stdout)["epoch"] in (1, 2)


def test_another_network_starts_from_a_checkpoint(
    shapes_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    origin, run = run_folder / "best.pt", tmp_path / "run"
    model = ("--model", "unet-resnet18", "--init-from", origin, "--upsample-init", "xavier")
    done = called("train", shapes_folder, "-o", run, *TINY, *model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2] == (
        f"starts with 120 of 178 tensors from {origin} (fcn32s-resnet18); "
        "left at their initialization: decoder, transpose_conv"
    )
    info = json.loads(called("info", run / "best.pt", "--json").stdout)
    assert info["spec"]["architecture"] == "unet-resnet18"
    new = ("train", shapes_folder, "-o", tmp_path / "new", *TINY)
    for options, text in (
        (
            ("--model", "unet-resnet34", "--init-from", origin),
            f"{origin}: weights for unet-resnet34 must come from a network with the same backbone, "
            "got fcn32s-resnet18; use a network on resnet18",
        ),
        (
            ("--upsample-init", "magic"),
            "--upsample-init: must be one of bilinear, xavier, got magic; choose one of these",
        ),
    ):
        done = called(*new, *options)
        assert (done.returncode, done.stderr) == (2, f"error: {text}\n")
    assert not (tmp_path / "new").exists()


def test_bad_input_is_one_line_and_exit_code_2(
    shapes_folder: Path, run_folder: Path, exported: dict[str, Path], tmp_path: Path
) -> None:
    refused(
        called("train", tmp_path / "none", "-o", tmp_path / "run"),
        f"{tmp_path}/none: a data set is a folder, got no such folder; check the path",
    )
    refused(
        called("train", shapes_folder, "-o", tmp_path / "run", "--recipe", "magic"),
        "--recipe: must be one of d2l, modern, long, got magic; choose one of these",
    )
    refused(
        called("train", shapes_folder, "-o", tmp_path / "run", "--crop", "big"),
        "--crop: a size is written HxW, got 'big'; write 320x480",
    )
    refused(
        called("export", "onnx", tmp_path / "no.pt", "-o", tmp_path / "m.onnx"),
        f"{tmp_path}/no.pt: must be a checkpoint file, got no file; "
        "give a best.pt or last.pt of a run",
    )
    refused(
        called("export", "onnx", run_folder / "best.pt", "-o", tmp_path / "m.onnx", "--head", "x"),
        "--head: must be one of logits, scores, labels, scene, got x; choose one of these",
    )
    best = run_folder / "best.pt"
    refused(
        called("export", "onnx", best, "-o", tmp_path / "m.onnx", "--shape", "320x480"),
        "--shape: a shape is written NxHxW, got '320x480'; write 8x320x480",
    )
    engine = ("export", "engine", exported["labels"], "-o", tmp_path / "m.engine")
    refused(
        called(*engine, "--min", "1x33x32"),
        "--min: sides must be multiples of 32, got 1x33x32; use 1x64x32",
    )
    refused(
        called(*engine, "--opt", "320x480"),
        "--opt: a shape is written NxHxW, got '320x480'; write 8x320x480",
    )
    refused(
        called(*engine, "--flavor", "vanilla"),
        "--flavor: must be one of auto, tensorrt, tensorrt-rtx, got vanilla; choose one of these",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(shapes_folder: Path, tmp_path: Path) -> None:
    block = "import sys; sys.modules['torch'] = None\n"
    refused(
        fcnkit("train", shapes_folder, "-o", tmp_path / "run", before=block),
        "fcnkit train: needs the package torch, got no such package; pip install 'fcnkit[train]'",
    )
    block = "import sys; sys.modules['onnx'] = None\n"
    refused(
        fcnkit("export", "onnx", "x.pt", "-o", tmp_path / "m.onnx", before=block),
        "fcnkit export onnx: needs the package onnx, got no such package; "
        "pip install 'fcnkit[export]'",
    )


def test_other_classes_are_not_scored(exported: dict[str, Path], voc_subset: Path) -> None:
    done = called("eval", exported["labels"], voc_subset)
    assert done.returncode == 2
    assert "the data's classes must be the model's, background, circle" in done.stderr
