"""The first minutes of a newcomer: the commands with their defaults, one after the other."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from typer.testing import CliRunner

from fcnkit.cli import app
from tests.cli.shell import called, refused
from tests.train.test_crop import voc_folder

NO_GPU = "a CUDA driver and a GPU are needed"


def ran(*arguments: object) -> CompletedProcess[str]:
    done = called(*arguments)
    assert done.returncode == 0, done.stderr
    return done


def said_next(done: CompletedProcess[str], *, where: str = "") -> list[str]:
    """Return the arguments of the command that the last line names."""
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"next{where}: fcnkit ")
    return shlex.split(last)[len(f"next{where}: fcnkit".split()) :]


def test_every_command_works_with_its_defaults_after_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ran("data", "shapes", "my shapes", "--train", 8, "--val", 2)
    train = ["train", "my shapes", "-o", "run"]
    assert said_next(done) == train
    assert said_next(ran("data", "check", "my shapes")) == train

    done = ran(*train, "--epochs", 1)
    lines = done.stdout.splitlines()
    assert re.fullmatch(
        r"crop \d+x\d+: 8 of 8 pictures are smaller than the recipe's 320x480; pictures smaller "
        r"than the crop are padded; choose another with --crop",
        lines[0],
    )
    assert lines[1:3] == ["read 8 examples", "read 2 examples of val"]
    export = said_next(done)
    assert export == ["export", "onnx", "run/best.pt", "-o", "run/model.onnx"]
    assert said_next(ran("eval", "run/best.pt", "my shapes")) == export
    ran(*train, "--epochs", 2, "--resume")

    predict = said_next(ran(*export))
    assert predict == ["predict", "run/model.onnx", "PICTURES", "-o", "labels"]
    predict[2] = "my shapes/JPEGImages"
    assert ran(*predict).stdout.startswith("10 done, 0 failed ")
    assert len(list(Path("labels").glob("*.png"))) == 10
    ran("verify", "run/best.pt", "run/model.onnx")
    assert "next" not in ran("eval", "run/model.onnx", "my shapes").stderr
    ran("bench", "latency", "run/model.onnx", "--runs", 5)
    ran("bench", "throughput", "run/model.onnx", "my shapes/JPEGImages")
    ran("export", "onnx", "run/best.pt", "-o", "run/labels.onnx", "--head", "labels")
    ran("export", "triton", "run/labels.onnx", "-o", "repository")
    ran("info", "run/best.pt")
    ran("info", "run/model.onnx")
    ran("doctor")


def test_an_engine_with_the_defaults(
    exported: dict[str, Path], shapes_folder: Path, tmp_path: Path
) -> None:
    """Where no GPU is, what needs one says so and nothing else."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    engine = tmp_path / "model.engine"
    done = ran("export", "engine", exported["logits"], "-o", engine)
    if "so it is not verified" in done.stdout:
        following = said_next(done, where=" on a machine with its GPU")
        assert following == ["verify", str(exported["logits"]), str(engine)]
    else:
        following = said_next(done)
        assert following == ["bench", "latency", str(engine)]
    ran("info", engine)
    for command in (
        following,
        ["eval", engine, shapes_folder],
        ["predict", engine, shapes_folder / "JPEGImages", "-o", tmp_path / "labels"],
        ["bench", "latency", engine, "--runs", 5],
        ["bench", "throughput", engine, shapes_folder / "JPEGImages"],
    ):
        done = called(*command)
        assert done.returncode == 0 or NO_GPU in done.stderr, done.stderr


@pytest.mark.parametrize("recipe", ["d2l", "modern"])
def test_a_folder_of_tiny_pictures_trains(recipe: str, tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", [(9, 30), (12, 40)])
    options = ("--recipe", recipe, "--epochs", 1, "--workers", 0)
    done = ran("train", data, "-o", tmp_path / "run", *options)
    assert done.stdout.splitlines()[:2] == [
        "crop 64x64: 2 of 2 pictures are smaller than the recipe's 320x480; pictures smaller than "
        "the crop are padded; choose another with --crop",
        "read 2 examples",
    ]


def test_a_crop_that_is_given_is_kept(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", [(70, 100), (64, 96), (40, 40)])
    run = tmp_path / "run"
    options = ("--epochs", 1, "--workers", 0)
    done = ran("train", data, "-o", run, *options, "--crop", "64x96")
    assert done.stdout.splitlines()[0] == "read 2 examples, left out 1 smaller than the crop"
    done = ran("train", data, "-o", run, *options, "--resume")
    assert done.stdout.splitlines()[:2] == [
        "crop 64x96, as the run began",
        "read 2 examples, left out 1 smaller than the crop",
    ]


def test_json_says_nothing_more(shapes_folder: Path, run_folder: Path) -> None:
    for command in (
        ["data", "check", shapes_folder],
        ["eval", run_folder / "best.pt", shapes_folder],
    ):
        assert "next" not in ran(*command, "--json").stderr


def test_the_help_lists_the_verbs_in_the_order_of_their_use() -> None:
    shown = CliRunner().invoke(app, [], env={"COLUMNS": "100"}).stdout
    verbs = re.findall(r"^│ ([a-z]+) ", shown, re.MULTILINE)
    assert verbs == [
        "data", "train", "eval", "adopt", "export", "verify", "predict", "manifest", "bench",
        "info", "doctor",
    ]  # fmt: skip
    steps = re.findall(r"^ fcnkit (.*?) *$", shown, re.MULTILINE)
    assert [step.split()[0] for step in steps] == ["data", "train", "export", "predict"]


def test_the_remedy_for_a_crop_that_is_too_large_works(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", [(70, 100), (64, 96)])
    options = ("-o", tmp_path / "run", "--epochs", 1, "--workers", 0)
    refused(
        called("train", data, *options, "--crop", "96x96"),
        f"{data}: some picture must be at least 96x96, got 2 smaller ones; "
        "use a smaller --crop, or leave it out",
    )
    for remedy in (("--crop", "64x96"), ()):
        ran("train", data, *options, *remedy, "--resume")
