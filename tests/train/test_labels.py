"""What training and measuring say of labels that teach or tell nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.train.checkpoint import load_checkpoint
from fcnkit.train.data.remarks import about_run, count_labels
from fcnkit.train.data.voc import open_voc
from fcnkit.train.evaluation import Measure, Protocol
from fcnkit.train.loop import open_data
from fcnkit.train.recipe import RECIPES
from tests.cli.shell import called
from tests.refusal import refusal
from tests.train.data.sets import Drawing, labels_of, list_names, names_of

OPTIONS = ["--crop", "32x32", "--batch", 4, "--workers", 0, "--epochs", 1, "--device", "cpu"]


def write(root: Path, *classes: str) -> Path:
    return Drawing(classes=classes, size=(40, 48), border=4, mode="L").write(root)


def said(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith(("note: ", "warning: "))]


def test_one_class_in_val_is_never_a_success(tmp_path: Path) -> None:
    root, run = write(tmp_path / "d", "background", "crack"), tmp_path / "run"
    for split in ("train", "val"):
        for name in names_of(root, split):
            labels = np.where(labels_of(root, name) == 0, 0, 255).astype(np.uint8)
            Image.fromarray(labels).save(root / f"SegmentationClass/{name}.png")
    done = called("train", root, "-o", run, "--recipe", "modern", *OPTIONS)
    assert done.returncode == 0, done.stderr
    (warning,) = said(done.stderr)
    assert warning.startswith(
        f"warning: {root}: train: every class should have pixels to be learned, got none of "
        "crack, only background, while "
    )
    (epoch,) = (line for line in done.stdout.splitlines() if line.startswith("epoch 1: "))
    assert epoch.endswith(" images/s (not scored: val shows only one class)")
    assert not any(word in epoch for word in ("IoU", "pixel accuracy", "best"))
    (row,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert row["without_truth"] == ["crack"]


def test_void_is_ignored_where_class_0_is_no_background(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "leaf", "stem")
    done = called("train", root, "-o", tmp_path / "run", "--recipe", "d2l", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert said(done.stderr) == [
        "note: void is ignored, not trained as class 0: class 0 is leaf, not background"
    ]
    assert not load_checkpoint(tmp_path / "run/last.pt").recipe.void_as_background
    assert " (best)" in done.stdout
    folder = open_voc(root, split="val")
    protocol = Protocol.of_the_chapter(crop=(32, 32), seed=3)
    assert 255 in protocol.read(folder.samples[0], folder)[1]
    assert protocol.note(folder) == (
        "d2l protocol: random crops, void ignored since class 0 is leaf and not background, "
        "smaller pictures left out; not comparable with scores on full pictures, nor with other "
        "seeds (seed 3)"
    )


def test_healthy_labels_are_trained_in_silence(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "background", "crack")
    done = called("train", root, "-o", tmp_path / "run", "--recipe", "d2l", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert said(done.stderr) == []
    assert load_checkpoint(tmp_path / "run/last.pt").recipe.void_as_background


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_of_void_alone_are_refused_before_training(tmp_path: Path, split: str) -> None:
    root = write(tmp_path / "d", "background", "crack")
    names = names_of(root, split)
    for name in names:
        Image.new("L", (48, 40), 255).save(root / f"SegmentationClass/{name}.png")
    text = f"{root}: {split}: some pixel must be labeled, got {len(names)} masks with only void; "
    with refusal(DataError, text + "save the labels 0..1, because 255 is void"):
        open_data(root, RECIPES["modern"])


def test_train_and_val_that_share_pictures_are_warned_of(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "background", "crack")
    list_names(root, "val", ["train0", "val0", "train2"])
    train, val = (open_voc(root, split=split) for split in ("train", "val"))
    found = about_run(train, train.samples, val)
    assert [remark.text for remark in found.warnings] == [
        f"{root}/ImageSets/Segmentation: train.txt and val.txt must share no picture, or scores "
        "come out too good, got 2 in both (train0, train2); take them off one list"
    ]
    assert found.notes == ()


def test_masks_are_read_until_every_class_was_seen(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "background", "crack")
    folder = open_voc(root, split="train")
    for sample in folder.samples[1:]:
        sample.mask.unlink()  # would be an error if it were read
    counts = count_labels(folder.samples, folder.labelmap)
    labels = labels_of(root, "train0")
    assert [counts[label] for label in (0, 1, 255)] == [
        int((labels == label).sum()) for label in (0, 1, 255)
    ]


def test_a_measure_names_the_classes_without_truth() -> None:
    def measure(matrix: list[list[int]]) -> Measure:
        confusion = np.array(matrix, np.int64)
        classes = ("a", "b", "c")
        return Measure(classes=classes, confusion=confusion, pictures=(), protocol=Protocol())

    # b was predicted and is in no mask: it counts with 0. c is in neither and does not count.
    one = measure([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert (one.without_truth, one.tells) == (("b", "c"), False)
    assert one.scores.mean_iou == (3 / 4 + 0) / 2
    two = measure([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    assert (two.without_truth, two.tells) == (("c",), True)
    assert two.scores.mean_iou == (3 / 4 + 2 / 3) / 2
