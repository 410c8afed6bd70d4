"""The number of a GPU: which option it becomes, and who refuses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fcnkit.errors import BackendUnavailableError
from fcnkit.runtime import BackendRequest
from fcnkit.runtime.backends import opening
from fcnkit.runtime.backends.opening import check_device, open_model
from fcnkit.runtime.backends.registry import BACKENDS, BackendRow
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model

SUFFIX = {"onnx": ".onnx", "engine": ".engine", "checkpoint": ".pt"}
NO_GPU = (
    "open_backend: a device is the number of an NVIDIA GPU, got 3 on a machine without a driver; "
    "see fcnkit doctor"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx", make_spec("labels"))


@pytest.mark.parametrize("name", [row.name for row in BACKENDS.values() if "gpu" in row.devices])
def test_every_backend_with_a_gpu_gets_the_number(
    name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries themselves are not asked: no machine of the tests has a fourth GPU."""
    given: list[BackendRequest] = []

    def load(self: BackendRow, function: str) -> Any:
        def open_it(path: Path, request: BackendRequest) -> Any:
            given.append(request)
            raise BackendUnavailableError("not here")

        return open_it

    monkeypatch.setattr(BackendRow, "load", load)
    monkeypatch.setattr(opening, "has_driver", lambda: True)
    path = model if BACKENDS[name].runs == "onnx" else tmp_path / f"m{SUFFIX[BACKENDS[name].runs]}"
    path.touch()
    request = BackendRequest(backend=name, device=3)
    check_device(path, request)
    with refusal(BackendUnavailableError, "not here"):
        open_model(path, request)
    assert [dict(one.options) for one in given] == [
        {"device": "cuda:3"} if name == "torch" else {"device_id": "3"}
    ]
    key = next(iter(given[0].options))
    text = (
        f"open_backend: the option {key} is set by the device, got device 3 and {key}=0; "
        "give one of them"
    )
    twice = BackendRequest(backend=name, device=3, options={key: "0"})
    for refuse in (check_device, open_model):
        with refusal(ValueError, text):
            refuse(path, twice)


@pytest.mark.parametrize("name", [row.name for row in BACKENDS.values() if row.devices == ("cpu",)])
def test_backends_of_the_cpu_refuse_it(name: str, model: Path) -> None:
    text = f"open_backend: backend {name} runs on the CPU and takes no device, got 3; leave it out"
    for refuse in (check_device, open_model):
        with refusal(ValueError, text):
            refuse(model, BackendRequest(backend=name, device=3))


def test_a_machine_without_a_gpu_refuses_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "has_driver", lambda: False)
    for backend in ("auto", "onnxruntime-cuda"):
        for refuse in (check_device, open_model):
            with refusal(BackendUnavailableError, NO_GPU):
                refuse(model, BackendRequest(backend=backend, device=3))


@pytest.mark.parametrize(
    ("device", "kind", "text"),
    [
        (256, ValueError, "must be 0..255, got 256; pass a value from 0 to 255"),
        ("0", TypeError, "must be an integer, got str; pass an int"),
    ],
)
def test_a_device_is_a_small_number(device: Any, kind: type[Exception], text: str) -> None:
    with refusal(kind, f"open_backend: device: {text}"):
        BackendRequest(device=device)
