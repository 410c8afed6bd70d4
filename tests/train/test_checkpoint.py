from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

import fcnkit.train.checkpoint
from fcnkit.errors import ArtifactError
from fcnkit.train.checkpoint import load_checkpoint, load_model, save_checkpoint
from tests.refusal import refusal


def test_holds_spec_and_weights_and_loads_without_running_code(run_folder: Path) -> None:
    data = torch.load(run_folder / "best.pt", weights_only=True)
    assert set(data) == {"spec", "model", "resume", "epoch", "recipe", "scores"}
    net, checkpoint = load_model(run_folder / "best.pt")
    assert checkpoint.spec.architecture == "fcn32s-resnet18"
    assert checkpoint.spec.classes[0] == "background"
    assert checkpoint.resume is None
    assert not net.training
    assert load_checkpoint(run_folder / "last.pt").resume is not None


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        load_checkpoint(tmp_path / "no.pt")
    assert str(caught.value) == (
        f"{tmp_path}/no.pt: must be a checkpoint file, got no file; "
        "give a best.pt or last.pt of a run"
    )


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("evil"),)  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["truncated", "garbage", "empty", "code", "pickle"])
def test_broken_or_hostile_files_are_refused(kind: str, run_folder: Path, tmp_path: Path) -> None:
    whole = (run_folder / "best.pt").read_bytes()
    buffer = io.BytesIO()
    torch.save(Evil(), buffer)
    content = {
        "truncated": whole[: len(whole) // 2],
        "garbage": b"\x00\x01" * 500,
        "empty": b"",
        "code": buffer.getvalue(),
        "pickle": pickle.dumps(Evil()),
    }[kind]
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        load_checkpoint(path)
    start = f"{path}: must be a checkpoint that torch can read without running code, got "
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    assert not Path("evil").exists()


def test_other_torch_files_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "x.pt")
    with pytest.raises(ArtifactError) as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert str(caught.value) == (
        f"{tmp_path}/x.pt: a checkpoint holds epoch, model, recipe, resume, scores, spec, "
        "got ['weight']; give a best.pt or last.pt of a run"
    )


def test_weights_of_another_network_are_refused(run_folder: Path, tmp_path: Path) -> None:
    data = torch.load(run_folder / "best.pt", weights_only=True)
    del data["model"]["final_conv.bias"]
    torch.save(data, tmp_path / "x.pt")
    missing = 'Missing key(s) in state_dict: "final_conv.bias".'
    rule = f"{tmp_path}/x.pt: weights must fit fcn32s-resnet18"
    with refusal(ArtifactError, f"{rule}, got {missing}; use the file that was saved"):
        load_model(tmp_path / "x.pt")


def test_a_failed_write_leaves_the_file_that_was_there(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load_checkpoint(run_folder / "best.pt")
    path = tmp_path / "x.pt"
    save_checkpoint(path, checkpoint)
    before = path.read_bytes()

    def full_disk(data: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fcnkit.train.checkpoint.torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, checkpoint)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pt"]
