"""What ``describe`` says of model files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fcnkit.errors import ArtifactError
from fcnkit.runtime.artifacts.description import describe
from fcnkit.runtime.files import sha256_of
from tests.refusal import refusal
from tests.runtime.engines import make_sidecar, rtx_plan, write_engine
from tests.runtime.models import OPSET, make_spec, write_model


def test_an_onnx_file(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("logits"))
    assert describe(path) == {
        "path": str(path),
        "kind": "onnx",
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "opset": OPSET,
        "inputs": [{"name": "image", "dtype": "float32", "dims": ["N", 3, "32*h", "32*w"]}],
        "outputs": [{"name": "logits", "dtype": "float32", "dims": ["N", 4, "32*h", "32*w"]}],
        "as_exported": False,
        "spec": asdict(make_spec("logits")),
    }


def test_an_engine_and_its_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    text = f"{path}: must be an engine file, got no such file; check the path"
    with refusal(ArtifactError, text):
        describe(path)
    plan = rtx_plan()
    sidecar = make_sidecar(plan)
    held = write_engine(path, plan, sidecar)
    assert describe(path) == {
        "path": str(path),
        "kind": "engine",
        "bytes": len(plan),
        "sha256": sha256_of(path),
        **held,
        "spec": asdict(sidecar.spec),
    }
