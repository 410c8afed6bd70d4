"""Warnings about model files and images: one ``warning:`` line each, however often they occur."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.shell import fcnkit
from tests.runtime.models import make_spec, write_model

UNKNOWN = (
    "its graph and spec must be those that were exported to keep the parity, got a file without "
    "their hash; the parity is taken as unknown, compare it again with fcnkit verify"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that says it was compared, without the hash of what was compared."""
    return write_model(tmp_path / "m.onnx", make_spec("labels").with_parity("all the same"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Images of 12 bits in files of 16."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 4096, (40, 50), np.uint16)
        values[0, 0] = 4095
        Image.fromarray(values).save(folder / f"{number}.png")
    return folder


def said(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if "arning" in line]


def doubt(picture: Path, remedy: str) -> str:
    return (
        f"warning: {picture}: values of more than 8 bits are read as 0..65535, got none above "
        f"4095; if 4095 means white, {remedy}"
    )


def test_predict_names_the_model_and_the_first_image(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    done = fcnkit("predict", model, pictures, "-o", tmp_path / "out", "--threads", 1)
    assert done.returncode == 0, done.stderr
    about_model, about_picture = said(done.stderr)
    assert about_model == f"warning: {model}: {UNKNOWN}"
    assert about_picture in [
        doubt(pictures / f"{number}.png", "train with --range 0..4095") for number in range(3)
    ]


def test_several_streams_and_rounds_say_it_once(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    arguments = ("--streams", 2, "--rounds", 2, "--threads", 1, "--no-plots", "--json")
    done = fcnkit("bench", "throughput", model, pictures, *arguments)
    assert done.returncode == 0, done.stderr
    lines = said(done.stderr)
    assert lines.count(f"warning: {model}: {UNKNOWN}") == 1
    assert len(lines) == len(set(lines))
    assert all(line.startswith("warning: ") for line in lines)


@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "openvino"])
def test_python_shows_a_warning_about_a_model_once(model: Path, backend: str) -> None:
    """A file is read several times while it is opened."""
    code = (
        "import sys, fcnkit\n"
        "for _ in range(2):\n"
        "    fcnkit.load(sys.argv[1], backend=sys.argv[2], threads=1).close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model), backend],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count(f"ModelWarning: {model}: {UNKNOWN}\n") == 1
    assert done.stderr.count("ModelWarning: ") == 1


def test_filters_of_the_user_win(model: Path) -> None:
    code = "import sys, fcnkit; fcnkit.load(sys.argv[1], backend='openvino').close()"
    command = [sys.executable, "-W", "ignore", "-c", code, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
