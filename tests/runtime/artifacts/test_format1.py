"""Files that fcnkit 0.1 wrote before the spec's format 2, one of each kind, stay readable.

tests/corpus/format1 was written once by the version of that time: a model of one convolution, an
engine's sidecar beside a plan that holds a header alone, and weights that are all zero.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

import fcnkit
from fcnkit.runtime import describe
from fcnkit.runtime.artifacts.engine_file import read_engine_file
from fcnkit.runtime.artifacts.spec import FORMAT, OPTIONAL_PARTS
from fcnkit.train import load_model
from fcnkit.train.description import describe_checkpoint

FOLDER = Path(__file__).parents[2] / "corpus" / "format1"


def test_an_onnx_file_runs() -> None:
    spec = describe(FOLDER / "labels.onnx")["spec"]
    assert spec["format"] == FORMAT
    assert {part: spec[part] for part in OPTIONAL_PARTS} == dict.fromkeys(OPTIONAL_PARTS)
    with fcnkit.load(FOLDER / "labels.onnx", backend="onnxruntime") as segmenter:
        labels_hw = segmenter(np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8))
    assert labels_hw.shape == (40, 50)
    assert len(np.unique(labels_hw)) > 1


def test_an_engine_and_its_sidecar_are_read() -> None:
    sidecar = json.loads((FOLDER / "model.engine.json").read_text(encoding="utf-8"))
    assert sidecar["spec"]["format"] == 1
    assert read_engine_file(FOLDER / "model.engine").spec.format == FORMAT


@pytest.mark.parametrize("name", ["best.pt", "best.safetensors"])
def test_checkpoints_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(lzma.decompress((FOLDER / f"{name}.xz").read_bytes()))
    assert describe_checkpoint(path)["spec"]["format"] == FORMAT
    net, read = load_model(path)
    assert read.spec.classes == ("background", "a", "b")
    assert all(not tensor.any() for tensor in net.state_dict().values())
