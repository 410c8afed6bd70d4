"""Building engines with TensorRT-RTX, which needs no GPU for it, and what is refused before."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from fcnkit.errors import ArtifactError, FcnkitError, MissingExtraError
from fcnkit.export.engine import build_engine
from fcnkit.export.engine_config import set_capabilities
from fcnkit.export.engine_profiles import ProfileRequest, parse_profile
from fcnkit.runtime.artifacts.engine_file import BuilderOptions, read_engine_file, sidecar_path
from fcnkit.runtime.artifacts.spec import ShapeRange
from fcnkit.runtime.backends import tensorrt_library
from fcnkit.runtime.backends.registry import BACKENDS
from tests.refusal import refusal
from tests.runtime.models import make_layer, make_spec, write_model

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
LIBRARY = f"tensorrt_rtx {trt.__version__}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model with head ``labels``, alone in a folder."""
    return write_model(tmp_path / "m.onnx", make_spec("labels"))


def build(model: Path, **options: Any) -> Any:
    return build_engine(model, model.with_name("m.engine"), flavor="tensorrt-rtx", **options)


@pytest.mark.parametrize("head", ["logits", "labels", "scene"])
def test_builds_without_a_gpu(head: str, exported: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "m.engine"
    asked = [ProfileRequest(max=(1, 512, 512))]
    report = build_engine(exported[head], out, flavor="tensorrt-rtx", profiles=asked)
    assert out.stat().st_size == report.bytes > 1_000_000
    convolutions = [n for n in onnx.load(exported[head]).graph.node if n.op_type == "Conv"]
    assert report.precision == f"fp32 in {len(convolutions)} layers"
    engine = read_engine_file(out)
    assert engine.spec.head == head
    assert engine.spec.shapes.max == (1, 512, 512)
    assert engine.spec.source.sha256 == hashlib.sha256(exported[head].read_bytes()).hexdigest()
    assert (engine.flavor, engine.library, report.library) == ("tensorrt-rtx", LIBRARY, LIBRARY)
    assert engine.profiles == report.profiles
    assert engine.sidecar["onnx"]["name"] == f"{head}.onnx"
    assert engine.sidecar["plan"]["bytes"] == report.bytes


def test_the_last_layer_lies_beside_the_engine(tmp_path: Path, caplog: Any) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("scores"))
    with caplog.at_level(logging.WARNING):
        build(model)
    # The parser says nothing of weights that no node reads.
    assert not [record for record in caplog.records if "last_layer" in record.getMessage()]
    engine, beside = tmp_path / "m.engine", tmp_path / "m.engine.last_layer"
    layer = make_layer()
    assert beside.read_bytes() == layer.weight.tobytes() + layer.bias.tobytes()
    assert read_engine_file(engine).spec.last_layer == layer.described()
    again = f"build it again: {read_engine_file(engine).rebuild}"
    beside.write_bytes(b"x" + beside.read_bytes()[1:])
    text = (
        f"{beside}: must hold the weights of the last layer that its spec describes, got others; "
        f"copy it along, or {again}"
    )
    with refusal(ArtifactError, text):
        read_engine_file(engine)
    beside.unlink()
    text = (
        f"{engine}: the weights of its last layer, m.engine.last_layer, must lie beside it, "
        f"got no such file; copy it along, or {again}"
    )
    with refusal(ArtifactError, text):
        read_engine_file(engine)
    # An engine without one takes the file of the engine before away.
    beside.write_bytes(b"old")
    build(write_model(tmp_path / "m.onnx", make_spec("labels")))
    assert not beside.exists()
    assert read_engine_file(engine).spec.head == "labels"


def test_without_a_gpu_it_says_that_nothing_was_run(model: Path) -> None:
    report = build(model)
    if report.check.verified is not None:
        pytest.skip("this machine has a GPU")
    assert (report.check.inspected, report.check.verified) == (None, None)
    assert "CUDA" in report.check.reason
    assert read_engine_file(model.with_name("m.engine")).sidecar["verified"] is None


def test_an_engine_is_built_where_torch_is_not_installed(model: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'torchvision']))\n"
        "from pathlib import Path\n"
        "from fcnkit.export.engine import build_engine\n"
        "model = Path(sys.argv[1])\n"
        "build_engine(model, model.with_name('m.engine'), flavor='tensorrt-rtx')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert read_engine_file(model.with_name("m.engine")).spec.head == "labels"


def test_several_profiles_and_options(model: Path) -> None:
    asked = [parse_profile("1x32x32,1x64x96,1x128x128"), parse_profile("2x64x32,4x64x64,8x96x96")]
    options = BuilderOptions(
        workspace_mib=512, optimization_level=1, compute_capability=("8.9", "12.0")
    )
    report = build(model, profiles=asked, options=options)
    assert report.compute_capability == ("8.9", "12.0")
    engine = read_engine_file(model.with_name("m.engine"))
    assert engine.profiles == report.profiles
    assert engine.profiles[1] == ShapeRange(min=(2, 64, 32), opt=(4, 64, 64), max=(8, 96, 96))
    shapes = engine.spec.shapes
    assert shapes == ShapeRange(min=(1, 32, 32), opt=(1, 64, 96), max=(8, 128, 128))
    source = engine.path.with_name("m.onnx")
    assert engine.rebuild == (
        f"fcnkit export engine {source} -o {engine.path} --flavor tensorrt-rtx "
        "--profile 1x32x32,1x64x96,1x128x128 --profile 2x64x32,4x64x64,8x96x96 "
        "--workspace 512 --optimization-level 1 --compute-capability 8.9 --compute-capability 12.0"
    )


def test_the_builder_reports_its_progress(model: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    build(model, advance=lambda *call: calls.append(call))
    assert calls[0] == ("Building engine", 0, 100)
    assert calls[-1] == ("Building engine", 100, 100)
    done = [call[1] for call in calls]
    assert done == sorted(set(done))
    assert len(done) > 5


def test_what_the_callback_raises_stops_the_build(model: Path) -> None:
    def stop(_stage: str, done: int, _total: int | None) -> None:
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(model, advance=stop)
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


def test_the_library_writes_through_python_logging(
    model: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, logger="fcnkit.tensorrt"):
        build(model)
    assert {record.name for record in caplog.records} == {"fcnkit.tensorrt"}
    assert any(record.levelno == logging.INFO for record in caplog.records)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (
            ProfileRequest(min=(1, 33, 32)),
            "--min: sides must be multiples of 32, got 1x33x32; use 1x64x32",
        ),
        (
            ProfileRequest(max=(1, 512, 500)),
            "--max: sides must be multiples of 32, got 1x512x500; use 1x512x512",
        ),
        (
            ProfileRequest(max=(99, 512, 512)),
            "--max: must lie within 1x32x32 to 16x2048x2048, got 99x512x512; "
            "the ONNX file takes no other shapes",
        ),
        (
            ProfileRequest(min=(1, 64, 64), opt=(1, 32, 64)),
            "--min --opt --max: must be ordered min <= opt <= max in every dimension, "
            "got 1x64x64 1x32x64 16x1024x1024; reorder them",
        ),
        (
            parse_profile("1x32x32,1x320x480,1x512x500"),
            "--profile 1x32x32,1x320x480,1x512x500: sides must be multiples of 32, "
            "got 1x512x500; use 1x512x512",
        ),
    ],
)
def test_bad_profiles_are_refused_before_anything_is_built(
    asked: ProfileRequest, text: str, model: Path
) -> None:
    with refusal(ValueError, text):
        build(model, profiles=[asked])
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "1x32x32,1x64x64",
            "--profile: a profile is written MIN,OPT,MAX, got '1x32x32,1x64x64'; "
            "write 1x32x32,1x320x480,4x512x512",
        ),
        (
            "1x32x32,64x64,1x64x64",
            "--profile: a shape is written NxHxW, got '64x64'; write 8x320x480",
        ),
    ],
)
def test_a_profile_that_is_none(text: str, error: str) -> None:
    with refusal(ValueError, error):
        parse_profile(text)


CAPABILITIES = "7.5, 8.0, 8.6, 8.9, 12.0, 12.1, current"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            BuilderOptions(version_compatible=True),
            "--version-compatible: is for --flavor tensorrt only, got the option; leave it out, "
            "a TensorRT-RTX engine runs in the version that built it only",
        ),
        (
            BuilderOptions(hardware_compatibility="same"),
            "--hardware-compatibility: is for --flavor tensorrt only, got same; "
            "name the GPU generations with --compute-capability",
        ),
        (
            BuilderOptions(hardware_compatibility="all"),
            "--hardware-compatibility: must be one of ampere+, same, got all; choose one of these",
        ),
        (
            BuilderOptions(compute_capability=("8.9", "9.0")),
            f"--compute-capability: {LIBRARY} builds for {CAPABILITIES}, got 9.0; "
            "choose among these",
        ),
        (
            BuilderOptions(compute_capability=("current", "8.9")),
            "--compute-capability: current must stand alone, got current 8.9; "
            "name the generations, or that one only",
        ),
        (
            BuilderOptions(compute_capability=("8.9", "current")),
            "--compute-capability: current must stand alone, got 8.9 current; "
            "name the generations, or that one only",
        ),
        (
            BuilderOptions(workspace_mib=0),
            "--workspace: must be at least 1 MiB, got 0; leave it out",
        ),
        (
            BuilderOptions(optimization_level=6),
            "--optimization-level: must be 0 to 5, got 6; the default is 3",
        ),
    ],
)
def test_options_that_this_flavor_would_ignore(
    options: BuilderOptions, text: str, model: Path
) -> None:
    with refusal(ValueError, text):
        build(model, options=options)
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"profiles": ["1x32x32"]},
            "profiles: must be of type ProfileRequest, got one of type str",
        ),
        (
            {"options": {"workspace_mib": 1}},
            "options: must be of type BuilderOptions, got one of type dict",
        ),
    ],
)
def test_arguments_of_another_type(wrong: dict[str, Any], text: str, model: Path) -> None:
    with refusal(TypeError, f"build_engine: {text}; pass one"):
        build_engine(model, model.with_suffix(".engine"), **wrong)
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


def test_a_flavor_that_there_is_not(model: Path) -> None:
    rule = "must be one of auto, tensorrt, tensorrt-rtx"
    with refusal(ValueError, f"--flavor: {rule}, got rtx; choose one of these"):
        build_engine(model, model.with_suffix(".engine"), flavor="rtx")  # type: ignore[arg-type]
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


def test_a_compute_capability_that_the_library_does_not_take() -> None:
    """It says so by False alone, and would build for others."""

    class Refusing:
        num_compute_capabilities = 0

        def set_compute_capability(self, _member: Any, index: int) -> bool:
            return index == 0

    real = trt.Builder(tensorrt_library.logger_of(trt)).create_builder_config()
    real.num_compute_capabilities = 1
    assert real.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
    assert not real.set_compute_capability(trt.ComputeCapability.NONE, 0)
    options = BuilderOptions(compute_capability=("8.9", "12.0"))
    text = (
        "--compute-capability: the library must take it, got 12.0; choose another, or leave it out"
    )
    with refusal(ValueError, text):
        set_capabilities(trt, Refusing(), options)


def test_a_timing_cache_is_not_for_tensorrt_rtx(model: Path, tmp_path: Path) -> None:
    text = (
        "--timing-cache: is for --flavor tensorrt only, got times.bin; leave it out, it would "
        "change nothing there and make the build need a GPU"
    )
    with refusal(ValueError, text):
        build(model, timing_cache=Path("times.bin"))


def test_too_little_memory_quotes_the_library(exported: dict[str, Path], tmp_path: Path) -> None:
    asked = [ProfileRequest(max=(8, 512, 512))]
    options = BuilderOptions(workspace_mib=1)
    out = tmp_path / "m.engine"
    with pytest.raises(FcnkitError) as caught:
        build_engine(
            exported["labels"], out, flavor="tensorrt-rtx", profiles=asked, options=options
        )
    begin = f"{exported['labels']}: {LIBRARY} must build an engine, got "
    assert str(caught.value).startswith(begin)
    assert str(caught.value).endswith("; change the options or the profiles")
    assert "OutOfMemory" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_the_library_cannot_parse(model: Path) -> None:
    graph = onnx.load(model)
    next(node for node in graph.graph.node if node.op_type == "Conv").op_type = "Unheard"
    onnx.save(graph, model)
    with pytest.raises(ArtifactError, match="must be able to parse the graph, got .*Unheard"):
        build(model)
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        pytest.param(
            {},
            "the ONNX file must hold a model spec (fcnkit.spec), got none; "
            "export the model with fcnkit export onnx",
            id="no spec",
        ),
        pytest.param(
            {"fcnkit.spec": make_spec("logits").to_json()},
            "the input must be image float32 (any, 3, any, any) as its spec says, "
            "got image uint8 (N, 32*h, 32*w, 3); export the model again with fcnkit export onnx",
            id="the spec of another head",
        ),
    ],
)
def test_a_file_without_its_spec(model: Path, metadata: dict[str, str], text: str) -> None:
    write_model(model, make_spec("labels"), metadata=metadata)
    with refusal(ArtifactError, f"{model}: {text}"):
        build(model)


def test_a_name_that_no_backend_would_take_for_an_engine(model: Path) -> None:
    out = model.with_name("m.trt")
    text = f"-o: must end in .engine or .plan, got {out}; name it model.engine"
    with refusal(ValueError, text):
        build_engine(model, out, flavor="tensorrt-rtx")


def test_a_missing_library_names_its_extra(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(BACKENDS["tensorrt"], module="tensorrt_that_is_not_there")
    monkeypatch.setitem(BACKENDS, "tensorrt", row)
    text = (
        "fcnkit export engine: needs the package tensorrt_that_is_not_there, got no such package; "
        "pip install 'fcnkit[tensorrt]'"
    )
    with refusal(MissingExtraError, text):
        build_engine(model, model.with_name("m.engine"), flavor="tensorrt")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def swap(path: Path) -> None:
    """Put the plan of another model there, as building into the same name without a sidecar."""
    other = path.with_name("other.engine")
    model = write_model(path.with_name("other.onnx"), make_spec("scene"))
    build_engine(model, other, flavor="tensorrt-rtx")
    other.replace(path)


def other_version(path: Path) -> None:
    """Change the version in the plan's header, as another version would write it."""
    plan = bytearray(path.read_bytes())
    plan[25] += 1
    path.write_bytes(bytes(plan))
    held = sidecar_path(path)
    facts = json.loads(held.read_text())
    facts["plan"]["sha256"] = hashlib.sha256(plan).hexdigest()
    held.write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        (
            truncate,
            "must be a whole plan of {size} bytes, got {half} bytes; copy the file again or",
        ),
        (swap, "must be the plan that m.engine.json describes, got another one;"),
        (other_version, "must be a plan of {library}, as m.engine.json says, got one of {other};"),
    ],
)
def test_a_fault_of_a_built_engine_is_caught(
    fault: Callable[[Path], None], rule: str, model: Path
) -> None:
    build(model, profiles=[parse_profile("1x32x32,1x32x32,4x64x64")])
    path = model.with_name("m.engine")
    size = path.stat().st_size
    major, minor, *rest = trt.__version__.split(".")
    other = ".".join(["tensorrt_rtx " + major, str(int(minor) + 1), *rest])
    fault(path)
    command = (
        f"fcnkit export engine {path.with_name('m.onnx')} -o {path} --flavor tensorrt-rtx "
        "--profile 1x32x32,1x32x32,4x64x64"
    )
    text = rule.format(size=size, half=size // 2, library=LIBRARY, other=other)
    with refusal(ArtifactError, f"{path}: {text} build it again: {command}"):
        read_engine_file(path)


@pytest.mark.gpu
@pytest.mark.tensorrt
def test_ordinary_tensorrt_builds_on_a_gpu(model: Path) -> None:
    pytest.importorskip("tensorrt", reason="ordinary TensorRT is not installed")
    times = model.with_name("times.bin")
    options = BuilderOptions(version_compatible=True, hardware_compatibility="same")
    try:
        report = build_engine(
            model,
            model.with_name("m.engine"),
            flavor="tensorrt",
            options=options,
            timing_cache=times,
        )
    except FcnkitError as error:
        pytest.skip(f"no GPU that TensorRT can build for: {error}")
    assert times.stat().st_size > 0
    assert report.check.verified is not None


@pytest.mark.gpu
def test_on_a_gpu_the_engine_is_run_against_the_onnx_file(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "m.engine"
    report = build_engine(exported["labels"], out, flavor="tensorrt-rtx")
    if report.check.inspected is None:
        pytest.skip(f"no GPU that TensorRT-RTX can run on: {report.check.reason}")
    assert report.check.reason is None
    assert report.check.verified == read_engine_file(out).sidecar["verified"]
