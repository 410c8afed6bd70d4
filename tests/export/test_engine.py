from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest

from fcnkit.errors import ArtifactError, FcnkitError, MissingExtraError
from fcnkit.export import engine as engine_module
from fcnkit.export.engine import build_engine
from fcnkit.runtime.engine_file import read_engine_file
from fcnkit.runtime.onnx_file import read_onnx_file

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


@pytest.mark.parametrize("head", ["logits", "labels", "scene"])
def test_builds_without_a_gpu(head: str, exported: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "m.engine"
    report = build_engine(exported[head], out, flavor="tensorrt-rtx", max_shape=(1, 512, 512))
    assert out.stat().st_size == report.bytes > 1_000_000
    assert not report.verified
    engine = read_engine_file(out)
    assert engine.spec.head == head
    assert engine.spec.shapes.max == (1, 512, 512)
    assert engine.spec.source.sha256 == hashlib.sha256(exported[head].read_bytes()).hexdigest()
    assert engine.flavor == "tensorrt-rtx"


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (
            {"min_shape": (1, 33, 32)},
            "--min: sides must be multiples of 32, got 1x33x32; use 1x64x32",
        ),
        (
            {"max_shape": (1, 512, 500)},
            "--max: sides must be multiples of 32, got 1x512x500; use 1x512x512",
        ),
        (
            {"max_shape": (99, 512, 512)},
            "--max: must lie within 1x32x32 to 16x2048x2048, got 99x512x512; "
            "the ONNX file takes no other shapes",
        ),
        (
            {"min_shape": (1, 64, 64), "opt_shape": (1, 32, 64)},
            "--min --opt --max: must be ordered min <= opt <= max in every dimension, "
            "got 1x64x64 1x32x64 16x1024x1024; reorder them",
        ),
    ],
)
def test_bad_profiles_are_refused_before_anything_is_built(
    shapes: dict[str, tuple[int, int, int]], text: str, exported: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="--") as caught:
        build_engine(exported["labels"], tmp_path / "m.engine", **shapes)
    assert str(caught.value) == text
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_the_library_cannot_parse(exported: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(exported["labels"])
    for node in model.graph.node:
        if node.op_type == "MaxPool":
            node.op_type = "Unheard"
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ArtifactError, match="must be able to parse the graph, got .*Unheard"):
        build_engine(tmp_path / "odd.onnx", tmp_path / "m.engine", flavor="tensorrt-rtx")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]


def test_a_file_without_a_spec(exported: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(exported["labels"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(ArtifactError, match=r"bare\.onnx"):
        build_engine(tmp_path / "bare.onnx", tmp_path / "m.engine")


def test_a_missing_library_names_its_extra(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engine_module._MODULES, "tensorrt", "tensorrt_that_is_not_there")
    with pytest.raises(MissingExtraError) as caught:
        build_engine(exported["labels"], tmp_path / "m.engine", flavor="tensorrt")
    assert str(caught.value) == (
        "fcnkit export engine: needs the package tensorrt_that_is_not_there, got no such package; "
        "pip install 'fcnkit[tensorrt]'"
    )


@pytest.mark.gpu
def test_ordinary_tensorrt_builds_on_a_gpu(exported: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt", reason="ordinary TensorRT is not installed")
    try:
        build_engine(exported["labels"], tmp_path / "m.engine", flavor="tensorrt")
    except FcnkitError as error:
        pytest.skip(f"no GPU that TensorRT can build for: {error}")
    assert read_onnx_file(exported["labels"]).spec(where="x").head == "labels"
