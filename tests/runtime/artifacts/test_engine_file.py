"""Engines are checked before a library sees them: sidecar, hash of the plan, plan header."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fcnkit.errors import ArtifactError, ModelWarning
from fcnkit.runtime.artifacts.engine_file import (
    BuilderOptions,
    check_installed,
    read_engine_file,
    sidecar_path,
)
from fcnkit.runtime.artifacts.engine_header import read_plan_header
from fcnkit.runtime.files import sha256_of
from tests.refusal import refusal
from tests.runtime.engines import PROFILES, make_sidecar, rtx_plan, write_engine
from tests.runtime.json_edit import edited_json
from tests.runtime.models import make_spec, write_model

LIBRARY = "tensorrt_rtx 1.7.1.116"


def rebuild(path: Path, onnx: str = "m.onnx") -> str:
    return (
        f"fcnkit export engine {onnx} -o {path} --flavor tensorrt-rtx "
        "--profile 1x32x32,1x64x96,2x128x128 --profile 1x32x32,4x320x480,16x2048x2048 "
        "--optimization-level 4 --compute-capability 8.9 --compute-capability 12.0"
    )


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "m.engine"
    plan = rtx_plan()
    write_engine(path, plan, make_sidecar(plan))
    return path


def change(engine: Path, key: str, value: Any) -> Path:
    """Set one key of the sidecar, written with dots; return the sidecar."""
    held = sidecar_path(engine)
    held.write_text(edited_json(held.read_text(), key, value))
    return held


def test_what_a_builder_leaves_is_read(engine: Path) -> None:
    found = read_engine_file(engine)
    assert found.path == engine
    assert found.plan == rtx_plan()
    assert found.spec == make_spec("labels")
    assert (found.flavor, found.library, found.profiles) == ("tensorrt-rtx", LIBRARY, PROFILES)
    assert found.sidecar == json.loads(sidecar_path(engine).read_text())
    assert found.rebuild == rebuild(engine)
    assert "plan=" not in repr(found)
    check_installed(found, LIBRARY)


def test_the_rebuild_command_names_every_option() -> None:
    options = BuilderOptions(
        workspace_mib=512, version_compatible=True, hardware_compatibility="ampere+"
    )
    assert options.arguments() == [
        "--workspace",
        "512",
        "--version-compatible",
        "--hardware-compatibility",
        "ampere+",
    ]


def test_a_shape_finds_its_profile(engine: Path) -> None:
    found = read_engine_file(engine)
    assert [found.profile_for(s) for s in ((1, 32, 32), (2, 128, 128), (3, 64, 64))] == [0, 0, 1]
    text = (
        f"{engine}: the engine takes NxHxW of 1x32x32 to 2x128x128 or 1x32x32 to 16x2048x2048, "
        f"got 17x64x64; build one with a profile for it: {rebuild(engine)} "
        "--profile 17x64x64,17x64x64,17x64x64"
    )
    with refusal(ValueError, text):
        found.profile_for((17, 64, 64))


def test_a_missing_engine(tmp_path: Path) -> None:
    for path, got in ((tmp_path / "m.engine", "no such file"), (tmp_path, "a folder")):
        with refusal(ArtifactError, f"{path}: must be an engine file, got {got}; check the path"):
            read_engine_file(path)


def test_a_missing_sidecar(engine: Path) -> None:
    sidecar_path(engine).unlink()
    text = (
        f"{engine}: its sidecar m.engine.json must lie beside it, got no such file; copy it along, "
        "name the ONNX file with --spec, or build it again: "
        f"fcnkit export engine MODEL.onnx -o {engine}"
    )
    with refusal(ArtifactError, text):
        read_engine_file(engine)


def test_without_a_sidecar_the_onnx_file_tells_the_spec(engine: Path, tmp_path: Path) -> None:
    sidecar_path(engine).unlink()
    model = write_model(tmp_path / "m.onnx", make_spec("scene"))
    found = read_engine_file(engine, spec_from=model)
    assert found.spec == make_spec("scene")
    assert (found.flavor, found.library, found.profiles) == ("tensorrt-rtx", LIBRARY, ())
    assert found.sidecar == {}
    assert found.rebuild == f"fcnkit export engine {model} -o {engine} --flavor tensorrt-rtx"
    check_installed(found, LIBRARY)


def test_beside_a_sidecar_the_onnx_file_must_be_the_same(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    engine, plan = tmp_path / "m.engine", rtx_plan()
    write_engine(engine, plan, make_sidecar(plan, onnx=sha256_of(model)))
    assert read_engine_file(engine, spec_from=model).spec == make_spec("labels")
    other = write_model(tmp_path / "other.onnx", make_spec("labels", low=(1, 64, 64)))
    text = (
        f"{engine}: must be built from {other}, got one built from another file, m.onnx; "
        f"build it again: {rebuild(engine).replace(' m.onnx ', f' {model} ')}"
    )
    with refusal(ArtifactError, text):
        read_engine_file(engine, spec_from=other)


@pytest.mark.parametrize(
    ("content", "got"), [("[1]", "[1]"), ('{"format": 2}', "2"), ('{"spec": {}}', "None")]
)
def test_a_sidecar_of_another_format(content: str, got: str, engine: Path) -> None:
    refused_sidecar(
        engine, content, f"format: this fcnkit reads engine sidecars of format 1, got {got}"
    )


def test_a_sidecar_that_is_not_json(engine: Path) -> None:
    quotes = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    refused_sidecar(engine, "{", f"must be JSON, got {quotes}")


def refused_sidecar(engine: Path, content: str, reason: str) -> None:
    held = sidecar_path(engine)
    held.write_text(content)
    remedy = f"build it again: fcnkit export engine MODEL.onnx -o {engine}"
    with refusal(ArtifactError, f"{held}: {reason}; {remedy}"):
        read_engine_file(engine)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("flavor", "vanilla", "key flavor: must be one of tensorrt, tensorrt-rtx, got vanilla"),
        ("plan.sha256", None, "key plan.sha256: must be there, got nothing"),
        ("spec.precision", "fp8", "key spec.precision: must be one of fp32, fp16, int8, got fp8"),
        ("builder.magic", 1, "key builder.magic: is not a key of this format, got 1"),
        ("profiles", [], "key profiles: must hold at least one, got none"),
        (
            "profiles",
            [{"min": [1, 33, 32], "opt": [1, 64, 64], "max": [1, 64, 64]}],
            "key profiles[0]: sides must be multiples of 32, got 1x33x32 1x64x64 1x64x64",
        ),
        (
            "profiles",
            [{"min": [1, 32, 32], "opt": [1, 64, 64], "max": [17, 64, 64]}],
            "key profiles[0]: must be ordered min <= opt <= max within the spec's shapes, "
            "got 1x32x32 1x64x64 17x64x64",
        ),
    ],
)
def test_a_wrong_key_of_the_sidecar(key: str, value: Any, text: str, engine: Path) -> None:
    held = change(engine, key, copy.deepcopy(value))
    remedy = f"build it again: fcnkit export engine MODEL.onnx -o {engine}"
    with refusal(ArtifactError, f"{held}: {text}; {remedy}"):
        read_engine_file(engine)


def test_the_sidecar_of_another_engine(engine: Path) -> None:
    engine.write_bytes(rtx_plan()[:-1] + b"\0")
    text = (
        f"{engine}: must be the plan that m.engine.json describes, got another one; "
        f"build it again: {rebuild(engine)}"
    )
    with refusal(ArtifactError, text):
        read_engine_file(engine)


def test_a_truncated_plan(engine: Path, tmp_path: Path) -> None:
    engine.write_bytes(rtx_plan()[:200])
    begin = f"{engine}: must be a whole plan of 256 bytes, got 200 bytes; copy the file again or "
    with refusal(ArtifactError, f"{begin}build it again: {rebuild(engine)}"):
        read_engine_file(engine)
    sidecar_path(engine).unlink()
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    command = f"fcnkit export engine {model} -o {engine}"
    with refusal(ArtifactError, f"{begin}build it again: {command}"):
        read_engine_file(engine, spec_from=model)


def test_a_file_that_is_no_plan(engine: Path) -> None:
    for junk in (b"ONNX" * 64, rtx_plan()[:63]):
        write_engine(engine, junk, make_sidecar(junk))
        text = (
            f"{engine}: must be a TensorRT plan, which begins with ftrt, or with vtrt for "
            f"TensorRT-RTX, got a file of {len(junk)} bytes that begins with {junk[:4]!r}; "
            f"build it again: {rebuild(engine)}"
        )
        with refusal(ArtifactError, text):
            read_engine_file(engine)


def test_a_plan_of_another_version_than_its_sidecar_says(engine: Path) -> None:
    plan = rtx_plan(version=(1, 6, 0, 7))
    write_engine(engine, plan, make_sidecar(plan))
    text = (
        f"{engine}: must be a plan of {LIBRARY}, as m.engine.json says, got one of "
        f"tensorrt_rtx 1.6.0.7; build it again: {rebuild(engine)}"
    )
    with refusal(ArtifactError, text):
        read_engine_file(engine)


@pytest.mark.parametrize("library", ["tensorrt_rtx 1.6.1.116", "tensorrt 1.7.1.116"])
def test_another_version_is_installed(library: str, engine: Path) -> None:
    text = (
        f"{engine}: was built by {LIBRARY} and runs in that version only, got {library}; "
        f"install that version or build it again: {rebuild(engine)}"
    )
    with refusal(ArtifactError, text):
        check_installed(read_engine_file(engine), library)


def test_a_version_compatible_engine_runs_in_later_minor_versions(engine: Path) -> None:
    plan = rtx_plan().replace(b"vtrt", b"ftrt").replace(bytes((1, 7, 1, 116)), bytes((10, 9, 0, 3)))
    sidecar = dataclasses.replace(
        make_sidecar(plan),
        flavor="tensorrt",
        library="tensorrt 10.9.0.3",
        builder=BuilderOptions(version_compatible=True),
    )
    write_engine(engine, plan, sidecar)
    found = read_engine_file(engine)
    for version in ("10.9.0.3", "10.9.1.0", "10.12.0.0"):
        check_installed(found, f"tensorrt {version}")
    for version in ("10.8.0.3", "11.0.0.0"):
        with pytest.raises(ArtifactError, match="was built by tensorrt 10.9.0.3 and runs"):
            check_installed(found, f"tensorrt {version}")


def test_another_version_in_the_header_of_ordinary_tensorrt_is_a_warning(
    engine: Path,
) -> None:
    """Where later versions write theirs is not known, and the hash has told which plan it is."""
    plan = rtx_plan().replace(b"vtrt", b"ftrt").replace(bytes((1, 7, 1, 116)), bytes((0, 0, 7, 3)))
    sidecar = dataclasses.replace(
        make_sidecar(plan), flavor="tensorrt", library="tensorrt 11.4.0.106"
    )
    write_engine(engine, plan, sidecar)
    with pytest.warns(ModelWarning) as caught:
        found = read_engine_file(engine)
    assert (found.flavor, found.library) == ("tensorrt", "tensorrt 11.4.0.106")
    assert [str(one.message) for one in caught] == [
        f"{engine}: must be a plan of tensorrt 11.4.0.106, as m.engine.json says, got one of "
        f"tensorrt 0.0.7.3; build it again: {found.rebuild}"
    ]


def test_the_header_tells_the_gpu_generations() -> None:
    header = read_plan_header(rtx_plan(), where="m", rebuild="")
    assert (header.flavor, header.version, header.bytes) == ("tensorrt-rtx", "1.7.1.116", 256)
    assert header.compute_capability == ("8.9", "12.0")
