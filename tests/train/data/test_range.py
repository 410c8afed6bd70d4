"""``--range`` from the data set through training to what the checkpoint says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fcnkit.cli import app
from fcnkit.errors import PictureWarning
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.train.checkpoint import checkpoint_spec
from fcnkit.train.data.check import check_folder
from fcnkit.train.data.voc import open_voc, read_pair
from fcnkit.train.loop import open_data
from fcnkit.train.recipe import RECIPES
from tests.train.folders import empty_folder


def spec_with(range: tuple[int, int] | None) -> ModelSpec:
    """The spec of a model that was trained with a range."""
    return checkpoint_spec("fcn32s-resnet18", ("a", "b"), ((0, 0, 0), (1, 1, 1)), range=range)


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A data set of 12-bit values in 16-bit files."""
    root = tmp_path / "data"
    empty_folder(root, "background:0,0,0::\nred:255,0,0::\n")
    for split in ("train", "val"):
        values = np.random.default_rng(len(split)).integers(0, 4096, (40, 50), np.uint16)
        values[0, 0] = 4095
        Image.fromarray(values).save(root / "JPEGImages" / f"{split}1.png")
        mask = Image.new("L", (50, 40))
        mask.paste(1, (0, 0, 20, 20))
        mask.save(root / "SegmentationClass" / f"{split}1.png")
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text(f"{split}1\n")
    return root


def test_data_check_names_the_range(deep: Path) -> None:
    done = CliRunner().invoke(app, ["data", "check", str(deep)])
    assert done.exit_code == 0
    picture = deep / "JPEGImages" / "train1.png"
    lines = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert lines[0] == (
        f"warning: {picture}: values of more than 8 bits are read as 0..65535, "
        "got none above 4095; if 4095 means white, say so with --range 0..4095"
    )
    done = CliRunner().invoke(app, ["data", "check", str(deep), "--range", "0..1000"])
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("train: 1 pictures of")]
    raw = np.asarray(Image.open(picture))
    assert line == (
        f"train: 1 pictures of more than 8 bits, values {raw.min()}..4095, read as 0..1000, "
        f"{int((raw > 1000).sum())} values outside"
    )
    assert "warning" not in done.stdout


def test_check_folder_reports_the_values(deep: Path) -> None:
    report = check_folder(deep, range=(0, 4095)).to_dict()
    values = report["splits"]["train"]["deep"]
    assert (values["pictures"], values["high"], values["outside"]) == (1, 4095, 0)
    assert (values["used"], values["warning"]) == ((0, 4095), None)


def test_training_reads_and_keeps_the_range(deep: Path) -> None:
    recipe = RECIPES["modern"]
    with pytest.warns(PictureWarning, match="if 4095 means white, add --range 0..4095$"):
        plain = open_data(deep, recipe)
    scaled = open_data(deep, recipe, range=(0, 4095))
    raw = np.asarray(Image.open(scaled.samples[0].image)).astype(float)
    image_hwc, _ = read_pair(scaled.samples[0], scaled.train.labelmap)
    assert np.array_equal(image_hwc[..., 0], np.rint(raw * 255 / 4095))
    assert read_pair(plain.samples[0], plain.train.labelmap)[0].max() == 15
    assert scaled.val.range == scaled.train.range == (0, 4095)
    spec = checkpoint_spec(
        "fcn32s-resnet18", ("a", "b"), ((0, 0, 0), (9, 9, 9)), range=scaled.train.range
    )
    assert spec.range == (0, 4095)


def test_under_torchrun_the_first_process_warns(
    deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    open_data(deep, RECIPES["modern"])  # a warning fails the test
    monkeypatch.setenv("RANK", "0")
    with pytest.warns(PictureWarning, match="add --range 0..4095$"):
        open_data(deep, RECIPES["modern"])


def test_a_split_on_the_models_scale(deep: Path) -> None:
    folder = open_voc(deep, split="val").seen_by(spec_with((0, 4095)))
    assert {sample.range for sample in folder.samples} == {(0, 4095)}
    assert folder.seen_by(spec_with(None)) == open_voc(deep, split="val")


@pytest.mark.parametrize("text", ["4095", "0-4095", "a..b", "0..1..2", "..", "-1..5"])
def test_a_malformed_range(deep: Path, text: str) -> None:
    done = CliRunner().invoke(app, ["data", "check", str(deep), f"--range={text}"])
    assert str(done.exception) == (
        f"--range: a range of values is written LOW..HIGH, got '{text}'; write 0..4095"
    )
