"""The table of backends against what it names: functions, extras, packages, the page about it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

import fcnkit
from fcnkit import runtime
from fcnkit.errors import BackendUnavailableError
from fcnkit.runtime import BackendRequest, open_backend
from fcnkit.runtime.artifacts.spec import Precision
from fcnkit.runtime.backends.registry import BACKENDS, BackendRow, auto_rows, rows_for
from tests.refusal import refusal
from tests.runtime.models import make_info, make_spec, write_model

ROOT = Path(__file__).parents[3]
ROWS = list(BACKENDS.values())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def package(requirement: str) -> str:
    found = re.match(r"[\w-]+", requirement)
    assert found
    return found.group()


@pytest.mark.parametrize("row", ROWS, ids=list(BACKENDS))
def test_a_row_names_functions_that_exist(row: BackendRow) -> None:
    if row.name == "torch":
        pytest.importorskip("torch")
    opener, prober = row.load(row.opener), row.load(row.prober)
    assert list(inspect.signature(opener).parameters) == ["path", "request"]
    assert list(inspect.signature(prober).parameters) == ["name"]


@pytest.mark.parametrize("row", ROWS, ids=list(BACKENDS))
def test_the_extra_of_a_row_installs_its_packages(row: BackendRow) -> None:
    installed = {package(one) for one in PROJECT["optional-dependencies"][row.extra]}
    assert set(row.packages) <= installed


@pytest.mark.parametrize("row", ROWS, ids=list(BACKENDS))
def test_the_page_has_a_line_for_every_row(row: BackendRow) -> None:
    page = (ROOT / "docs/backends.md").read_text("utf-8")
    kinds = {"onnx": "ONNX files", "engine": "engines", "checkpoint": "checkpoints"}
    devices = " or ".join(device.upper() for device in row.devices)
    line = f"| `{row.name}` | {kinds[row.runs]}, {devices} | `fcnkit[{row.extra}]` |"
    assert page.count(line) == 1


def test_every_kind_of_file_has_a_backend() -> None:
    for kind in ("onnx", "engine", "checkpoint"):
        assert rows_for(kind)
        assert all(row.runs == kind for row in rows_for(kind))
    # Without a name, the first row opens these files for all of them.
    for kind in ("engine", "checkpoint"):
        assert len({row.opener for row in rows_for(kind)}) == 1


@pytest.mark.parametrize(
    ("precision", "gpu", "names"),
    [
        ("fp32", False, ["onnxruntime", "openvino"]),
        ("fp16", False, ["onnxruntime", "openvino"]),
        ("int8", False, ["openvino", "onnxruntime"]),
        ("fp32", True, ["onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime", "openvino"]),
        ("fp16", True, ["onnxruntime-tensorrt", "onnxruntime-cuda", "onnxruntime", "openvino"]),
        ("int8", True, ["onnxruntime-tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime"]),
    ],
)
def test_the_order_of_auto(precision: Precision, gpu: bool, names: list[str]) -> None:
    assert [row.name for row in auto_rows(precision, gpu=gpu)] == names


@pytest.mark.parametrize(
    ("request_", "kind", "text"),
    [
        (
            {"backend": 1},
            TypeError,
            "open_backend: backend must be a name, got int; see fcnkit doctor",
        ),
        (
            {"options": [("A", "B")]},
            TypeError,
            "open_backend: options must be a mapping, got list; pass {'KEY': 'VALUE'}",
        ),
        (
            {"options": {"A": 1}},
            TypeError,
            "open_backend: options must map str to str, got {'A': 1}; pass {'KEY': 'VALUE'}",
        ),
        (
            {"spec_from": 1},
            TypeError,
            "open_backend: spec= must be a path, got int; pass the path of the ONNX file",
        ),
    ],
)
def test_a_request_is_checked_when_it_is_made(
    request_: dict[str, object], kind: type[Exception], text: str
) -> None:
    with refusal(kind, text):
        BackendRequest(**request_)  # type: ignore[arg-type]


def test_a_request_keeps_a_copy_of_the_options() -> None:
    options = {"A": "1"}
    request = BackendRequest(options=options)
    options["A"] = "2"
    assert request.options == {"A": "1"}
    with pytest.raises(FrozenInstanceError):
        request.backend = "torch"  # type: ignore[misc]


def test_details_are_the_plain_form_of_info() -> None:
    info = replace(
        make_info("gpu"),
        library="lib",
        version="1.2",
        device_name="cuda:0 L4",
        threads=3,
        precision="int8",
        chosen_because="it is fast",
        extra={"cuda_graphs": 8},
    )
    assert info.details == {
        "library": "lib 1.2",
        "provider": "cuda:0 L4",
        "threads": 3,
        "compute": "int8",
        "cuda_graphs": 8,
        "auto": "it is fast",
    }
    assert "auto" not in make_info().details


def test_the_device_is_known_without_reading_its_name(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    for row in rows_for("onnx"):
        try:
            opened = open_backend(path, backend=row.name, threads=1)
        except BackendUnavailableError:
            assert row.needs_gpu
            continue
        with opened:
            assert opened.info.device in row.devices
            assert opened.info.library == row.module


def test_there_is_one_load(tmp_path: Path) -> None:
    assert fcnkit.load is runtime.load
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    code = (
        "import sys, fcnkit\n"
        "fcnkit.load(sys.argv[1], backend='onnxruntime', threads=1).close()\n"
        "print([name for name in sys.modules if name.startswith(('torch', 'fcnkit.train'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
