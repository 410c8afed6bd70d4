"""What ``describe`` says of model files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from fcnkit.errors import ArtifactError
from fcnkit.runtime.describe import describe
from fcnkit.runtime.files import sha256_of
from tests.refusal import refusal
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
        "spec": asdict(make_spec("logits")),
    }


def test_an_engine_and_its_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    text = f"{path}: must be a model file, got no such file; check the path"
    with refusal(ArtifactError, text):
        describe(path)
    path.write_bytes(b"plan")
    sidecar = tmp_path / "m.engine.json"
    needs = f"{sidecar}: an engine needs its sidecar with a spec beside it, got"
    remedy = "build the engine again with fcnkit export engine"
    with refusal(ArtifactError, f"{needs} no such file; {remedy}"):
        describe(path)
    sidecar.write_text("[1]")
    with refusal(ArtifactError, f"{needs} no key spec; {remedy}"):
        describe(path)
    sidecar.write_text("{")
    got = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    with refusal(ArtifactError, f"{needs} {got}; {remedy}"):
        describe(path)
    spec = make_spec("labels")
    held = {"spec": asdict(spec), "flavor": "tensorrt-rtx"}
    sidecar.write_text(json.dumps(held))
    assert describe(path) == {
        "path": str(path),
        "kind": "engine",
        "bytes": 4,
        "sha256": sha256_of(path),
        "spec": asdict(spec),
        "flavor": "tensorrt-rtx",
    }
    sidecar.write_text(json.dumps({**held, "plan_sha256": sha256_of(path)}))
    assert describe(path)["plan_sha256"] == describe(path)["sha256"]
    sidecar.write_text(json.dumps({**held, "plan_sha256": "0" * 64}))
    text = (
        f"{sidecar}: must be the sidecar of the engine beside it, got one of an engine with "
        f"sha256 {'0' * 64}; {remedy}"
    )
    with refusal(ArtifactError, text):
        describe(path)
    sidecar.write_text(json.dumps({**held, "spec": {**asdict(spec), "extra": 1}}))
    text = (
        f"{sidecar}: spec key extra: is not a key of this format, got 1; "
        "export the model again with fcnkit export"
    )
    with refusal(ArtifactError, text):
        describe(path)
