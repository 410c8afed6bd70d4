"""``fcnkit export engine`` and ``fcnkit export triton`` as a shell sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.shell import called, refused
from tests.runtime.models import make_spec, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx", make_spec("labels"))


def test_an_engine_with_every_option_of_tensorrt_rtx(model: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    out = model.with_name("m.engine")
    options = (
        *("--flavor", "tensorrt-rtx", "--workspace", "512", "--optimization-level", "2"),
        *("--compute-capability", "8.9", "--compute-capability", "12.0"),
        *("--profile", "1x32x32,1x64x64,1x96x96", "--profile", "1x32x32,4x64x64,8x96x96"),
    )
    done = called("export", "engine", model, "-o", out, *options)
    assert done.returncode == 0, done.stderr
    first, *lines, last = done.stdout.splitlines()
    library = f"tensorrt_rtx {trt.__version__}"
    assert first.startswith(f"{out}: {library}, ")
    assert first.endswith(" MB, for GPUs of 8.9, 12.0")
    assert lines[:3] == [
        "profile, min opt max: 1x32x32 1x64x64 1x96x96",
        "profile, min opt max: 1x32x32 4x64x64 8x96x96",
        "the parsed network computes in: fp32 in 1 layer",
    ]
    told = ("the engine was built but not run, so it is not verified: ", "verified: ")
    assert last.startswith(told)
    assert done.stderr.splitlines()[0] == "Building engine: 0 of 100"
    assert done.stderr.splitlines()[-2] == "Building engine: 100 of 100"
    shown = json.loads(called("info", out, "--json").stdout)
    assert shown["library"] == library
    assert shown["builder"]["compute_capability"] == ["8.9", "12.0"]
    assert len(shown["profiles"]) == 2


def test_what_export_engine_refuses(model: Path) -> None:
    engine = ("export", "engine", model, "-o", model.with_name("m.engine"))
    refused(
        called(*engine, "--profile", "1x32x32,1x64x64,1x96x96", "--min", "1x32x32"),
        "--profile: stands in place of --min, --opt and --max, got also --min; "
        "write every range as --profile MIN,OPT,MAX",
    )
    refused(
        called(*engine, "--flavor", "tensorrt-rtx", "--timing-cache", "times.bin"),
        "--timing-cache: is for --flavor tensorrt only, got times.bin; leave it out, it would "
        "change nothing there and make the build need a GPU",
    )
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


def test_a_triton_repository(model: Path, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    done = called("export", "triton", model, "-o", repo, "--instances", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{repo}/m: model m, version 1, batches up to 16",
        f"serve it with tritonserver --model-repository {repo}",
    ]
    refused(
        called("export", "triton", model, "-o", repo, "--device", "tpu"),
        "--device: must be one of auto, cpu, gpu, got tpu; choose one of these",
    )
