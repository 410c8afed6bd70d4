"""Triton repositories, read with the server's own protobuf classes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fcnkit.errors import ArtifactError
from fcnkit.export.triton import write_triton_repository
from fcnkit.runtime.artifacts.engine_file import BuilderOptions, read_engine_file
from fcnkit.runtime.artifacts.spec import Head, ShapeRange
from tests.refusal import refusal
from tests.runtime.engines import PROFILES, make_sidecar, rtx_plan, write_engine
from tests.runtime.models import CLASSES, make_spec, write_model


def parsed(folder: Path) -> Any:
    """The configuration as Triton's own classes read it."""
    proto = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="no tritonclient")
    from google.protobuf import text_format

    text = (folder / "config.pbtxt").read_text("utf-8")
    return text_format.Parse(text, proto.ModelConfig()), proto


def tensor(entry: Any, proto: Any) -> tuple[str, str, list[int]]:
    return entry.name, proto.DataType.Name(entry.data_type), list(entry.dims)


@pytest.mark.parametrize(
    ("head", "image", "result"),
    [
        (
            "logits",
            ("image", "TYPE_FP32", [3, -1, -1]),
            ("logits", "TYPE_FP32", [len(CLASSES), -1, -1]),
        ),
        ("labels", ("image", "TYPE_UINT8", [-1, -1, 3]), ("labels", "TYPE_UINT8", [-1, -1])),
    ],
)
def test_a_model_that_takes_batches(
    head: Head, image: tuple[Any, ...], result: tuple[Any, ...], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec(head))
    report = write_triton_repository(model, tmp_path / "repo", instances=2, queue_delay=500)
    assert (report.name, report.max_batch_size) == ("m", 16)
    assert report.folder == tmp_path / "repo" / "m"
    assert (report.folder / "1" / "model.onnx").read_bytes() == model.read_bytes()
    config, proto = parsed(report.folder)
    assert (config.name, config.platform, config.max_batch_size) == ("m", "onnxruntime_onnx", 16)
    assert [tensor(entry, proto) for entry in config.input] == [image]
    assert [tensor(entry, proto) for entry in config.output] == [result]
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, proto.ModelInstanceGroup.KIND_AUTO)
    (warmup,) = config.model_warmup
    dims = [3, 32, 32] if head == "logits" else [32, 32, 3]
    assert (warmup.batch_size, list(warmup.inputs["image"].dims)) == (1, dims)
    assert warmup.inputs["image"].zero_data
    assert config.parameters["classes"].string_value == ", ".join(CLASSES)


def test_scene_takes_one_picture_of_any_size(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("scene"))
    report = write_triton_repository(model, tmp_path / "repo", name="roads", device="cpu")
    config, proto = parsed(report.folder)
    assert (config.name, config.max_batch_size) == ("roads", 0)
    assert not config.HasField("dynamic_batching")
    assert tensor(config.input[0], proto) == ("image", "TYPE_UINT8", [1, -1, -1, 3])
    assert tensor(config.output[0], proto) == ("labels", "TYPE_UINT8", [1, -1, -1])
    assert config.instance_group[0].kind == proto.ModelInstanceGroup.KIND_CPU
    (warmup,) = config.model_warmup
    assert (warmup.batch_size, list(warmup.inputs["image"].dims)) == (1, [1, 32, 32, 3])


def test_an_engine_warms_up_every_profile(tmp_path: Path) -> None:
    plan = rtx_plan(version=(10, 9, 0, 3)).replace(b"vtrt", b"ftrt")
    sidecar = dataclasses.replace(
        make_sidecar(plan),
        flavor="tensorrt",
        library="tensorrt 10.9.0.3",
        builder=BuilderOptions(),
    )
    engine = tmp_path / "m.engine"
    write_engine(engine, plan, sidecar)
    report = write_triton_repository(engine, tmp_path / "repo", version=3)
    copied = read_engine_file(report.folder / "3" / "model.plan")
    assert copied.plan == plan
    config, proto = parsed(report.folder)
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 16)
    (group,) = config.instance_group
    assert (group.kind, list(group.profile)) == (proto.ModelInstanceGroup.KIND_GPU, ["0", "1"])
    shapes = [(w.batch_size, *w.inputs["image"].dims) for w in config.model_warmup]
    assert shapes == [(1, 64, 96, 3), (1, 320, 480, 3), (4, 320, 480, 3)]
    assert PROFILES[1].opt == (4, 320, 480)
    text = "--device: an engine runs on a GPU only, got cpu; give the ONNX file instead"
    with refusal(ValueError, text):
        write_triton_repository(engine, tmp_path / "repo", name="cpu", device="cpu")


def test_a_fixed_batch_is_left_as_it_is(tmp_path: Path) -> None:
    shapes = ShapeRange(min=(4, 64, 64), opt=(4, 64, 64), max=(4, 64, 64))
    spec = dataclasses.replace(make_spec("labels"), shapes=shapes)
    model = write_model(tmp_path / "m.onnx", spec, dims=(4, 64, 64))
    config, proto = parsed(write_triton_repository(model, tmp_path / "repo").folder)
    assert config.max_batch_size == 0
    assert tensor(config.input[0], proto) == ("image", "TYPE_UINT8", [4, 64, 64, 3])
    assert list(config.model_warmup[0].inputs["image"].dims) == [4, 64, 64, 3]


def test_names_of_classes_are_quoted(tmp_path: Path) -> None:
    classes = ('a "b"', "c\\d", "weg, rand", "straße")
    spec = dataclasses.replace(make_spec("labels"), classes=classes)
    model = write_model(tmp_path / "m.onnx", spec)
    config, _ = parsed(write_triton_repository(model, tmp_path / "repo").folder)
    assert config.parameters["classes"].string_value == ", ".join(classes)


def test_what_is_refused(tmp_path: Path) -> None:
    engine, plan = tmp_path / "m.engine", rtx_plan()
    write_engine(engine, plan, make_sidecar(plan))
    text = (
        f"{engine}: Triton runs engines of ordinary TensorRT only, got one of "
        "tensorrt_rtx 1.7.1.116; give the ONNX file that it was built from, m.onnx"
    )
    with refusal(ArtifactError, text):
        write_triton_repository(engine, tmp_path / "repo")
    model, repo = write_model(tmp_path / "m.onnx", make_spec("labels")), tmp_path / "repo"
    rule = "--name: a model's name must be letters, digits, '.', '_' and '-'"
    with refusal(ValueError, f"{rule}, got '../m'; give a plainer one"):
        write_triton_repository(model, repo, name="../m")
    text = f"--instances: must be 1..{2**31 - 1}, got 0; pass a value from 1 to {2**31 - 1}"
    with refusal(ValueError, text):
        write_triton_repository(model, repo, instances=0)
    assert not repo.exists()
    write_triton_repository(model, repo)
    text = (
        f"-o: must not hold this version yet, got {repo}/m/1; "
        "remove it, or add a version with --version 2"
    )
    with refusal(ValueError, text):
        write_triton_repository(model, repo)
    write_triton_repository(model, repo, version=2)
    assert sorted(path.name for path in (repo / "m").iterdir()) == ["1", "2", "config.pbtxt"]


def test_scores_are_not_for_clients(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("scores"))
    text = (
        f"{model}: clients of a server need labels or logits, got head scores, whose last layer "
        "fcnkit's runtime computes; export it again with --head labels or --head scene"
    )
    with refusal(ArtifactError, text):
        write_triton_repository(model, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()
