"""Weights in a format that cannot hold code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fcnkit
from fcnkit.errors import ArtifactError
from fcnkit.train.checkpoint import load_checkpoint, load_model, save_weights
from fcnkit.train.description import describe_checkpoint
from fcnkit.train.models import create_model
from fcnkit.train.safetensors_file import to_bytes
from fcnkit.train.weights import load_weights
from tests.refusal import refusal


@pytest.fixture(scope="module")
def weights(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    save_weights(path, load_checkpoint(run_folder / "best.pt"))
    return path


def test_labels_are_those_of_the_checkpoint(weights: Path, run_folder: Path) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (70, 90, 3), np.uint8)
    with fcnkit.load(weights) as one, fcnkit.load(run_folder / "best.pt") as other:
        assert np.array_equal(one(picture), other(picture))
        assert one.spec == other.spec
    facts = describe_checkpoint(weights)
    assert facts["kind"] == "weights"
    assert "recipe" not in facts


def test_a_training_starts_from_it(weights: Path) -> None:
    classes = load_model(weights)[1].spec.num_classes
    net = create_model("fcn32s-resnet18", classes)
    taken = load_weights(net, "fcn32s-resnet18", weights)
    assert taken.left == ()
    expected = load_model(weights)[0].state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in net.state_dict().items())


def test_a_file_without_a_spec_is_the_chapters_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(to_bytes({"a": torch.zeros(2)}, {}))
    text = (
        f"{path}: a model needs a spec (fcnkit.spec) in the file's metadata, got none; "
        "write it with fcnkit.train.checkpoint.save_weights"
    )
    with refusal(ArtifactError, text):
        load_model(path)
    with pytest.raises(ArtifactError):
        load_weights(create_model("fcn32s-resnet18", 2), "fcn32s-resnet18", path)
